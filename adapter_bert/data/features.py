"""Examples to word-piece ids, and the one description of a record that writes and parses it."""
import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert.bert.tokenization import ragged_positions
from adapter_bert.data.example_codec import Feature, Rows
from adapter_bert.data.truncation import truncate_pairs

# Texts are tokenized together, up to so many, or fewer where they are long: memory stays bounded.
TEXTS_AT_ONCE, CHARACTERS_AT_ONCE = 4096, 4_000_000

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


def parse(spec, serialized):
    """A scalar string tensor as {feature name: tensor of shape [T], [length] or []}."""
    columns = {
        feature.name: tf.io.FixedLenSequenceFeature([], feature.dtype, allow_missing=True)
        if feature.per_token else tf.io.FixedLenFeature(
            [] if feature.length is None else [feature.length], feature.dtype) for feature in spec}
    return tf.io.parse_single_example(serialized, columns)


def featurize(examples, tokenizer, max_seq_length, label_index, first=0):
    """Records of examples: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, segments 0 and 1.

    Args:
      examples: list of kinds.Example, all with a label or none.
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
    """The count of characters of a kinds.Example."""
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
    cut = int(((first < firsts[1]) | (second < seconds[1])).sum())
    return Rows(lengths, {"input_ids": ids, "segment_ids": segments}, cut)
