"""TFRecord files of masked texts, as BERT's create_pretraining_data.py writes them: found, checked.

A record holds a pair of texts, padded to fixed lengths, with the word pieces behind its masks.
Every record is checked before the first is learned from; what was found is kept for the next start.
"""
import contextlib
import hashlib
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import fields, files, paths
from adapter_bert.data.batches import prefetched
from adapter_bert.errors import InputError, reason_of

RECORDS_AT_ONCE = 1024   # that are checked together; where each such part begins is kept
FRAME = 16   # bytes of a TFRecord file around a record
TOKENS = ("input_ids", "input_mask", "segment_ids")
PREDICTIONS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
NEXT = "next_sentence_labels"
_WRITE_AGAIN = "write it again with create_pretraining_data.py"


class Form(NamedTuple):
    """What records must fit: the flags of their lengths, and the sizes of the base."""

    max_seq_length: int
    max_predictions_per_seq: int
    vocab_size: int
    type_vocab_size: int


class MaskedFiles(NamedTuple):
    """Files of one Form that were checked.

    counts: records of each file.
    offsets: of each file where its records 0, RECORDS_AT_ONCE, ... begin, in bytes.
    examples: how many of all the records are read, the first ones.
    fingerprint: hex digest of the files' bytes.
    """

    paths: tuple[str, ...]
    counts: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    examples: int
    fingerprint: str
    is_labelled: bool = True


def open_files(flag, patterns, form, known_path, most=None):
    """The files that patterns stand for, after every record was checked.

    Args:
      flag: name of the flag that `patterns` comes from, for messages.
      patterns: paths or globs, with commas between them.
      form: Form.
      known_path: JSON file of what was found at an earlier start; a file of the same bytes is not
        checked again.
      most: records to read; None for all.

    Returns:
      MaskedFiles.

    Raises:
      InputError: no file, an empty or damaged one, or a record that does not fit.
    """
    found, known = find(flag, patterns), _known(known_path, form)
    digests = {path: files.sha256(path) for path in found}
    new = [path for path in found if known.get(path, {}).get("sha256") != digests[path]]
    if new:
        logging.info("%s: checking %d files, %.1f MB", flag, len(new),
                     sum(map(paths.size, new)) / 1e6)
    for path in new:
        known[path] = {**survey(path, form), "sha256": digests[path]}
    files.write_json(known_path, {"form": [*form, RECORDS_AT_ONCE], "files": known})
    counts = tuple(known[path]["count"] for path in found)
    offsets = tuple(tuple(known[path]["offsets"]) for path in found)
    digest = hashlib.sha256("".join(digests.values()).encode())
    examples = min(sum(counts), most or sum(counts))
    logging.info("%s: %s records in %d files", flag, f"{sum(counts):,}", len(found))
    return MaskedFiles(tuple(found), counts, offsets, examples, digest.hexdigest())


def find(flag, patterns):
    """The paths that patterns stand for, sorted; what describes a file of theirs is left out.

    Raises:
      InputError: no pattern, or one that stands for no file.
    """
    found = set()
    for pattern in fields.listed(patterns):
        if not paths.is_known(pattern):
            raise InputError(f"--{flag}={pattern}: TensorFlow knows no such file system here")
        matching = [pattern] if paths.exists(pattern) else paths.matching(pattern)
        matching = [path for path in matching if not paths.is_folder(path)]
        if not matching:
            raise InputError(f"--{flag}={pattern}: no file is there; name TFRecord files that "
                             "create_pretraining_data.py wrote")
        found.update(matching)
    if not found:
        raise InputError(f"--{flag}={patterns}: names no file; name TFRecord files that "
                         "create_pretraining_data.py wrote")
    return sorted(path for path in found
                  if not (path.endswith(".json") and path.removesuffix(".json") in found))


