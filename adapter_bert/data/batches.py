"""Batches from a TFRecord file: of similar length on CPU and GPU, of one fixed shape on TPU.

Letters: B batch, T tokens.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.data.features import parse

# Examples are sorted by length within windows of at most so many batches.
BATCHES_A_WINDOW = 50
SHUFFLE_AT_MOST = 1_000_000
# These functions hold no Python control flow over tensors; converting them leaves files in /tmp.
as_it_is = tf.autograph.experimental.do_not_convert


def training_batches(path, spec, count, batch_size, max_seq_length, seed, skip=0, fixed=False,
                     shard=(0, 1)):
    """Shuffled batches without end; the same seed gives the same order.

    Each epoch is shuffled anew. Batches hold examples of similar length: the shuffled stream is cut
    into windows that together make an epoch, a window is sorted and cut into batches, and these
    are shuffled. An epoch's batches hold every example once, but for the last count % batch_size,
    which open the next epoch.

    Args:
      path: TFRecord file.
      spec: tuple of messages.Feature.
      count: examples in the file.
      batch_size: B.
      max_seq_length: T where `fixed`.
      seed: int.
      skip: batches to leave out at the start, those that an interrupted run has seen.
      fixed: batches of T = max_seq_length, not grouped by length.
      shard: this reader's number and the count of readers, who share the file's examples.

    Returns:
      tf.data.Dataset of {name: [B, T] or [B]} with input_mask added.
    """
    window = 1 if fixed else window_size(count, batch_size)            # in batches
    first = skip // window
    reader, readers = shard
    records = shuffled(tf.data.TFRecordDataset(path).shard(readers, reader), count, seed)
    rows = parsed(records.skip(first * window * batch_size), spec)
    if fixed:
        return prefetched(fixed_batches(rows, batch_size, max_seq_length))

    def arrange(number, rows_of_window):
        order = tf.reshape(by_length(rows_of_window), [window, batch_size])
        order = tf.random.experimental.stateless_shuffle(
            order, tf.stack([tf.constant(seed, tf.int64), number]))
        return take(rows_of_window, tf.reshape(order, [-1]))

    rows = rows.ragged_batch(window * batch_size).enumerate(first).map(as_it_is(arrange)).unbatch()
    batches = grouped_batches(rows, batch_size)
    return prefetched(batches.skip(skip - first * window))


def batches_of_tokens(path, spec, count, batch_size, tokens, seed, skip=0):
    """Shuffled batches without end of as many examples of like length as have `tokens` word pieces.

    As `training_batches`, but that a window's sorted rows are cut where the sum of their lengths
    passes a multiple of `tokens`: a batch has less than `tokens` and its longest row, padding not
    counted.

    Args:
      path, spec, count, seed, skip: as for `training_batches`.
      batch_size: examples of a batch in the mean.
      tokens: of a batch, without its padding, about.

    Returns:
      As `training_batches`.
    """
    window = window_size(count, batch_size) * batch_size               # in rows
    records = shuffled(tf.data.TFRecordDataset(path), count, seed)

    def cut(number, rows):
        lengths = rows["input_ids"].row_lengths()
        order = tf.argsort(lengths, stable=True)
        batch_of = (tf.cumsum(tf.gather(lengths, order)) - 1) // tokens
        turns = tf.random.experimental.stateless_shuffle(
            tf.range(batch_of[-1] + 1), tf.stack([tf.constant(seed, tf.int64), number]))

        def batch(turn):
            return padded(take(rows, tf.boolean_mask(order, tf.equal(batch_of, turn))), None)
        return tf.data.Dataset.from_tensor_slices(turns).map(as_it_is(batch))

    batches = parsed(records, spec).ragged_batch(window).enumerate().flat_map(as_it_is(cut))
    return prefetched(batches.skip(skip))


def share(batches, reader, readers):
    """The rows of each batch that are one of several readers' own; together they have them all.

    A batch of like lengths so becomes batches of like lengths, the same whoever reads.

    Args:
      batches: tf.data.Dataset of {name: [B, ...]}.
      reader, readers: this one's number, and the count of them.
    """
    if readers == 1:
        return batches
    return prefetched(batches.map(as_it_is(lambda batch: {
        name: column[reader::readers] for name, column in batch.items()})))


def prefetched(batches, count=4):
    """Batches of which `count` are made ahead.

    tf.data tunes nothing: there is nothing left to it here, and a session that ends would have to
    wait for its tuning thread, which sleeps for longer and longer, up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(count).with_options(options)


