"""Rows of records, and these as serialized tf.train.Examples, written without TensorFlow.

The bytes are those of the protocol buffer, since building the messages takes most of the time of
making a file of records. Letters: R rows.
"""
import functools
import itertools
import operator
from typing import Any, NamedTuple

import numpy as np

# Numbers of at most so many bits are looked up in a table of their varints.
_TABLE_BITS = 21


class Feature(NamedTuple):
    """One column of a record: its name, its type, and how many values a row has of it.

    dtype: np.int64 or np.float32, or TensorFlow's type of that name.
    per_token: whether it has a value for every token.
    length: values of every row, where these are not the tokens; None: a single one.
    """

    name: str
    dtype: Any
    per_token: bool
    length: int | None = None


class Rows(NamedTuple):
    """Records of some examples, column by column.

    lengths: int64 [R], the tokens of each row.
    columns: {feature name: array}, [tokens] of one row after the other where the feature has a
      value for every token, [R, length] where it has a length, else [R].
    cut: of how many rows a text did not fit and was cut.
    """

    lengths: np.ndarray
    columns: dict[str, np.ndarray]
    cut: int = 0


def serialize(spec, rows):
    """Rows as serialized tf.train.Examples, a list of bytes."""
    entries = itertools.chain.from_iterable(_entries(feature, rows) for feature in spec)
    parts = []
    for of_one_size, group in itertools.groupby(entries, lambda part: isinstance(part, np.ndarray)):
        some = list(group)
        parts += [_cut(np.concatenate(some, axis=1))] if of_one_size else some
    contents = list(map(b"".join, zip(*parts, strict=True)))
    sizes = np.fromiter(map(len, contents), np.int64, len(contents))
    return list(map(operator.add, each(sizes, _record_head), contents))


def _entries(feature, rows):
    """The bytes that stand for a feature in each row, in parts to be put one after the other.

    A part is uint8 [R, bytes] where all rows have as many bytes of it, else a list of bytes.
    """
    values = rows.columns[feature.name]
    count, is_float = len(rows.lengths), feature.dtype == np.float32
    head = functools.partial(_head, feature.name, is_float)
    if not feature.per_token and (is_float or values.max(initial=0) < 128):
        packed = np.ascontiguousarray(values, "<f4" if is_float else np.uint8)
        packed = packed.view(np.uint8).reshape(count, packed.nbytes // max(1, count))
        start = np.frombuffer(head(packed.shape[1]), np.uint8)
        return [np.broadcast_to(start, [count, len(start)]), packed]
    lengths = rows.lengths if feature.per_token else np.full(count, feature.length or 1)
    if not is_float and not values.any():   # zeros of so many tokens
        return [each(lengths, lambda length: head(length) + bytes(length))]
    packed, ends = (_floats if is_float else _varints)(values.reshape(-1))
    ends = np.concatenate([[0], ends])[np.cumsum(lengths)]
    contents = [packed[start:end] for start, end in itertools.pairwise([0, *ends.tolist()])]
    return [each(np.diff(ends, prepend=0), head), contents]


def _cut(matrix):
    """The rows of uint8 [R, bytes] as a list of bytes."""
    return np.ascontiguousarray(matrix).view(f"V{matrix.shape[1]}").reshape(-1).tolist()


def _record_head(size):
    """What stands before the entries of a record: field 1, the message of all features."""
    return b"\x0a" + _varint(size)


def each(numbers, function):
    """[function(number), ...] of small numbers, computed once for each."""
    known = np.empty(numbers.max(initial=0) + 1, object)
    for number in np.flatnonzero(np.bincount(numbers)):
        known[number] = function(int(number))
    return known[numbers].tolist()


@functools.lru_cache(maxsize=1 << 16)
def _head(name, is_float, size):
    """What stands before `size` bytes of packed values: field 1 of the message of all features,
    with the name, field 1, and the tf.train.Feature, field 2, in which the float_list is field 2
    and the int64_list 3, and in either the values field 1."""
    key = b"\x0a" + _varint(len(name.encode())) + name.encode()
    numbers = b"\x0a" + _varint(size)
    kind = b"\x12" if is_float else b"\x1a"
    content = kind + _varint(len(numbers) + size) + numbers
    feature = b"\x12" + _varint(len(content) + size) + content
    return b"\x0a" + _varint(len(key) + len(feature) + size) + key + feature


def _floats(values):
    """Numbers as float32, and where each one ends."""
    return np.asarray(values, "<f4").tobytes(), 4 * np.arange(1, len(values) + 1)


def _varints(values):
    """Numbers from 0 to 2^63 - 1 in groups of seven bits, the lowest first, and where each ends."""
    bits = int(values.max(initial=0)).bit_length()
    if bits <= 7:
        return values.astype(np.uint8).tobytes(), np.arange(1, len(values) + 1)
    groups, sizes = _looked_up(values, bits) if bits <= _TABLE_BITS else _groups(values)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    written = np.empty(ends[-1] + 1, np.uint8)
    written[starts + 1] = groups[:, 1]   # what has one group only is written over
    written[starts] = groups[:, 0]
    for place in range(2, -(-bits // 7)):
        long = np.flatnonzero(sizes > place)
        written[starts[long] + place] = groups[long, place]
    return written[:-1].tobytes(), ends


def _groups(values):
    """Groups of seven bits with their mark that more follow, uint8 [values, groups], four at least,
    and how many groups each number has, int64 [values]."""
    shifts = range(0, max(28, int(values.max()).bit_length()), 7)
    groups = np.empty([len(values), len(shifts)], np.uint8)
    sizes = np.ones(len(values), np.int64)
    for place, shift in enumerate(shifts):
        goes_on = values >> shift > 127
        groups[:, place] = values >> shift & 127 | goes_on.astype(np.uint8) << 7
        sizes += goes_on
    return groups, sizes


def _looked_up(values, bits):
    """As `_groups`, for numbers of so many bits."""
    words, sizes = _table(bits)
    return words.take(values).view(np.uint8).reshape(-1, 4), sizes.take(values)


@functools.lru_cache
def _table(bits):
    """Four groups, as uint32, and how many there are, of all numbers of so many bits."""
    groups, sizes = _groups(np.arange(1 << bits))
    return groups.view(np.uint32)[:, 0], sizes


@functools.lru_cache(maxsize=1 << 16)
def _varint(value):
    return _varints(np.array([value]))[0]
