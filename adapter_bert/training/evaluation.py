"""Scores and predictions of whole splits with a trained checkpoint."""
import collections
import os
import tempfile

import numpy as np
from absl import logging

from adapter_bert import files, tasks
from adapter_bert.errors import InputError
from adapter_bert.pipeline import batches
from adapter_bert.tasks.metrics import compute_metrics
from adapter_bert.training import results
from adapter_bert.training.estimator import build_estimator


def predict_split(run, start, split, batch_size):
    """The model's predictions for every example of a split, in the order of its file.

    Args:
      run: setup.Run.
      start: checkpoints.Start of a trained model.
      split: data.Split.
      batch_size: examples a batch.

    Returns:
      {name: array [count, ...]}, and the mean over batches of the batch's mean loss (None without
      labels).
    """

    def input_fn(params):
        return batches.evaluation_batches(split.path, split.spec, split.examples,
                                          params["batch_size"], run.settings.max_seq_length,
                                          fixed=run.settings.use_tpu)

    columns, batch_losses = collections.defaultdict(list), []
    with tempfile.TemporaryDirectory() as empty:   # Estimator restores what it finds in its folder
        estimator = build_estimator(run, start, empty, predict_batch_size=batch_size)
        for batch in estimator.predict(input_fn, yield_single_examples=False):
            real = batch["index"] >= 0
            for name, values in batch.items():
                columns[name].append(values[real])
            if "losses" in batch:
                batch_losses.append(batch["losses"][real].mean())
    whole = {name: np.concatenate(values) for name, values in columns.items()}
    if not all(np.isfinite(values).all() for values in whole.values()):
        raise InputError(f"{start.prefixes[0]}: predicts what is no number for {split.name}; its "
                         "training diverged, train again with a lower --learning_rate")
    order = np.argsort(whole["index"])
    whole = {name: values[order] for name, values in whole.items()}
    return whole, float(np.mean(batch_losses)) if batch_losses else None


def evaluate(run, start, step, split, suffix=""):
    """The metrics of a dev split: eval_<metric>, eval_loss, global_step and loss.

    Args:
      run, start, split: as for `predict_split`.
      step: global step of the checkpoint.
      suffix: what is added to each key, as in eval_accuracy_mm; such a dict has no global_step.
    """
    predicted, loss = predict_split(run, start, split, run.settings.eval_batch_size)
    scores = compute_metrics(run.task, split.labels, decisions(run.task, predicted))
    metrics = {f"eval_{name}{suffix}": value for name, value in scores.items()}
    metrics |= {f"eval_loss{suffix}": float(predicted["losses"].mean()), f"loss{suffix}": loss}
    return metrics if suffix else results.ordered({**metrics, "global_step": step})


def decisions(task, predicted):
    """Class ids [count] of a classification, scores [count] of a regression."""
    if task.kind == "regression":
        return predicted["scores"]
    return predicted["probabilities"].argmax(axis=-1)


def evaluate_all(run, start, step, splits, first=None):
    """The metrics of every dev split of the task.

    Args:
      run, start, step: as for `evaluate`.
      splits: {name: data.Split}.
      first: metrics of the first dev split where they are known already.
    """
    metrics = dict(first or {})
    for name, suffix in tasks.splits(run.task, "dev")[first is not None:]:
        metrics |= evaluate(run, start, step, splits[name], suffix)
    return metrics


def predict_all(run, start, splits):
    """Writes test_results.tsv and the submission file of every test split of the task."""
    for name, suffix in tasks.splits(run.task, "test"):
        split = splits[name]
        predicted, _ = predict_split(run, start, split, run.settings.predict_batch_size)
        path = os.path.join(run.settings.output_dir, f"test_results{suffix}.tsv")
        write_rows(path, predicted.get("probabilities", predicted.get("scores")))
        submission = tasks.write_submission(
            run.task, name, decisions(run.task, predicted), run.settings.output_dir)
        logging.info("%s: %d predictions in %s and %s", name, split.examples, path, submission)


def write_rows(path, values):
    """Writes one tab-separated row of probabilities, or one score, an example."""
    rows = np.atleast_2d(values.T).T
    files.write_text(path, "".join("\t".join(map(str, row)) + "\n" for row in rows))
