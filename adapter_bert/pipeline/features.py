"""Examples to word-piece ids, and the one description of a record that writes and parses it."""
import functools
import itertools
import operator
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tokenization import ragged_positions

# Texts are tokenized together, up to so many, or fewer where they are long: memory stays bounded.
TEXTS_AT_ONCE, CHARACTERS_AT_ONCE = 4096, 4_000_000


class Feature(NamedTuple):
    """One column of a record: its name, its type, and whether it has a value for every token."""

    name: str
    dtype: tf.DType
    per_token: bool


# What the records of a kind of task have beside ids, and their labels.
_FEATURES = {"spans": (Feature("doc_start", tf.int64, False),),
             "tokens": (Feature("word_starts", tf.int64, True),)}
_LABELS = {"classification": (Feature("label_ids", tf.int64, False),),
           "regression": (Feature("label_ids", tf.float32, False),),
           "spans": (Feature("start_positions", tf.int64, False),
                     Feature("end_positions", tf.int64, False)),
           "tokens": (Feature("label_ids", tf.int64, True),)}


def feature_spec(kind, labelled):
    """The features of a record.

    Args:
      kind: "classification" (label_ids int64), "regression" (label_ids float32), "spans"
        (start_positions and end_positions int64; `doc_start`, the piece of its context with which
        the window begins) or "tokens" (word_starts, and label_ids int64 for every token).
      labelled: whether the records have labels.

    Returns:
      Tuple of Feature: input_ids and segment_ids of a length of their own, `index`, the
      example's 0-based place in its file, what the kind has, and the labels.
    """
    return (Feature("input_ids", tf.int64, True), Feature("segment_ids", tf.int64, True),
            Feature("index", tf.int64, False), *_FEATURES.get(kind, ()),
            *(_LABELS[kind] if labelled else ()))


class Rows(NamedTuple):
    """Records of some examples, column by column.

    lengths: int64 [rows], the tokens of each row.
    columns: {feature name: array}, [tokens] of one row after the other where the feature has a
      value for every token, else [rows].
    """

    lengths: np.ndarray
    columns: dict[str, np.ndarray]


def serialize(spec, rows):
    """Rows as serialized tf.train.Examples, a list of bytes.

    The bytes are those of the protocol buffer, written here because building the messages takes
    most of the time of making a file of records.
    """
    once = np.ones_like(rows.lengths)
    parts = [part for feature in spec for part in _entries(
        feature, rows.columns[feature.name], rows.lengths if feature.per_token else once)]
    contents = list(map(b"".join, zip(*parts, strict=True)))
    sizes = np.fromiter(map(len, contents), np.int64, len(contents))
    return list(map(operator.add, _each(sizes, _record_head), contents))


def _entries(feature, values, lengths):
    """An entry of the map `features` for each row, as lists of bytes to be put together."""
    head = functools.partial(_head, feature.name.encode(), feature.dtype)
    if feature.dtype != tf.float32 and not values.any():   # zeros of so many tokens
        return [_each(lengths, lambda length: head(length) + bytes(length))]
    if feature.dtype != tf.float32 and not feature.per_token and values.max() < 128:
        return [_each(values, lambda value: head(1) + bytes([value]))]
    packed, ends = (_floats if feature.dtype == tf.float32 else _varints)(values)
    ends = np.concatenate([[0], ends])[np.cumsum(lengths)]
    contents = [packed[start:end] for start, end in itertools.pairwise([0, *ends.tolist()])]
    return [_each(np.diff(ends, prepend=0), head), contents]


def _record_head(size):
    """What stands before the entries of a record: field 1, the message of all features."""
    return b"\x0a" + _varint(size)


def _each(numbers, function):
    """[function(number), ...] of small numbers, computed once for each."""
    known = np.empty(numbers.max(initial=0) + 1, object)
    for number in np.flatnonzero(np.bincount(numbers)):
        known[number] = function(int(number))
    return known[numbers].tolist()


def _head(name, dtype, size):
    """What stands before `size` bytes of packed values: field 1 of the message of all features,
    with the name, field 1, and the tf.train.Feature, field 2, in which the float_list is field 2
    and the int64_list 3, and in either the values field 1."""
    key = b"\x0a" + _varint(len(name)) + name
    numbers = b"\x0a" + _varint(size)
    kind = b"\x12" if dtype == tf.float32 else b"\x1a"
    content = kind + _varint(len(numbers) + size) + numbers
    feature = b"\x12" + _varint(len(content) + size) + content
    return b"\x0a" + _varint(len(key) + len(feature) + size) + key + feature


def _floats(values):
    """Numbers as float32, and where each one ends."""
    return np.asarray(values, "<f4").tobytes(), 4 * np.arange(1, len(values) + 1)


