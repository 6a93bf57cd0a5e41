"""What a report shows of a regression: predicted against true scores, and the largest errors.

Letters: n examples.
"""
import numpy as np

from adapter_bert.train.findings import (
    MOST_MISTAKES,
    Baseline,
    Findings,
    Picture,
    Sheet,
    Table,
    counted,
)
from adapter_bert.train.labelling import decisions

UNIT, DIGITS = "example", 3   # what it trains on; decimals of scores
WORK = "predict a score for each {text}"
MEANINGS = {
    "pearson": "correlation of predicted and true scores; 0 is chance, 1 is perfect",
    "spearman": "correlation of their ranks: are texts put in the right order?",
}


def baseline(run, targets) -> Baseline:
    """The scores of always predicting the mean: a constant correlates with nothing."""
    del targets
    return Baseline("the mean", dict.fromkeys(run.task.metrics, 0.0))


def findings(run, split, predicted: dict[str, np.ndarray]) -> Findings:
    """The Findings of a split.

    Args:
      run: resolve.Run.
      split: data.Split with scores.
      predicted: {"scores": float [n], ...} in the order of the split's rows.
    """
    targets = np.asarray(split.targets, np.float64)
    scores = decisions(run.task, predicted).astype(np.float64)
    errors = error_sizes(targets, scores)
    constant = error_sizes(targets, np.full_like(targets, targets.mean()))
    return Findings(
        _summary(run, targets, errors, constant),
        {"errors": errors, "errors_of_mean": constant},
        [_table(errors, constant)],
        [Picture("scatter", "Predicted and true scores",
                 "One point for each example; on the diagonal the prediction is right.",
                 lambda figures: figures.scatter(targets, scores))],
        mistakes(run, split, targets, scores), "the largest errors", {})


def error_sizes(targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """How far scores, float [n], are from the true ones, in the unit of these."""
    errors = np.abs(scores - targets)
    return {"mean_absolute_error": float(errors.mean()),
            "root_mean_squared_error": float(np.sqrt((errors ** 2).mean())),
            "largest_error": float(errors.max())}


def mistakes(run, split, targets, scores) -> Sheet:
    """The examples with the largest errors: texts, label, prediction, error."""
    is_pair = run.task.is_pair
    order = np.argsort(-np.abs(scores - targets), kind="stable")[:MOST_MISTAKES]
    rows = [[split.rows[place].text_a, *([split.rows[place].text_b] if is_pair else []),
             f"{targets[place]:.6g}", f"{scores[place]:.4g}",
             f"{scores[place] - targets[place]:+.4g}"] for place in order]
    return Sheet(["text", *(["text_b"] if is_pair else []), "label", "prediction", "error"], rows)


def _summary(run, targets, errors, constant):
    texts = counted(len(targets), "text pair" if run.task.is_pair else "text")
    return (f"The predicted scores of {texts} are off by "
            f"**{errors['mean_absolute_error']:.3g}** on average, where the true ones lie between "
            f"{targets.min():.3g} and {targets.max():.3g}; always predicting their mean would be "
            f"off by {constant['mean_absolute_error']:.3g}.")


def _table(errors, constant):
    return Table("", ("error", "this model", "always the mean"), [
        [name.replace("_", " "), f"{value:.3g}", f"{constant[name]:.3g}"]
        for name, value in errors.items()])
