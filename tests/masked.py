"""Runs of the pre-training on the tiny BERT, and the small records they learn."""
import os

import numpy as np
import tensorflow.compat.v1 as tf
from conftest import TINY

from adapter_bert.train.pretraining_run import Settings, run

LENGTH, PREDICTIONS = 16, 4
CLS, SEP, MASK, FIRST = 2, 3, 4, 5
FLAGS = {"max_seq_length": LENGTH, "max_predictions_per_seq": PREDICTIONS, "train_batch_size": 8,
         "learning_rate": 0.01, "adapter_size": 4, "num_train_steps": 6, "num_warmup_steps": 1}


def instance(random, vocabulary=TINY.vocab_size, length=LENGTH, predictions=PREDICTIONS):
    """A pair of runs of one word each, some of it masked; the second follows if it is the next."""
    first = int(random.integers(FIRST, vocabulary - 1))
    is_random = int(random.integers(2))
    second = int(random.integers(FIRST, vocabulary)) if is_random else first + 1
    sizes = random.integers(1, (length - 3) // 2 + 1, 2)
    ids = np.array([CLS, *[first] * sizes[0], SEP, *[second] * sizes[1], SEP])
    segments = np.repeat([0, 1], [sizes[0] + 2, sizes[1] + 1])
    places = np.flatnonzero(ids >= FIRST)
    most = min(predictions, max(1, len(places) // 3))
    places = np.sort(random.choice(places, random.integers(1, most + 1), replace=False))
    labels, ids[places] = ids[places], MASK

    def fixed(values, size):
        return np.pad(values, [0, size - len(values)])
    return {"input_ids": fixed(ids, length), "input_mask": fixed(np.ones_like(ids), length),
            "segment_ids": fixed(segments, length),
            "masked_lm_positions": fixed(places, predictions),
            "masked_lm_ids": fixed(labels, predictions),
            "masked_lm_weights": fixed(np.ones(len(places), np.float32), predictions),
            "next_sentence_labels": np.array([is_random])}


def instances(count, seed=0, **sizes):
    random = np.random.default_rng(seed)
    return [instance(random, **sizes) for _ in range(count)]


def serialized(values):
    """A record as BERT's create_pretraining_data.py writes it."""
    def feature(column):
        if column.dtype.kind == "f":
            return tf.train.Feature(float_list=tf.train.FloatList(value=column))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=column))
    return tf.train.Example(features=tf.train.Features(feature={
        name: feature(np.asarray(column)) for name, column in values.items()})
    ).SerializeToString()


def write_records(path, rows):
    """Writes instances into a TFRecord file; its path as str."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            writer.write(serialized(row))
    return str(path)


def go(**flags):
    """Runs the pre-training with these flags on top of small ones; returns the metrics."""
    flags = {**FLAGS, **flags}
    return run(Settings(**flags), frozenset(flags))
