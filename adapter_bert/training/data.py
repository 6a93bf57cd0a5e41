"""The splits of a task on disk, as TFRecord files of the output folder."""
import dataclasses
import os
import random
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from adapter_bert import files, tasks
from adapter_bert.data.unknown_words import warn_of_unknown_words
from adapter_bert.errors import InputError
from adapter_bert.pipeline import features, records
from adapter_bert.train import prior as priors
from adapter_bert.training import setup
from adapter_bert.training.kinds import KINDS, predicts


class Split(NamedTuple):
    """A split that is ready to be read in batches.

    examples: records of the file; a long context of a question makes several.
    tokens: word pieces of all of them.
    is_labelled: whether they have labels.
    targets: what predictions are held against, see kinds.Kind; None for the training split.
    prior: the best constant prediction for it; priors.NONE for splits that are not trained on.
    rows: the examples themselves, in the order of the file; None for the training split.
    """

    name: str
    path: str
    examples: int
    tokens: int
    spec: tuple
    is_labelled: bool
    targets: Any
    fingerprint: str
    prior: priors.Prior = priors.NONE
    rows: list | None = None


def prepare(run):
    """Reads and writes every split that the run will need, so that a bad row stops it early.

    Returns:
      The run, with the labels of its task known, and {split name: Split}.
    """
    settings, splits = run.settings, {}
    if settings.do_train:
        examples, task = training_examples(run)
        run = dataclasses.replace(run, task=task)
        splits["train"] = write_split(run, "train", examples)
    if run.task.labels is None:
        raise InputError(f"{run.trained}: no run.json beside it tells the labels; "
                         "train with --do_train, or name a checkpoint in its run's folder")
    kinds = {"dev": settings.do_eval or settings.evaluates_in_training or predicts(run, "dev"),
             "test": predicts(run, "test")}
    for kind in filter(kinds.get, kinds):
        names = [name for name, _ in tasks.splits(run.task, kind)]
        if not names:
            raise InputError(f"{run.task.name} has no {kind} examples; "
                             f"it has {', '.join(run.task.files)}")
        splits |= {name: write_split(run, name) for name in names}
    return run, splits


def training_examples(run):
    """The examples to train on, all or so many drawn at random, and the task with its labels."""
    examples = KINDS[run.task.kind].read(run, "train")
    task = tasks.with_labels(run.task, examples)
    wanted = run.settings.max_train_examples
    if wanted and wanted < len(examples):
        chosen = random.Random(run.settings.seed).sample(range(len(examples)), wanted)
        examples = [examples[index] for index in sorted(chosen)]
    return examples, task


def write_split(run, name, examples=None):
    """Writes a split's TFRecord file, or keeps the one that is there and made of the same inputs.

    Args:
      run: setup.Run, with a task whose labels are known.
      name: the split, a key of task.files.
      examples: list of examples; read where None.

    Returns:
      Split.
    """
    settings, task, kind = run.settings, run.task, KINDS[run.task.kind]
    examples = examples or kind.read(run, name)
    is_labelled = not name.startswith("test") and kind.have_labels(examples)
    spec = features.feature_spec(task.kind, is_labelled)
    fingerprint = records.fingerprint_of(
        examples, vocab=files.sha256(settings.vocab_file), labels=task.labels,
        max_seq_length=settings.max_seq_length, do_lower_case=settings.do_lower_case,
        **{name: getattr(settings, name) for name in kind.inputs})
    if name == "train":
        setup.refuse_contradiction(settings.output_dir, {"train_data": fingerprint})
    path = os.path.join(settings.output_dir, f"{name}.tf_record")

    def rows_between(start, stop):
        return kind.featurize(run, examples[start:stop], name, start)

    metadata = records.write_once(path, rows_between, len(examples), spec, fingerprint)
    if not metadata["reused"]:
        warn_of_unknown_words(run.tokenizer, examples, name)
    logging.info("%s: %s, %.1f word pieces each, %s", name, counted(len(examples), metadata),
                 metadata["tokens"] / metadata["count"],
                 "read before" if metadata["reused"] else f"written to {path}")
    return Split(name, path, metadata["count"], metadata["tokens"], spec, is_labelled,
                 None if name == "train" else kind.targets(run, examples), fingerprint,
                 prior_of(run, examples, metadata) if name == "train" else priors.NONE,
                 None if name == "train" else examples)


def prior_of(run, examples, metadata):
    """The priors.Prior of the examples to train on; `metadata` is that of their records."""
    kind, index = run.task.kind, run.task.label_index
    if kind == "spans":
        return priors.of_positions(np.array([metadata["tokens"] / metadata["count"]]))
    if kind == "regression":
        return priors.of_scores(KINDS[kind].targets(run, examples))
    labels = ([index[tag] for sentence in examples for tag in sentence.tags] if kind == "tokens"
              else [index[example.label] for example in examples])
    return priors.of_classes(np.array(labels), len(run.task.labels))


def counted(examples, metadata):
    """How many examples there are, and how many records they make where these are more."""
    if metadata["count"] == examples:
        return f"{examples:,} examples"
    return f"{examples:,} examples in {metadata['count']:,} windows"
