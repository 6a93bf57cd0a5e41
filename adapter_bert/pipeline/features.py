"""Examples to word-piece ids, and the one description of a record that writes and parses it."""
import functools
import itertools
import struct
from typing import NamedTuple

import tensorflow.compat.v1 as tf

# Texts are tokenized together, up to so many, or fewer where they are long: memory stays bounded.
TEXTS_AT_ONCE, CHARACTERS_AT_ONCE = 4096, 4_000_000


class Feature(NamedTuple):
    """One column of a record: its name, its type, and whether it has a value for every token."""

    name: str
    dtype: tf.DType
    per_token: bool


def feature_spec(kind, labelled):
    """The features of a record.

    Args:
      kind: "classification" (label_ids int64) or "regression" (label_ids float32).
      labelled: whether the records have labels.

    Returns:
      Tuple of Feature: input_ids and segment_ids of a length of their own, `index`, the
      example's 0-based place in its file, and label_ids.
    """
    label = Feature("label_ids", tf.float32 if kind == "regression" else tf.int64, False)
    return (Feature("input_ids", tf.int64, True), Feature("segment_ids", tf.int64, True),
            Feature("index", tf.int64, False)) + ((label,) if labelled else ())


def serialize(spec, row):
    """A dict {feature name: number or list of numbers} as a serialized tf.train.Example.

    The bytes are those of the protocol buffer, written here because building the message takes most
    of the time of making a file of records.
    """
    entries = b"".join([_entry(feature, row[feature.name]) for feature in spec])
    return b"\x0a" + _varint(len(entries)) + entries


def _entry(feature, values):
    """An entry of the map `features`: the name, field 1, and the tf.train.Feature, field 2.

    The Feature's float_list is field 2 and its int64_list 3; the packed values are their field 1.
    """
    values = values if feature.per_token else [values]
    if feature.dtype == tf.float32:
        kind, packed = b"\x12", struct.pack(f"<{len(values)}f", *values)
    else:
        kind, packed = b"\x1a", b"".join(map(_varint, values))
    numbers = b"\x0a" + _varint(len(packed)) + packed
    content = kind + _varint(len(numbers)) + numbers
    name = feature.name.encode()
    entry = b"\x0a" + _varint(len(name)) + name + b"\x12" + _varint(len(content)) + content
    return b"\x0a" + _varint(len(entry)) + entry


@functools.lru_cache(maxsize=1 << 17)
def _varint(value):
    """A number from 0 to 2^63 - 1 in groups of seven bits, the lowest first."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def parse(spec, serialized):
    """A scalar string tensor as {feature name: tensor of shape [T] or []}."""
    columns = {
        feature.name: tf.io.FixedLenSequenceFeature([], feature.dtype, allow_missing=True)
        if feature.per_token else tf.io.FixedLenFeature([], feature.dtype) for feature in spec}
    return tf.io.parse_single_example(serialized, columns)


def featurize(examples, tokenizer, max_seq_length, label_index, first=0):
    """Records of examples: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, segments 0 and 1.

    Args:
      examples: iterable of tasks.Example.
      tokenizer: tokenization.FullTokenizer.
      max_seq_length: the most word pieces of a record, [CLS] and [SEP] among them.
      label_index: {label: id} of a classification, None where the label is a number.
      first: `index` of the first example.

    Yields:
      Dicts for `serialize`; label_ids is left out where the example has no label.
    """
    cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    index = itertools.count(first)
    for chunk in chunks(examples):
        firsts = tokenizer.encode_batch([example.text_a for example in chunk])
        seconds = tokenizer.encode_batch([example.text_b or "" for example in chunk])
        for example, first, second in zip(chunk, firsts, seconds, strict=True):
            pair = None if example.text_b is None else second
            row = join(first, pair, cls, sep, max_seq_length)
            if example.label is not None:
                row["label_ids"] = label_index[example.label] if label_index else example.label
            yield {**row, "index": next(index)}


def chunks(examples):
    """Examples in lists of at most TEXTS_AT_ONCE and about CHARACTERS_AT_ONCE."""
    chunk, characters = [], 0
    for example in examples:
        chunk.append(example)
        characters += len(example.text_a) + len(example.text_b or "")
        if len(chunk) == TEXTS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def join(first, second, cls, sep, max_seq_length):
    """The ids and segment ids of one text, or of a pair; `second` is None for one text."""
    if second is None:
        first = first[:max_seq_length - 2]
        return {"input_ids": [cls, *first, sep], "segment_ids": [0] * (len(first) + 2)}
    first, second = truncate_pair(first, second, max_seq_length - 3)
    return {"input_ids": [cls, *first, sep, *second, sep],
            "segment_ids": [0] * (len(first) + 2) + [1] * (len(second) + 1)}


def truncate_pair(first, second, limit):
    """Cuts the ends so that both have at most `limit` ids together, the longer side first.

    The result is that of taking one id at a time from the longer side, from `second` when even.
    """
    kept = min(len(first), max(limit - len(second), (limit + 1) // 2))
    return first[:kept], second[:limit - kept]
