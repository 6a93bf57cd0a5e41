"""Scores of kept predictions on any part of a dev set, in points of a hundred.

A part, a half or a resampling of a dev set is a weight an example: how often it counts. So one
product gives a score for thousands of resamplings.

Letters: B parts, n examples, C classes, u distinct values.
"""
import math

import numpy as np

from adapter_bert.kinds.entities import entities
from adapter_bert.kinds.squad_files import SquadExample
from adapter_bert.kinds.squad_scores import squad_scores
from adapter_bert.research.sweep import result_files

MOST_CLASSES = 10_000   # more would be a confusion matrix of gigabytes


def check(path, kind, targets, predictions):
    """InputError where the predictions in a result file are none for these targets."""
    of_kind = {"classification": lambda value: type(value) is int and 0 <= value < MOST_CLASSES,
               "regression": lambda value: type(value) in (int, float) and math.isfinite(value),
               "spans": lambda value: type(value) is str,
               "tokens": lambda value: type(value) is list}.get(kind)
    if of_kind is None or type(predictions) is not list or len(predictions) != len(targets) or (
            not all(map(of_kind, predictions))):
        raise result_files.damaged(path, f"it has no predictions for {len(targets)} examples of "
                              f"{kind}")


def scorer(kind, metric, targets, predictions):
    """A function of weights float [B, n] -> points float [B].

    Args:
      kind: of head, a key of SCORERS.
      metric: name of the metric.
      targets: list with what is right for each example, as `kept_predictions.kept` makes it.
      predictions: list with what is predicted.
    """
    return SCORERS[kind](metric, targets, predictions)


def _of_classes(metric, labels, predictions):
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    count = 1 + int(max(labels.max(), predictions.max()))
    cells = np.zeros([len(labels), count * count])
    cells[np.arange(len(labels)), labels * count + predictions] = 1.0   # [n, C * C]
    function = OF_CONFUSION[metric]
    return lambda weights: 100 * function(
        (weights @ cells).reshape(-1, count, count))   # [B, C, C]: label, prediction


def accuracy(confusion):
    """Share of what lies on the diagonal of float [B, C, C]: [B]."""
    return np.einsum("bii->b", confusion) / confusion.sum(axis=(1, 2))


def f1(confusion):
    """F1 of class 1, of float [B, C, C]: [B]."""
    if confusion.shape[1] < 2:
        return np.zeros(len(confusion))
    return _f1_of_each(confusion)[:, 1]


def macro_f1(confusion):
    """Mean F1 of the classes that labels or predictions hold, of float [B, C, C]: [B]."""
    held = confusion.sum(axis=1) + confusion.sum(axis=2) > 0              # [B, C]
    return (_f1_of_each(confusion) * held).sum(axis=1) / held.sum(axis=1)


def matthews(confusion):
    """Matthews correlation (Gorodkin's for more than two classes), of float [B, C, C]: [B]."""
    right, of_labels = np.einsum("bii->b", confusion), confusion.sum(axis=2)
    of_predictions, all_of = confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    spread = [all_of**2 - (counts**2).sum(axis=1) for counts in (of_labels, of_predictions)]
    return _quotient(right * all_of - (of_labels * of_predictions).sum(axis=1),
                     np.sqrt(spread[0] * spread[1]))


def _f1_of_each(confusion):
    """F1 of each class [B, C]."""
    return _quotient(2 * np.einsum("bii->bi", confusion),
                     confusion.sum(axis=1) + confusion.sum(axis=2))


def _quotient(above, below):
    """above / below, 0 where that is not defined."""
    return np.divide(above, below, out=np.zeros_like(above, float), where=below > 0)


def _of_numbers(metric, targets, predictions):
    values = [np.asarray(column, np.float64) for column in (targets, predictions)]
    if metric == "pearson":
        return lambda weights: 100 * correlation(*values, weights)
    return lambda weights: 100 * correlation(
        *(ranks(column, weights) for column in values), weights)


def ranks(values, weights):
    """The rank of each value among all as often as they count, equal ones at their mean.

    Args:
      values: float [n].
      weights: float [B, n].

    Returns:
      Float [B, n].
    """
    order = np.argsort(values, kind="stable")
    _, starts, place = np.unique(values[order], return_index=True, return_inverse=True)
    counts = np.add.reduceat(weights[:, order], starts, axis=1)   # [B, u]
    of_value = np.cumsum(counts, axis=1) - (counts - 1) / 2
    found = np.empty_like(weights, dtype=np.float64)
    found[:, order] = of_value[:, place]
    return found


def correlation(x, y, weights):
    """Pearson's of weighted values, 0 where one side is constant.

    Args:
      x, y: float [n] or [B, n].
      weights: float [B, n].

    Returns:
      Float [B].
    """
    count = weights.sum(axis=1, keepdims=True)
    x, y = (column - (weights * column).sum(axis=1, keepdims=True) / count for column in (x, y))
    square_x, square_y = (weights * x * x).sum(axis=1), (weights * y * y).sum(axis=1)
    below = np.sqrt(square_x * square_y)
    return _quotient((weights * x * y).sum(axis=1), np.where(below > 1e-12 * count[:, 0], below, 0))


def _of_answers(metric, questions, answers):
    examples = [SquadExample(question["id"], "", "", tuple(
        (text, 0) for text in question["answers"]), not question["answers"])
                for question in questions]
    points = np.array([squad_scores([example], {example.id: answer})[metric]
                       for example, answer in zip(examples, answers, strict=True)])
    return lambda weights: weights @ points / weights.sum(axis=1)


def _of_names(metric, gold, predicted):
    """F1 of the names of sentences, the one metric of tokens that tables have."""
    del metric
    labels = sorted({tag for sentence in [*gold, *predicted] for tag in sentence})
    counts = np.array([_matches(*pair, labels) for pair in zip(gold, predicted, strict=True)])

    def points(weights):
        matched, held = (weights @ counts).T
        return 100 * _quotient(2 * matched, held)
    return points


def _matches(gold, predicted, labels):
    """Names that are in both, and names in the one and in the other, of a sentence."""
    first, second = (set(entities(tags, labels)) for tags in (gold, predicted))
    return len(first & second), len(first) + len(second)


OF_CONFUSION = {function.__name__: function for function in (accuracy, f1, macro_f1, matthews)}
SCORERS = {"classification": _of_classes, "regression": _of_numbers, "spans": _of_answers,
           "tokens": _of_names}
