"""The splits of a task on disk, as TFRecord files of the output folder."""
import hashlib
import os
import random
from typing import NamedTuple

import numpy as np
from absl import logging

from adapter_bert import tasks
from adapter_bert.pipeline import features, records


class Split(NamedTuple):
    """A split that is ready to be read in batches.

    labels: int or float array [count]; None for a test split.
    """

    name: str
    path: str
    count: int
    spec: tuple
    labels: np.ndarray | None
    fingerprint: str


def training_examples(settings, task):
    """The examples to train on, all or so many drawn at random, and the task with its labels."""
    examples = tasks.read_examples(task, settings.data_dir, "train")
    task = tasks.with_labels(task, examples)
    wanted = settings.max_train_examples
    if wanted and wanted < len(examples):
        chosen = random.Random(settings.seed).sample(range(len(examples)), wanted)
        examples = [examples[index] for index in sorted(chosen)]
    return examples, task


def write_split(run, name, examples=None):
    """Writes a split's TFRecord file, or keeps the one that is there and made of the same inputs.

    Args:
      run: setup.Run, with a task whose labels are known.
      name: the split, a key of task.files.
      examples: list of tasks.Example; read from data_dir where None.

    Returns:
      Split.
    """
    settings, task = run.settings, run.task
    examples = examples or tasks.read_examples(task, settings.data_dir, name)
    label_index = {label: index for index, label in enumerate(task.labels)}
    labelled = examples[0].label is not None
    spec = features.feature_spec(task.kind, labelled)
    fingerprint = records.fingerprint_of(
        examples, vocab=file_digest(settings.vocab_file), labels=task.labels,
        max_seq_length=settings.max_seq_length, do_lower_case=settings.do_lower_case)
    path = os.path.join(settings.output_dir, f"{name}.tf_record")
    rows = features.featurize(examples, run.tokenizer, settings.max_seq_length, label_index)
    metadata = records.write_once(path, rows, spec, fingerprint)
    logging.info("%s: %s examples, %.1f word pieces each, %s", name, f"{metadata['count']:,}",
                 metadata["tokens"] / metadata["count"],
                 "read before" if metadata["reused"] else f"written to {path}")
    labels = None
    if labelled:
        labels = np.array([label_index.get(row.label, row.label) for row in examples])
    return Split(name, path, metadata["count"], spec, labels, fingerprint)


def file_digest(path):
    """Hex sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