def shuffled(records, count, seed):
    """Records without end, each epoch shuffled anew."""
    return records.shuffle(min(count, SHUFFLE_AT_MOST), seed=seed,
                           reshuffle_each_iteration=True).repeat()


def window_size(count, batch_size):
    """Batches of a window: an epoch is cut into equal windows of at most BATCHES_A_WINDOW."""
    batches_an_epoch = max(1, count // batch_size)
    windows = -(-batches_an_epoch // BATCHES_A_WINDOW)
    return max(1, batches_an_epoch // windows)


def evaluation_batches(path, spec, count, batch_size, max_seq_length, fixed=False):
    """Every example once, grouped by length; `index` tells its place in the file.

    With `fixed`, rows are in the order of the file and the last batch is filled with rows of
    index -1.

    Args and Returns as for `training_batches`.
    """
    rows = parsed(tf.data.TFRecordDataset(path), spec)
    if not fixed:
        rows = in_windows_by_length(rows, batch_size)
        return prefetched(grouped_batches(rows, batch_size))
    return prefetched(fixed_batches(filled(rows, count, batch_size), batch_size, max_seq_length))


def in_windows_by_length(rows, batch_size):
    """Rows, each window of which is sorted by length."""
    windows = rows.ragged_batch(BATCHES_A_WINDOW * batch_size)
    return windows.map(as_it_is(lambda window: take(window, by_length(window)))).unbatch()


def filled(rows, count, batch_size):
    """So many rows and then some of index -1, to make whole batches."""
    filler = rows.take(1).map(as_it_is(lambda row: {**row, "index": tf.constant(-1, tf.int64)}))
    return rows.concatenate(filler.repeat(-count % batch_size))


def parsed(records, spec):
    """A dataset of serialized records as one of rows."""
    return records.map(as_it_is(lambda record: parse(spec, record)))


def by_length(rows):
    """The order of ragged rows from the shortest to the longest: int32 [count]."""
    return tf.argsort(rows["input_ids"].row_lengths(), stable=True)


def take(rows, order):
    """The rows in another order."""
    return {name: tf.gather(column, order) for name, column in rows.items()}


def padded(batch, shape):
    """Rows of their own lengths as int32 tensors [B, T], see `dense`, with input_mask."""
    return dense({**batch, "input_mask": tf.ones_like(batch["input_ids"])}, shape)


def grouped_batches(rows, batch_size, pad=padded):
    """Rows in their order as batches; T is the longest row's."""
    return rows.ragged_batch(batch_size).map(as_it_is(lambda batch: pad(batch, None)))


def fixed_batches(rows, batch_size, max_seq_length, pad=padded):
    """Batches of the static shape [B, max_seq_length]; a last short batch is left out."""
    batches = rows.ragged_batch(batch_size, drop_remainder=True)
    return batches.map(as_it_is(lambda batch: pad(batch, [batch_size, max_seq_length])))


def dense(columns, shape):
    """Columns of rows of their own lengths as tensors of `shape`; the longest row's where None."""
    return {name: narrow(column.to_tensor(shape=shape)
                         if isinstance(column, tf.RaggedTensor) else column)
            for name, column in columns.items()}


def narrow(column):
    """int64 as int32, which is what TPUs take; other types as they are."""
    return tf.cast(column, tf.int32) if column.dtype == tf.int64 else column