def _varints(values):
    """Numbers from 0 to 2^63 - 1 in groups of seven bits, the lowest first, and where each ends."""
    values = np.asarray(values)
    if values.max(initial=0) < 128:
        return values.astype(np.uint8).tobytes(), np.arange(1, len(values) + 1)
    shifts = range(0, int(values.max()).bit_length(), 7)
    packed = np.empty([len(values), len(shifts)], np.uint8)
    is_there = np.ones([len(values), len(shifts) + 1], bool)    # of each number, group by group
    for place, shift in enumerate(shifts):
        is_there[:, place + 1] = goes_on = values >> shift > 127
        packed[:, place] = values >> shift & 127 | goes_on.astype(np.uint8) << 7
    is_there = is_there[:, :-1]
    return packed[is_there].tobytes(), np.cumsum(is_there.sum(axis=1))


@functools.lru_cache(maxsize=1 << 16)
def _varint(value):
    return _varints([value])[0]


def parse(spec, serialized):
    """A scalar string tensor as {feature name: tensor of shape [T] or []}."""
    columns = {
        feature.name: tf.io.FixedLenSequenceFeature([], feature.dtype, allow_missing=True)
        if feature.per_token else tf.io.FixedLenFeature([], feature.dtype) for feature in spec}
    return tf.io.parse_single_example(serialized, columns)


def featurize(examples, tokenizer, max_seq_length, label_index, first=0):
    """Records of examples: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, segments 0 and 1.

    Args:
      examples: list of tasks.Example, all with a label or none.
      tokenizer: tokenization.FullTokenizer.
      max_seq_length: the most word pieces of a record, [CLS] and [SEP] among them.
      label_index: {label: id} of a classification, None where the label is a number.
      first: `index` of the first example.

    Yields:
      Rows; without the column label_ids where the examples have no label.
    """
    cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    for chunk in chunks(examples, characters):
        is_pair = np.array([example.text_b is not None for example in chunk])
        firsts = tokenizer.encode_ragged([example.text_a for example in chunk])
        seconds = tokenizer.encode_ragged(
            [example.text_b or "" for example in chunk] if is_pair.any() else [])
        rows = join(firsts, seconds, is_pair, cls, sep, max_seq_length)
        rows.columns["index"] = np.arange(first, first + len(chunk))
        first += len(chunk)
        if chunk[0].label is not None:
            rows.columns["label_ids"] = np.array(
                [label_index[row.label] if label_index else row.label for row in chunk])
        yield rows


def characters(example):
    """The count of characters of a tasks.Example."""
    return len(example.text_a) + len(example.text_b or "")


def chunks(examples, size):
    """A list of examples in lists of at most TEXTS_AT_ONCE and CHARACTERS_AT_ONCE, or of one.

    `size` is a function of an example: its count of characters.
    """
    for start in range(0, len(examples), TEXTS_AT_ONCE):
        yield from in_characters(examples[start:start + TEXTS_AT_ONCE], size)


def in_characters(examples, size):
    """Examples in halves, and these in halves, until each list is bounded."""
    if sum(map(size, examples)) <= CHARACTERS_AT_ONCE or len(examples) == 1:
        yield examples
        return
    middle = len(examples) // 2
    yield from in_characters(examples[:middle], size)
    yield from in_characters(examples[middle:], size)


def join(firsts, seconds, is_pair, cls, sep, max_seq_length):
    """Rows of ids and segment ids of texts and pairs of texts.

    Args:
      firsts, seconds: (ids int32 [tokens], lengths int64 [rows]) of one text after the other; no
        seconds at all where no row is a pair.
      is_pair: bool [rows], whether there is a second text.
      cls, sep: int ids.
      max_seq_length: the most ids of a row.
    """
    if not is_pair.any():
        seconds = np.zeros(0, np.int32), np.zeros_like(firsts[1])
    first, second = truncate_pairs(firsts[1], seconds[1], max_seq_length - 2 - is_pair)
    head, tail = first + 2, np.where(is_pair, second + 1, 0)   # tokens of segments 0 and 1
    lengths = head + tail
    starts = np.cumsum(lengths) - lengths
    ids = np.full(lengths.sum(), sep, np.int32)
    ids[starts] = cls
    for (source, available), kept, place in ((firsts, first, starts + 1),
                                             (seconds, second, starts + head)):
        begins = np.cumsum(available) - available
        ids[ragged_positions(place, kept)] = source[ragged_positions(begins, kept)]
    segments = np.zeros_like(ids)
    segments[ragged_positions(starts + head, tail)] = 1
    return Rows(lengths, {"input_ids": ids, "segment_ids": segments})


def truncate_pairs(first, second, limit):
    """How many ids of each side stay so that both have at most `limit`: the longer side is cut.

    The result is that of taking one id at a time from the longer side, from `second` when even.
    All are int [rows].
    """
    kept = np.minimum(first, np.maximum(limit - second, (limit + 1) // 2))
    return kept, np.minimum(second, limit - kept)
