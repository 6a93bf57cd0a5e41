"""Batches from a TFRecord file: of similar length on CPU and GPU, of one fixed shape on TPU.

Letters: B batch, T tokens.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.pipeline.features import parse

# Lengths are rounded up to a multiple of this, so that few shapes of batches exist.
LENGTH_STEP = 16
# Examples are sorted by length within windows of so many batches (an epoch where that is less).
BATCHES_A_WINDOW = 50
SHUFFLE_AT_MOST = 1_000_000


def training_batches(path, spec, count, batch_size, max_seq_length, seed, skip=0, fixed=False):
    """Shuffled batches without end; the same seed gives the same order.

    Each epoch is shuffled anew. Batches hold examples of similar length: windows of the shuffled
    stream are sorted, cut into batches, and the batches are shuffled again.

    Args:
      path: TFRecord file.
      spec: tuple of features.Feature.
      count: examples in the file.
      batch_size: B.
      max_seq_length: the most tokens of an example.
      seed: int.
      skip: batches to leave out at the start, those that an interrupted run has seen.
      fixed: batches of T = max_seq_length, not grouped by length.

    Returns:
      tf.data.Dataset of {name: [B, T] or [B]} with input_mask added.
    """
    rows = tf.data.TFRecordDataset(path).shuffle(
        min(count, SHUFFLE_AT_MOST), seed=seed, reshuffle_each_iteration=True).repeat()
    rows = rows.map(lambda record: parse(spec, record), deterministic=True, num_parallel_calls=2)
    if fixed:
        batches = fixed_batches(rows, batch_size, max_seq_length)
    else:
        batches = grouped_batches(rows, count, batch_size, max_seq_length).shuffle(
            BATCHES_A_WINDOW, seed=seed + 1)
    return batches.skip(skip).prefetch(4)


def evaluation_batches(path, spec, count, batch_size, max_seq_length, fixed=False):
    """Every example once; `index` tells its place in the file.

    With `fixed`, the last batch is filled with rows of index -1.

    Args and Returns as for `training_batches`.
    """
    rows = tf.data.TFRecordDataset(path).map(lambda record: parse(spec, record))
    if not fixed:
        return grouped_batches(rows, count, batch_size, max_seq_length).prefetch(4)
    filler = rows.take(1).map(lambda row: {**row, "index": tf.constant(-1, tf.int64)})
    rows = rows.concatenate(filler.repeat(-count % batch_size))
    return fixed_batches(rows, batch_size, max_seq_length).prefetch(4)


def grouped_batches(rows, count, batch_size, max_seq_length):
    """Batches of similar length; T is the longest row's, rounded up to LENGTH_STEP."""
    def by_length(window):
        order = tf.argsort(window["input_ids"].row_lengths(), stable=True)
        return {name: tf.gather(column, order) for name, column in window.items()}

    def pad(batch):
        longest = tf.reduce_max(batch["input_ids"].row_lengths())
        tokens = -(-longest // LENGTH_STEP) * LENGTH_STEP
        return padded(batch, tf.stack([-1, tf.minimum(tokens, max_seq_length)]))

    windows = rows.ragged_batch(min(count, batch_size * BATCHES_A_WINDOW)).map(by_length)
    return windows.unbatch().ragged_batch(batch_size).map(pad)


def fixed_batches(rows, batch_size, max_seq_length):
    """Batches of the static shape [B, max_seq_length]; a last short batch is left out."""
    batches = rows.ragged_batch(batch_size, drop_remainder=True)
    return batches.map(lambda batch: padded(batch, [batch_size, max_seq_length]))


def padded(batch, shape):
    """Rows of their own lengths as int32 tensors of `shape` [B, T], with input_mask."""
    columns = {**batch, "input_mask": tf.ones_like(batch["input_ids"])}
    return {name: narrow(column.to_tensor(shape=shape)
                         if isinstance(column, tf.RaggedTensor) else column)
            for name, column in columns.items()}


def narrow(column):
    """int64 as int32, which is what TPUs take; other types as they are."""
    return tf.cast(column, tf.int32) if column.dtype == tf.int64 else column