def survey(path, form):
    """{"count", "offsets"} of a file, see MaskedFiles.

    Raises:
      InputError: it has no record, is damaged, or a record does not fit the form.
    """
    count, offsets = 0, [0]
    try:
        for columns, sizes in read_columns(path):
            refuse_misfits(path, columns, form, count)
            count += len(sizes)
            offsets.append(offsets[-1] + int(sizes.sum()) + FRAME * len(sizes))
    except tf.errors.OpError as error:
        raise InputError(f"{path}: damaged, or not of masked texts, after its first {count:,} "
                         f"records ({reason_of(error)}); {_WRITE_AGAIN}") from error
    if not count:
        raise InputError(f"{path}: holds no record; remove it, or {_WRITE_AGAIN}")
    return {"count": count, "offsets": offsets[:-1]}


def read_columns(path):
    """Yields {name: (values, row splits)} and the sizes in bytes of RECORDS_AT_ONCE records."""
    spec = {name: tf.io.RaggedFeature(dtype) for name, dtype in dtypes().items()}
    with tf.Graph().as_default(), tf.Session() as session:
        records = tf.data.TFRecordDataset(path).batch(RECORDS_AT_ONCE)
        columns = records.map(lambda batch: (tf.io.parse_example(batch, spec),
                                             tf.strings.length(batch)))
        following = tf.data.make_one_shot_iterator(prefetched(columns, 2)).get_next()
        with contextlib.suppress(tf.errors.OutOfRangeError):
            while True:
                found, sizes = session.run(following)
                yield {name: (value.values, value.row_splits)
                       for name, value in found.items()}, sizes


def dtypes():
    """{name of a feature: its type}."""
    return {name: tf.float32 if name == "masked_lm_weights" else tf.int64
            for name in (*TOKENS, *PREDICTIONS, NEXT)}


def widths(form):
    """{name of a feature: how many values a record has}."""
    return {**dict.fromkeys(TOKENS, form.max_seq_length),
            **dict.fromkeys(PREDICTIONS, form.max_predictions_per_seq), NEXT: 1}


def refuse_misfits(path, columns, form, first):
    """InputError where a record does not fit, with its number in the file, counted from 0.

    Args:
      path: of the file, for the message.
      columns: {name: (values, row splits)}.
      form: Form.
      first: number of the first of these records.
    """
    advice = {**dict.fromkeys(TOKENS, "give the --max_seq_length that it was written with"),
              **dict.fromkeys(PREDICTIONS, "give the --max_predictions_per_seq that it was written "
                                           "with"), NEXT: _WRITE_AGAIN}
    for name, width in widths(form).items():
        lengths = np.diff(columns[name][1])
        for place in np.flatnonzero(lengths != width)[:1]:
            raise InputError(f"{path}, record {first + place}: {name} has {lengths[place]} values, "
                             f"not {width}; {advice[name]}")
    arrays = {name: columns[name][0].reshape(-1, width) for name, width in widths(form).items()}
    for words, is_wrong in misfits(arrays, form):
        for place in np.flatnonzero(is_wrong.any(axis=1))[:1]:
            raise InputError(f"{path}, record {first + place}: {words}; {_WRITE_AGAIN} for this "
                             "base")


def misfits(arrays, form):
    """Yields (words, bool [records, any]) for each thing that may be wrong with a record.

    Args:
      arrays: {name: array [records, width]}.
      form: Form.
    """
    mask, weights = arrays["input_mask"], arrays["masked_lm_weights"]
    lengths = mask.sum(axis=1, keepdims=True)
    limits = {"input_ids": form.vocab_size, "masked_lm_ids": form.vocab_size,
              "segment_ids": form.type_vocab_size, NEXT: 2}
    for name, limit in limits.items():
        yield f"{name} not from 0 to {limit - 1}", (arrays[name] < 0) | (arrays[name] >= limit)
    yield "input_mask not ones, then zeros", mask != (np.arange(mask.shape[1]) < lengths)
    yield "no tokens", lengths < 1
    yield "masked_lm_weights not numbers from 0", ~((weights >= 0) & np.isfinite(weights))
    positions = arrays["masked_lm_positions"]
    yield "masked_lm_positions where no token is", (weights > 0) & (
        (positions < 0) | (positions >= lengths))


def _known(path, form):
    """{path of a file: what was found} of an earlier start with records of this form."""
    with contextlib.suppress(InputError):
        found = files.read_object(path, "form", "files")
        if found["form"] == [*form, RECORDS_AT_ONCE]:
            return found["files"]
    return {}
