"""What differs in a run between the kinds of head: its files, its records, scores, predictions."""
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import logging

from adapter_bert import files, tasks
from adapter_bert.pipeline import features
from adapter_bert.tasks.metrics import compute_metrics
from adapter_bert.training import spans, tagging


class Kind(NamedTuple):
    """How a run treats the examples of a kind of head.

    read: function (Run, split) -> list of examples.
    featurize: function (Run, examples, split, first) -> iterable of messages.Rows, `index` of the
      first example being `first`.
    targets: function (Run, examples) -> what `score` and `write` want to know of a split.
    score: function (Run, targets, predicted) -> {metric: float}; predicted is {name: array
      [count, ...]} in the order of the file.
    write: function (Run, data.Split, predicted) -> {metric: float}, as of `score`, of a split that
      can be scored; leaves the predictions in the output folder.
    inputs: names of the settings that records depend on, beside those that all depend on.
    predicts: "test", or "dev" where --do_predict writes predictions of the splits that are scored.
    have_labels: function (examples of a train or dev split) -> whether they do.
    """

    read: Callable
    featurize: Callable
    targets: Callable
    score: Callable
    write: Callable
    inputs: tuple[str, ...] = ()
    predicts: str = "test"
    have_labels: Callable = bool


def predicts(run, split):
    """Whether --do_predict is given and writes predictions of a kind of split, "dev" or "test"."""
    return run.settings.do_predict and KINDS[run.task.kind].predicts == split


def read_examples(run, split):
    """The examples of a split of run.task, see tasks.read_examples."""
    return tasks.read_examples(run.task, run.settings.data_dir, split)


def featurize(run, examples, split, first):
    """Rows of texts and pairs; a test split has no labels."""
    del split
    return features.featurize(examples, run.tokenizer, run.settings.max_seq_length,
                              label_index(run.task), first)


def targets(run, examples):
    """Class ids int [count], or scores float [count]."""
    index = label_index(run.task)
    return np.array([index.get(row.label, row.label) for row in examples])


def label_index(task):
    """{label: id} of a task; {} where labels are numbers."""
    return {label: index for index, label in enumerate(task.labels)}


def score(run, targets, predicted):
    """The metrics of the task."""
    return compute_metrics(run.task, targets, decisions(run.task, predicted))


def decisions(task, predicted):
    """Class ids [count] of a classification, scores [count] of a regression."""
    if task.kind == "regression":
        return predicted["scores"]
    return predicted["probabilities"].argmax(axis=-1)


def write(run, split, predicted):
    """Writes test_results.tsv and the submission file of a test split."""
    folder, suffix = run.settings.output_dir, split.name.removeprefix("test")
    path = os.path.join(folder, f"test_results{suffix}.tsv")
    write_rows(path, predicted.get("probabilities", predicted.get("scores")))
    submission = tasks.write_submission(
        run.task, split.name, decisions(run.task, predicted), folder)
    logging.info("%s: %d predictions in %s and %s", split.name, split.examples, path, submission)
    return {}


def write_rows(path, values):
    """Writes one tab-separated row of probabilities, or one score, an example."""
    rows = np.atleast_2d(values.T).T
    files.write_text(path, "".join("\t".join(map(str, row)) + "\n" for row in rows))


_OF_TEXTS = Kind(read_examples, featurize, targets, score, write)
KINDS = {
    "classification": _OF_TEXTS,
    "regression": _OF_TEXTS,
    "spans": Kind(spans.read, spans.featurize, spans.targets, spans.score, spans.write,
                  inputs=("max_query_length", "doc_stride"), predicts="dev",
                  have_labels=tasks.have_answers),
    "tokens": Kind(tagging.read, tagging.featurize, tagging.targets, tagging.score, tagging.write),
}
