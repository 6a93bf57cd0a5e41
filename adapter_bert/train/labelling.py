"""What a run does with texts and pairs that have a label or a number each: Kinds of `kinds`."""
import os

import numpy as np
from absl import logging

from adapter_bert import files, kinds
from adapter_bert.data import features
from adapter_bert.kinds.metrics import compute_metrics

# Scores are almost the same where their deviation is this share of that of the labels.
SAME_SCORE = 0.01


def read(run, split):
    """The examples of a split of run.task, see kinds.read_examples."""
    return kinds.read_examples(run.task, run.settings.data_dir, split, run.settings.bad_rows)


def featurize(run, examples, split, first):
    """Rows of texts and pairs; a test split has no labels."""
    del split
    return features.featurize(examples, run.tokenizer, run.settings.max_seq_length,
                              run.task.label_index, first)


def targets(run, examples):
    """Class ids int [count], or scores float [count]; None for examples without labels."""
    if examples[0].label is None:
        return None
    index = run.task.label_index
    return np.array([index.get(row.label, row.label) for row in examples])


def score(run, targets, predicted):
    """The metrics of the task."""
    return compute_metrics(run.task, targets, decisions(run.task, predicted))


def decisions(task, predicted):
    """Class ids [count] of a classification, scores [count] of a regression."""
    if task.kind == "regression":
        return predicted["scores"]
    return predicted["probabilities"].argmax(axis=-1)


def is_constant(run, split, predicted):
    """Whether every text gets the same class, or almost the same score."""
    found = decisions(run.task, predicted)
    if run.task.kind == "regression":
        return len(found) > 1 and found.std() < SAME_SCORE * np.std(split.targets)
    return len(found) > 1 and len(np.unique(found)) == 1 < len(np.unique(split.targets))


def write(run, split, predicted):
    """Writes test_results.tsv and the submission file of a test split.

    Returns:
      What `score` does where the split has labels; else {}.
    """
    folder, suffix = run.settings.output_dir, split.name.removeprefix("test")
    path = os.path.join(folder, f"test_results{suffix}.tsv")
    write_rows(path, predicted.get("probabilities", predicted.get("scores")))
    submission = kinds.write_submission(
        run.task, split.name, decisions(run.task, predicted), folder)
    logging.info("%s: %d predictions in %s and %s", split.name, split.examples, path, submission)
    return {} if split.targets is None else score(run, split.targets, predicted)


def write_rows(path, values):
    """Writes one tab-separated row of probabilities, or one score, an example."""
    rows = np.atleast_2d(values.T).T
    files.write_text(path, "".join("\t".join(map(str, row)) + "\n" for row in rows))
