"""The splits of a task on disk, as TFRecord files of the output folder."""
import dataclasses
import os
import random
from typing import NamedTuple

import numpy as np
from absl import logging

from adapter_bert import files, tasks
from adapter_bert.errors import InputError
from adapter_bert.pipeline import features, records
from adapter_bert.training import setup


class Split(NamedTuple):
    """A split that is ready to be read in batches.

    tokens: word pieces of all examples.
    pairs: whether they are pairs of texts.
    labels: int or float array [examples]; None for a test split.
    """

    name: str
    path: str
    examples: int
    tokens: int
    pairs: bool
    spec: tuple
    labels: np.ndarray | None
    fingerprint: str


def prepare(run):
    """Reads and writes every split that the run will need, so that a bad row stops it early.

    Returns:
      The run, with the labels of its task known, and {split name: Split}.
    """
    settings, splits = run.settings, {}
    if settings.do_train:
        examples, task = training_examples(settings, run.task)
        run = dataclasses.replace(run, task=task)
        splits["train"] = write_split(run, "train", examples)
    if run.task.labels is None:
        raise InputError(f"{run.trained}: no run.json beside it tells the labels; "
                         "train with --do_train, or name a checkpoint in its run's folder")
    kinds = {"dev": settings.do_eval or settings.evaluates_in_training, "test": settings.do_predict}
    for kind in filter(kinds.get, kinds):
        names = [name for name, _ in tasks.splits(run.task, kind)]
        if not names:
            raise InputError(f"{run.task.name} has no {kind} examples; "
                             f"it has {', '.join(run.task.files)}")
        splits |= {name: write_split(run, name) for name in names}
    return run, splits


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
        examples, vocab=files.sha256(settings.vocab_file), labels=task.labels,
        max_seq_length=settings.max_seq_length, do_lower_case=settings.do_lower_case)
    if name == "train":
        setup.refuse_contradiction(settings.output_dir, {"train_data": fingerprint})
    path = os.path.join(settings.output_dir, f"{name}.tf_record")

    def rows_between(start, stop):
        return features.featurize(examples[start:stop], run.tokenizer, settings.max_seq_length,
                                  label_index, start)

    metadata = records.write_once(path, rows_between, len(examples), spec, fingerprint)
    logging.info("%s: %s examples, %.1f word pieces each, %s", name, f"{metadata['count']:,}",
                 metadata["tokens"] / metadata["count"],
                 "read before" if metadata["reused"] else f"written to {path}")
    labels = None
    if labelled:
        labels = np.array([label_index.get(row.label, row.label) for row in examples])
    return Split(name, path, metadata["count"], metadata["tokens"],
                 examples[0].text_b is not None, spec, labels, fingerprint)
