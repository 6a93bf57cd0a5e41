"""Scores of a whole split: functions of (labels, predictions), never means over batches.

Both are arrays of shape (N,), N > 0: class ids (int) for classification, scores (float) for
regression. Each function returns a finite float. Each raises ValueError where there are no
examples or the shapes differ, and InputError where a prediction is not finite.
"""
import math
import warnings

import numpy as np

from adapter_bert.errors import InputError


def accuracy(labels, predictions):
    """Share of the predictions that equal their label, in [0, 1]."""
    labels, predictions = _arrays(labels, predictions)
    return float((labels == predictions).mean())


def f1(labels, predictions):
    """F1 of class 1, as GLUE scores MRPC and QQP: 2 TP / (2 TP + FP + FN).

    0.0 where neither labels nor predictions hold class 1.
    """
    labels, predictions = _arrays(labels, predictions)
    import sklearn.metrics  # here: loading it takes half a second of every command's start
    return float(sklearn.metrics.f1_score(labels == 1, predictions == 1, zero_division=0.0))


def macro_f1(labels, predictions):
    """Mean of the F1 of each class that labels or predictions hold, in [0, 1]."""
    labels, predictions = _arrays(labels, predictions)
    import sklearn.metrics  # here, see f1
    return float(sklearn.metrics.f1_score(
        labels, predictions, average="macro", zero_division=0.0))


def matthews(labels, predictions):
    """Matthews correlation of class ids, in [-1, 1]; for more than two Gorodkin's (2004).

    0.0 where labels or predictions are all of one class.
    """
    labels, predictions = _arrays(labels, predictions)
    if _constant(labels) or _constant(predictions):
        return 0.0
    import sklearn.metrics  # here, see f1
    return float(sklearn.metrics.matthews_corrcoef(labels, predictions))


def pearson(labels, predictions):
    """Pearson correlation, in [-1, 1]; 0.0 where labels or predictions are constant."""
    import scipy.stats  # here, see f1
    return _correlation(scipy.stats.pearsonr, labels, predictions)


def spearman(labels, predictions):
    """Spearman rank correlation, ties at their mean rank; 0.0 where one side is constant."""
    import scipy.stats  # here, see f1
    return _correlation(scipy.stats.spearmanr, labels, predictions)


METRICS = {function.__name__: function
           for function in (accuracy, f1, macro_f1, matthews, pearson, spearman)}


def compute_metrics(task, labels, predictions):
    """The metrics of `task` on a whole split.

    Args:
      task: Task.
      labels: array of shape (N,), int class ids or float scores.
      predictions: array of shape (N,), the same as the model gives it.

    Returns:
      {name: float}: `accuracy` first for classification, then the task's metrics in their order.

    Raises:
      InputError: a prediction is not finite.
      ValueError: no examples, or the shapes differ.
    """
    always = ("accuracy",) if task.kind == "classification" else ()
    return {name: METRICS[name](labels, predictions)
            for name in dict.fromkeys(always + task.metrics)}


def _correlation(function, labels, predictions):
    """`function`'s statistic in float64, 0.0 where it is not defined."""
    labels, predictions = _arrays(labels, predictions, np.float64)
    if _constant(labels) or _constant(predictions):
        return 0.0
    with warnings.catch_warnings():
        # All but constant input: scipy warns and may divide by zero.
        warnings.simplefilter("ignore", RuntimeWarning)
        value = float(function(labels, predictions).statistic)
    return value if math.isfinite(value) else 0.0


def _constant(values):
    return bool((values == values[0]).all())


def _arrays(labels, predictions, dtype=None):
    labels, predictions = np.asarray(labels, dtype), np.asarray(predictions, dtype)
    if labels.ndim != 1 or labels.shape != predictions.shape or not labels.size:
        raise ValueError(f"labels of shape {labels.shape} and predictions of shape "
                         f"{predictions.shape}, expected (N,) twice with N > 0")
    if not np.isfinite(predictions).all():
        raise InputError("predictions contain NaN or infinity: training diverged; "
                         "lower --learning_rate")
    return labels, predictions
