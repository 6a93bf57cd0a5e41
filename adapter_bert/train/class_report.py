"""What a report shows of a classification: classes, confusions, calibration, mistakes.

Letters: n examples, C classes, M bins.
"""
from typing import Any, NamedTuple

import numpy as np

from adapter_bert.kinds.metrics import compute_metrics
from adapter_bert.train.findings import (
    MOST_MISTAKES,
    Baseline,
    Findings,
    Picture,
    Sheet,
    Table,
    clipped,
    counted,
    escaped,
    percent,
)
from adapter_bert.train.labelling import decisions

BINS = 15
MOST_ROWS = 30       # of classes in a table or a confusion matrix of the report
UNIT, DIGITS = "example", 3   # what it trains on; decimals of scores
WORK = "assign one of {labels} to each {text}"
MEANINGS = {
    "accuracy": "share of the examples with the right class",
    "f1": "balance of precision and recall for class {positive}; 1 is perfect",
    "macro_f1": "mean F1 of the classes, rare ones count as much as frequent ones; 1 is perfect",
    "matthews": "correlation of predicted and true classes; 0 is chance, 1 is perfect",
}


class Classes(NamedTuple):
    """Scores of each class, arrays [C]: F1 and its parts in [0, 1], and counts of examples."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Whether a class is among labels or predictions, bool [C]; others have no score."""
        return (self.support > 0) | (self.predicted > 0)


def baseline(run, targets) -> Baseline:
    """The scores of always answering the most frequent class of these labels, int [n]."""
    labels = np.asarray(targets)
    constant = np.full_like(labels, np.bincount(labels).argmax())
    return Baseline("majority class", compute_metrics(run.task, labels, constant))


def findings(run, split, predicted: dict[str, np.ndarray]) -> Findings:
    """The Findings of a split.

    Args:
      run: resolve.Run.
      split: data.Split with labels.
      predicted: {"probabilities": float [n, C], ...} in the order of the split's rows.
    """
    names, labels = run.task.labels, np.asarray(split.targets)
    probabilities, answers = predicted["probabilities"], decisions(run.task, predicted)
    classes = scores_of_classes(labels, answers, len(names))
    import sklearn.metrics  # here: loading it takes half a second of every command's start
    confusion = sklearn.metrics.confusion_matrix(labels, answers, labels=np.arange(len(names)))
    confident = probabilities.max(axis=1)
    error, bins = calibration(confident, labels == answers)
    return Findings(
        _summary(run, labels, answers),
        {"classes": {name: _row_details(classes, place) for place, name in enumerate(names)},
         **_means(classes), "calibration": {"expected_calibration_error": error, "bins": bins}},
        _tables(names, classes), _pictures(names, confusion, confident, bins, error),
        mistakes(run, split, labels, answers, confident),
        "wrong answers, the most confident first",
        {"classes": _sheet(names, classes), "confusion": Sheet(
            ["label", *names], [[name, *row] for name, row in zip(
                names, confusion.tolist(), strict=True)])})


def scores_of_classes(labels: np.ndarray, answers: np.ndarray, count: int) -> Classes:
    """The Classes of int [n] twice, for `count` classes; 0 where a score is not defined."""
    import sklearn.metrics  # here, see above
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        labels, answers, labels=np.arange(count), zero_division=0.0)
    return Classes(precision, recall, f1, support, np.bincount(answers, minlength=count))


def calibration(confident: np.ndarray, is_right: np.ndarray) -> tuple[float, list[dict[str, Any]]]:
    """The expected calibration error, and the bins that it is made of.

    ECE = sum over bins of |B| / n * |accuracy(B) - mean confidence(B)|, with M = 15 bins
    ((m - 1) / M, m / M] of equal width (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3).

    Args:
      confident: float [n], the probability of the class that was answered.
      is_right: bool [n].

    Returns:
      float in [0, 1], and {"count", "confidence", "accuracy"} of each bin that is not empty.
    """
    confident = confident.astype(np.float64)
    numbers = np.clip(np.ceil(confident * BINS).astype(int) - 1, 0, BINS - 1)
    bins = [{"count": int(inside.sum()), "confidence": float(confident[inside].mean()),
             "accuracy": float(is_right[inside].mean())}
            for number in np.unique(numbers) for inside in [numbers == number]]
    return sum(row["count"] * abs(row["accuracy"] - row["confidence"])
               for row in bins) / len(confident), bins


def mistakes(run, split, labels, answers, confident) -> Sheet:
    """The most confident wrong answers: texts, label, prediction, probability."""
    names, is_pair = run.task.labels, run.task.is_pair
    wrong = np.flatnonzero(labels != answers)
    order = wrong[np.argsort(-confident[wrong], kind="stable")][:MOST_MISTAKES]
    rows = [[split.rows[place].text_a, *([split.rows[place].text_b] if is_pair else []),
             names[labels[place]], names[answers[place]], f"{confident[place]:.4f}"]
            for place in order]
    return Sheet(["text", *(["text_b"] if is_pair else []), "label", "prediction",
                  "probability"], rows)


