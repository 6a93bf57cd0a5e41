"""The splits of a task on disk, as TFRecord files of the output folder."""
import dataclasses
import os
import random
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from adapter_bert import files, kinds
from adapter_bert.data import features, records
from adapter_bert.data.unknown_words import warn_of_unknown_words
from adapter_bert.errors import InputError
from adapter_bert.train import prior as priors
from adapter_bert.train import resolve
from adapter_bert.train.kind_runs import KINDS, predicts


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


def read(run):
    """Reads every split that the run will need, before anything is written.

    Args:
      run: resolve.Run.

    Returns:
      The run, with the labels of its task known, and {split name: list of examples}.

    Raises:
      InputError: a file or a row in it is wrong, or the labels are not known.
    """
    run = with_parts(run)
    examples, kind, parts = {}, KINDS[run.task.kind], read_parts(run)
    if run.settings.do_train:
        examples["train"] = parts.get("train") or kind.read(run, "train")
        run = dataclasses.replace(run, task=kinds.with_labels(run.task, examples["train"]))
    if run.task.labels is None:
        raise InputError(f"{run.trained}: there is no run.json beside it with the labels; "
                         "train with --do_train, or name a checkpoint in its run's folder")
    for name in names_of_splits(run):
        examples[name] = parts.get(name) or kind.read(run, name)
    return run, examples


def with_parts(run):
    """The run with the parts of --data_file that its settings have, or that it was trained with."""
    settings, task = run.settings, run.task
    if task.parts is None:
        return run
    return dataclasses.replace(run, task=kinds.with_data_file(
        task, settings.data_file, settings.dev_fraction, settings.test_fraction))


def read_parts(run):
    """{split name: examples} of a task whose splits are parts of one file; {} for other tasks."""
    if not run.task.is_parted:
        return {}
    reader = kinds.read_sentence_parts if run.task.kind == "tokens" else kinds.read_parts
    return reader(run.task, run.settings.data_dir, run.settings.bad_rows)


def names_of_splits(run):
    """The dev and test splits that the run will need; InputError where the task has none."""
    needed = {"dev": run.settings.do_eval or run.settings.evaluates_in_training
              or predicts(run, "dev"),
              "test": predicts(run, "test")}
    names = []
    for kind in filter(needed.get, needed):
        of_kind = [name for name, _ in kinds.splits(run.task, kind)]
        if not of_kind:
            raise InputError(f"{run.task.name} has no {kind} examples; it has "
                             f"{', '.join(run.task.files)}{advice_on_parts(run.task, kind)}")
        names += of_kind
    return names


def advice_on_parts(task, kind):
    """What to do where --data_file is not split into a part of that kind."""
    if task.parts is None:
        return ""
    return f"; hold out a part of --data_file with --{kind}_fraction=0.1"


def prepare(run, examples):
    """Writes the records of every split.

    Args:
      run, examples: what `read` returns.

    Returns:
      {split name: Split}.
    """
    if "train" in examples:
        examples = {**examples, "train": drawn(run, examples["train"])}
        if run.task.kind != "spans":
            logging.info(kinds.labels_line(run.task, examples["train"]))
    return {name: write_split(run, name, some) for name, some in examples.items()}


def drawn(run, examples):
    """The examples to train on: all, or --max_train_examples drawn at random."""
    wanted = run.settings.max_train_examples
    if not wanted or wanted >= len(examples):
        return examples
    chosen = random.Random(run.settings.seed).sample(range(len(examples)), wanted)
    return [examples[index] for index in sorted(chosen)]


def write_split(run, name, examples):
    """Writes a split's TFRecord file, or keeps the one that is there and made of the same inputs.

    Args:
      run: resolve.Run, with a task whose labels are known.
      name: the split, a key of task.files.
      examples: list of examples.

    Returns:
      Split.
    """
    settings, task, kind = run.settings, run.task, KINDS[run.task.kind]
    is_labelled = not name.startswith("test") and kind.have_labels(examples)
    spec = features.feature_spec(task.kind, is_labelled)
    fingerprint = records.fingerprint_of(
        examples, vocab=files.sha256(settings.vocab_file), labels=task.labels,
        max_seq_length=settings.max_seq_length, do_lower_case=settings.do_lower_case,
        **{name: getattr(settings, name) for name in kind.inputs})
    if name == "train":
        resolve.refuse_contradiction(settings.output_dir, {"train_data": fingerprint})
    path = os.path.join(settings.output_dir, f"{name}.tf_record")

    def rows_between(start, stop):
        return kind.featurize(run, examples[start:stop], name, start)

    metadata = records.write_once(path, rows_between, len(examples), spec, fingerprint)
    if not metadata["reused"]:
        warn_of_unknown_words(run.tokenizer, examples, name)
    logging.info("%s: %s, %.1f tokens on average, %s", name, counted(len(examples), metadata),
                 metadata["tokens"] / metadata["count"],
                 "cached" if metadata["reused"] else f"written to {path}")
    cut = metadata.get("cut", 0)
    if cut:
        logging.info("%s: %d of %d texts (%.0f %%) are longer than --max_seq_length=%d tokens and "
                     "were cut", name, cut, len(examples), 100 * cut / len(examples),
                     settings.max_seq_length)
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
        return f"{examples:,} example{'s' * (examples != 1)}"
    return f"{examples:,} examples in {metadata['count']:,} windows"
