"""Batches of masked texts from many TFRecord files, in an order that can be taken up anywhere.

Letters: B batch, T tokens, P predictions.
"""
import functools
import sys

import tensorflow.compat.v1 as tf

from adapter_bert.data import batches, masked_files
from adapter_bert.data.batches import as_it_is
from adapter_bert.data.masked_files import NEXT, PREDICTIONS, dtypes, widths

READERS = 16   # places of the files that are read side by side
BUFFER = 1 << 18   # bytes that a reader holds


def training_batches(found, form, batch_size, seed, skip=0, fixed=False, shard=(0, 1)):
    """Shuffled batches without end; the same seed gives the same order.

    Records come from READERS places of the files in turn, see `stream`. The stream is cut into
    windows of batches.BATCHES_A_WINDOW batches at most, a window is shuffled and, unless `fixed`,
    sorted by length, cut into batches, and these are shuffled. No more than a window is held.

    Args:
      found: masked_files.MaskedFiles.
      form: masked_files.Form.
      batch_size: B.
      seed: int.
      skip: batches to leave out at the start, those that an interrupted run has seen.
      fixed: batches of T = max_seq_length and P = max_predictions_per_seq, not grouped by length.
      shard: this reader's number and the count of readers, who share the records.

    Returns:
      tf.data.Dataset of {name: [B, T], [B, P] or [B]}; T and P are those of the longest row.
    """
    reader, readers = shard
    window = batches.window_size(found.examples // readers, batch_size)   # in batches
    first = skip // window
    records = stream(found, first * window * batch_size * readers, seed).shard(readers, reader)

    def arrange(number, rows):
        seeds = tf.stack([tf.constant(seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(window * batch_size), seeds)
        if not fixed:
            lengths = tf.gather(rows["input_ids"].row_lengths(), order)
            order = tf.gather(order, tf.argsort(lengths, stable=True))
            order = tf.random.experimental.stateless_shuffle(
                tf.reshape(order, [window, batch_size]), seeds)
        return batches.take(rows, tf.reshape(order, [-1]))

    windows = parsed(records, form).ragged_batch(window * batch_size).enumerate(first)
    rows = windows.map(as_it_is(arrange)).unbatch()
    made = batched(rows, form, batch_size, fixed)
    return batches.prefetched(made.skip(skip - first * window))


def evaluation_batches(found, form, batch_size, fixed=False):
    """The first found.examples records once, grouped by length; `index` tells a record's place.

    With `fixed`, the last batch is filled with rows of index -1.

    Args and Returns as for `training_batches`.
    """
    records = tf.data.TFRecordDataset(list(found.paths)).take(found.examples)
    rows = parsed(records, form).enumerate().map(
        as_it_is(lambda index, row: {**row, "index": index}))
    if fixed:
        rows = batches.filled(rows, found.examples, batch_size)
    else:
        rows = batches.in_windows_by_length(rows, batch_size)
    return batches.prefetched(batched(rows, form, batch_size, fixed))


def batched(rows, form, batch_size, fixed):
    """Rows in their order as batches, see `training_batches`."""
    if fixed:
        pad = functools.partial(padded, [batch_size, form.max_predictions_per_seq])
        return batches.fixed_batches(rows, batch_size, form.max_seq_length, pad)
    return batches.grouped_batches(rows, batch_size, functools.partial(padded, None))


def padded(shape_of_predictions, rows, shape):
    """batches.padded, with predictions padded to a shape [B, P] of their own; None: as they are."""
    tokens = {name: column for name, column in rows.items() if name not in PREDICTIONS}
    predictions = {name: rows[name] for name in PREDICTIONS}
    return {**batches.padded(tokens, shape), **batches.dense(predictions, shape_of_predictions)}


def parsed(records, form):
    """A dataset of serialized records as one of rows without padding."""
    kinds = dtypes()
    spec = {name: tf.io.FixedLenFeature([width], kinds[name])
            for name, width in widths(form).items()}

    def parse(record):
        row = tf.io.parse_single_example(record, spec)
        length = tf.reduce_sum(row["input_mask"])
        is_there = row["masked_lm_weights"] > 0
        return {"input_ids": row["input_ids"][:length], "segment_ids": row["segment_ids"][:length],
                **{name: tf.boolean_mask(row[name], is_there) for name in PREDICTIONS},
                NEXT: row[NEXT][0]}
    return records.map(as_it_is(parse))


def stream(found, skip, seed):
    """Records without end, every one once an epoch; each epoch is in another order.

    The files, in a random order and begun at a random place, are one sequence, which is cut into
    READERS equal sections. The sections are read side by side, a record of each in turn. So where
    each of them stands after so many records can be computed, and is sought, not read up to.

    Args:
      found: masked_files.MaskedFiles; of its files all records are read.
      skip: records to leave out at the start.
      seed: int.

    Returns:
      tf.data.Dataset of string [].
    """
    total = sum(found.counts)
    first, start = divmod(skip, total)

    def epoch(number):
        pieces = pieces_of(found, tf.stack([tf.constant(seed, tf.int64), number]))
        done = tf.where(tf.equal(number, first), tf.constant(start, tf.int64), 0)
        turns = (tf.range(READERS, dtype=tf.int64) + done) % READERS

        def section(reader):
            some = part(pieces, *bounds(reader, done, total))
            return tf.data.Dataset.from_tensor_slices(some).flat_map(
                as_it_is(functools.partial(read, found)))
        return tf.data.Dataset.from_tensor_slices(turns).interleave(
            as_it_is(section), cycle_length=READERS, block_length=1)

    return tf.data.Dataset.range(first, sys.maxsize).flat_map(as_it_is(epoch))


def pieces_of(found, seeds):
    """The sequence of an epoch: (file, first record, count) of each piece, int64 [n].

    The files in a random order; of the first one a random part is left for the end.
    """
    order = tf.random.experimental.stateless_shuffle(
        tf.range(len(found.paths), dtype=tf.int64), seeds)
    counts = tf.gather(tf.constant(found.counts, tf.int64), order)
    begin = tf.random.stateless_uniform([1], seeds, 0, counts[0], tf.int64)
    return (tf.concat([order, order[:1]], axis=0),
            tf.concat([begin, tf.zeros_like(counts)], axis=0),
            tf.concat([counts[:1] - begin, counts[1:], begin], axis=0))


def bounds(reader, done, total):
    """Where in an epoch's sequence a reader goes on and where it ends, when `done` were read."""
    each, more = total // READERS, total % READERS
    begin = reader * each + tf.minimum(reader, more)
    end = begin + each + tf.cast(reader < more, tf.int64)
    return begin + (done - reader + READERS - 1) // READERS, end


def part(pieces, begin, end):
    """What of pieces lies between two places of their sequence, as pieces."""
    numbers, firsts, counts = pieces
    ends = tf.cumsum(counts)
    starts = tf.maximum(ends - counts, begin)
    lengths = tf.minimum(ends, end) - starts
    firsts = firsts + starts - (ends - counts)
    return tuple(tf.boolean_mask(column, lengths > 0) for column in (numbers, firsts, lengths))


def read(found, number, first, count):
    """The records of a piece of the file of that number."""
    parts = tf.ragged.constant(found.offsets, dtype=tf.int64)
    offset = parts[number][first // masked_files.RECORDS_AT_ONCE]
    path = tf.constant(found.paths)[number]
    records = tf.data.experimental.from_variant(tf.raw_ops.TFRecordDatasetV2(
        filenames=path[None], compression_type="", buffer_size=BUFFER, byte_offsets=offset[None]),
        tf.TensorSpec([], tf.string))
    return records.skip(first % masked_files.RECORDS_AT_ONCE).take(count)