def _summary(run, labels, answers):
    """What a manager wants to know of the split."""
    counts = np.bincount(labels, minlength=len(run.task.labels))
    frequent = escaped(run.task.labels[counts.argmax()])
    texts = counted(len(labels), "text pair" if run.task.is_pair else "text")
    return (f"The model assigns the right class to **{percent(np.mean(labels == answers))}** of "
            f"{texts}; always answering the most frequent class, “{frequent}”, would be right for "
            f"{percent(counts.max() / len(labels))}.")


def _means(classes):
    """Means over the classes that are present; the macro F1 is metrics.macro_f1."""
    columns = {"precision": classes.precision, "recall": classes.recall, "f1": classes.f1}
    return {"macro_mean": {name: float(values[classes.present].mean())
                           for name, values in columns.items()},
            "weighted_mean": {name: float(np.average(values, weights=classes.support))
                              for name, values in columns.items()}}


def _row_details(classes, place):
    return {"precision": float(classes.precision[place]), "recall": float(classes.recall[place]),
            "f1": float(classes.f1[place]), "support": int(classes.support[place]),
            "predicted": int(classes.predicted[place])}


def _sheet(names, classes):
    return Sheet(["label", "precision", "recall", "f1", "support", "predicted"], [
        [name, *(f"{column[place]:.4f}" for column in classes[:3]),
         int(classes.support[place]), int(classes.predicted[place])]
        for place, name in enumerate(names)])


_HEADER = ("class", "precision", "recall", "F1", "examples", "predicted")


def _tables(names, classes):
    """One table of all classes, or those of the worst and of the most frequent ones."""
    means = [[f"*{words}*", *(f"{value:.3f}" for value in values.values()),
              f"{classes.support.sum():,}", f"{classes.predicted.sum():,}"]
             for words, values in zip(("mean of the classes", "mean, weighted by examples"),
                                      _means(classes).values(), strict=True)]
    note = ("Precision: share of the answers of a class that are right. Recall: share of its "
            "examples that are found. F1: the harmonic mean of both.")
    order = np.arange(len(names))
    if len(names) <= MOST_ROWS:
        return [Table("", _HEADER, [*_rows(names, classes, order), *means], note)]
    scored, half = order[classes.support > 0], MOST_ROWS // 2
    worst = scored[np.lexsort([-classes.support[scored], classes.f1[scored]])][:half]
    frequent = scored[np.argsort(-classes.support[scored], kind="stable")][:half]
    return [Table(f"The {len(frequent)} most frequent of {len(names)} classes", _HEADER,
                  [*_rows(names, classes, frequent), *means]),
            Table(f"The {len(worst)} classes with the lowest F1", _HEADER,
                  _rows(names, classes, worst), f"{note} The CSV file has all classes.")]


def _rows(names, classes, places):
    """Rows of the table of classes; a class that is not present has no scores."""
    return [[escaped(names[place]), *(f"{column[place]:.3f}" if classes.present[place] else "–"
                                      for column in classes[:3]),
             f"{classes.support[place]:,}", f"{classes.predicted[place]:,}"] for place in places]


def _pictures(names, confusion, confident, bins, error):
    chosen, cells = displayed(names, confusion)
    rest = "" if len(chosen) == len(names) else (
        f" Of {len(names)} classes it shows the {len(chosen)} with most mistakes; the CSV file "
        "has all.")
    return [
        Picture("confusion", "Confusion matrix",
                "Rows are the true classes, with their numbers of examples, columns what the model "
                "answered. The diagonal is right; a dark cell beside it is a class that is taken "
                f"for another.{rest}",
                lambda figures: figures.confusion([clipped(names[place], 24) for place in chosen],
                                             cells, confusion.sum(axis=1)[chosen])),
        Picture("calibration", "Calibration",
                "Can the probabilities be trusted? On the diagonal they can: of the answers that "
                "get 80 %, 80 % are right. Points below it are overconfident. Expected calibration "
                f"error: {percent(error)} (mean distance from the diagonal, {BINS} bins).",
                lambda figures: figures.reliability(bins, confident, BINS, error))]


def displayed(names: tuple[str, ...], confusion: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The classes that a confusion matrix shows, and their part of it.

    Up to ten classes, and numbers, are in the order of the labels; others by their number of
    examples. Of more than MOST_ROWS classes it shows those with most mistakes.
    """
    support, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    places = np.flatnonzero((support > 0) | (answered > 0))
    if len(places) > MOST_ROWS:
        wrong = support + answered - 2 * confusion.diagonal()
        places = np.sort(places[np.argsort(-wrong[places], kind="stable")][:MOST_ROWS])
    if len(places) > 10 and not all(names[place].lstrip("+-").isdecimal() for place in places):
        places = places[np.argsort(-support[places], kind="stable")]
    return places.tolist(), confusion[np.ix_(places, places)]

