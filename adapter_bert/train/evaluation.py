"""Scores and predictions of whole splits with a trained checkpoint."""
import collections
from typing import NamedTuple

import numpy as np

from adapter_bert import kinds
from adapter_bert.data import batches
from adapter_bert.train import results
from adapter_bert.train.evaluator import Passes
from adapter_bert.train.guard import NothingLearned
from adapter_bert.train.kind_runs import KINDS, predicts
from adapter_bert.train.model_fn import PLACE


def passes_of(run, split, batch_size):
    """Passes of a data.Split, so many examples a batch."""
    def input_fn(params):
        return batches.evaluation_batches(split.path, split.spec, split.examples,
                                          params["batch_size"], run.settings.max_seq_length,
                                          fixed=run.settings.use_tpu)
    return Passes(run, input_fn, batch_size)


def predict_split(passes, start, split):
    """The model's predictions for every example of a split, in the order of its file.

    Args:
      passes: Passes of the split.
      start: initial_values.Start of a trained model.
      split: data.Split.

    Returns:
      {name: array [count, ...]}, and the mean over batches of the batch's loss (0.0 without
      labels).

    Raises:
      NothingLearned: they contain NaN or infinity, as after a last step that diverged.
    """
    columns, batch_losses = collections.defaultdict(list), []
    for batch in passes.batches(start):
        real = batch["index"] >= 0
        batch = {name: values[real] for name, values in batch.items()}
        batch_losses.append(mean_loss(batch))
        for name, values in batch.items():
            columns[name].append(values)
    whole = {name: stacked(values) for name, values in columns.items()}
    if not all(np.isfinite(values).all() for values in whole.values()):
        raise NothingLearned(f"{start.prefixes[0]}: predictions for {split.name} contain NaN or "
                             "infinity: training diverged; lower --learning_rate")
    order = np.lexsort([whole[name] for name in reversed(PLACE) if name in whole])
    return {name: values[order] for name, values in whole.items()}, float(np.mean(batch_losses))


def stacked(batches):
    """Arrays [B, ...] as one [count, ...]; shorter rows end in zeros."""
    longest = np.max([batch.shape[1:] for batch in batches], axis=0)
    return np.concatenate([
        np.pad(batch, [(0, 0), *((0, int(size)) for size in longest - batch.shape[1:])])
        for batch in batches])


def mean_loss(predicted):
    """heads.batch_loss of what was predicted; 0.0 without labels."""
    names = [name.removesuffix("_sums") for name in predicted if name.endswith("_sums")]
    return float(sum(predicted[f"{name}_sums"].sum() / max(predicted[f"{name}_counts"].sum(), 1.0)
                     for name in names))


def ignore_predictions(run, split, predicted):
    """Default for `on_predictions`: does nothing."""


def evaluate(run, start, step, split, suffix="", writes=False, on_predictions=ignore_predictions,
             passes=None):
    """The metrics of a dev split: eval_<metric>, eval_loss, global_step and loss.

    Args:
      run: resolve.Run.
      start, split: as for `predict_split`.
      step: global step of the checkpoint.
      suffix: what is added to each key, as in eval_accuracy_mm; such a dict has no global_step.
      writes: whether the predictions are left in the output folder.
      on_predictions: function (run, split, predicted), called with the predictions.
      passes: Passes of the split; created where None.

    Returns:
      {name: float}; {} where the split has no labels.
    """
    kind, settings = KINDS[run.task.kind], run.settings
    batch_size = settings.predict_batch_size if writes else settings.eval_batch_size
    predicted, loss = predict_split(passes or passes_of(run, split, batch_size), start, split)
    on_predictions(run, split, predicted)
    scores = (kind.write(run, split, predicted) if writes
              else kind.score(run, split.targets, predicted))
    if not split.is_labelled:
        return {}
    metrics = {f"eval_{name}{suffix}": value for name, value in scores.items()}
    metrics |= {f"eval_loss{suffix}": mean_loss(predicted), f"loss{suffix}": loss}
    return metrics if suffix else results.ordered({**metrics, "global_step": step})


class Known(NamedTuple):
    """Metrics of a split at a step of the training, and the predictions they were computed from."""

    metrics: dict[str, float]
    predicted: dict[str, np.ndarray]


class DevEvaluator:
    """Evaluates checkpoints on one dev split; remembers the best and the latest evaluation.

    One of the two belongs to the checkpoint with which training ends, and its predictions need not
    be computed again for the report.

    Args:
      run: resolve.Run.
      split: data.Split.
      metric: key of the metrics; higher is better.
      baselines: {key of the metrics: (name of the baseline, score)}, for log lines.
    """

    def __init__(self, run, split, metric: str,
                 baselines: dict[str, tuple[str, float]] | None = None) -> None:
        self._run, self.split, self._metric = run, split, metric
        self.baselines = baselines or {}
        self._passes = passes_of(run, split, run.settings.eval_batch_size)
        self._known: dict[int, Known] = {}

    def __call__(self, start, step: int) -> dict[str, float]:
        """The metrics of the checkpoint that `start` names, of that global step."""
        predicted: dict[str, np.ndarray] = {}
        metrics = evaluate(
            self._run, start, step, self.split, passes=self._passes,
            on_predictions=lambda run, split, columns: predicted.update(columns))
        self._known[step] = Known(metrics, predicted)
        best = max(self._known, key=lambda step: self._known[step].metrics.get(
            self._metric, 0.0))
        self._known = {kept: self._known[kept] for kept in sorted({best, step})}
        return metrics

    def known(self, step: int) -> Known | None:
        """The evaluation of a step; None where it was not made here or is not remembered."""
        return self._known.get(step)


def evaluate_all(run, start, step, splits, first=None, on_predictions=ignore_predictions):
    """The metrics of every dev split of the task, and their predictions where these are wanted.

    Args:
      run, start, step, on_predictions: as for `evaluate`.
      splits: {name: data.Split}.
      first: Known of the first dev split; None where it has to be evaluated.
    """
    writes = predicts(run, "dev")
    metrics: dict[str, float] = {}
    for name, suffix in kinds.splits(run.task, "dev"):
        if first and not suffix and not writes:
            on_predictions(run, splits[name], first.predicted)
            metrics |= first.metrics
        else:
            metrics |= evaluate(run, start, step, splits[name], suffix, writes, on_predictions)
    return metrics


def predict_all(run, start, splits, on_predictions=ignore_predictions):
    """Leaves the predictions for every test split of the task in the output folder.

    Args:
      run, start, on_predictions: as for `evaluate`.
      splits: {name: data.Split}.

    Returns:
      {"test_<metric>": float} of the splits that have labels.
    """
    scores = {}
    for name, _ in kinds.splits(run.task, "test"):
        passes = passes_of(run, splits[name], run.settings.predict_batch_size)
        predicted, _ = predict_split(passes, start, splits[name])
        on_predictions(run, splits[name], predicted)
        written = KINDS[run.task.kind].write(run, splits[name], predicted)
        scores |= {f"{name}_{metric}": value for metric, value in written.items()}
    return scores
