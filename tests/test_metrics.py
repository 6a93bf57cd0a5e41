"""Metrics against values worked out by hand, and at their edges."""
import math
import warnings

import numpy as np
import pytest

from adapter_bert.errors import InputError
from adapter_bert.kinds import generic_task, get_task
from adapter_bert.kinds.metrics import METRICS, compute_metrics

# Class 1: 2 true positives, 1 false positive, 1 false negative, 1 true negative.
LABELS = np.array([1, 1, 0, 0, 1])
PREDICTIONS = np.array([1, 0, 0, 1, 1])


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("name, labels, predictions, expected", [
    ("accuracy", LABELS, PREDICTIONS, 3 / 5),
    ("f1", LABELS, PREDICTIONS, 2 / 3),
    ("macro_f1", LABELS, PREDICTIONS, (2 / 3 + 1 / 2) / 2),
    ("matthews", LABELS, PREDICTIONS, (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2)),
    ("matthews", [0, 1, 2, 2], [0, 1, 2, 1], (3 * 4 - 5) / math.sqrt((16 - 6) * (16 - 6))),
    ("macro_f1", [0, 2], [0, 0], (2 / 3 + 0) / 2),
    ("pearson", [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], 3 / math.sqrt(2 * 42 / 9)),
    ("pearson", [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0),
    ("spearman", [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], 1.0),
    ("spearman", [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 2.0, 3.0], 4.5 / math.sqrt(5 * 4.5)),
    # Where there is nothing to correlate.
    ("matthews", [0, 1, 1], [1, 1, 1], 0.0),
    ("matthews", [1, 1], [1, 1], 0.0),
    ("f1", [0, 0], [0, 0], 0.0),
    ("f1", [0, 1], [0, 0], 0.0),
    ("pearson", [1.0, 2.0, 3.0], [2.5, 2.5, 2.5], 0.0),
    ("spearman", [1.0, 2.0, 3.0], [2.5, 2.5, 2.5], 0.0),
    ("spearman", [2.0, 2.0], [1.0, 2.0], 0.0),
    ("pearson", [1.0], [1.0], 0.0),
])
def test_value(name, labels, predictions, expected):
    value = METRICS[name](labels, predictions)
    assert type(value) is float and value == pytest.approx(expected, abs=1e-12)


def test_float32_is_correlated_in_float64():
    labels, predictions = np.float32([1, 2, 3]), np.float32([10000, 10001, 10003])
    assert METRICS["pearson"](labels, predictions) == pytest.approx(
        3 / math.sqrt(2 * 42 / 9), abs=1e-12)


@pytest.mark.parametrize("predictions", [
    [1.0, 1.0, 1 + 3e-16], [1e300, -1e300, 5.0], [1.7e308, 1.7e308, -1.7e308]])
def test_correlations_are_finite_at_the_edge_of_float64(predictions):
    for name in ("pearson", "spearman"):
        assert -1 <= METRICS[name]([1.0, 2.0, 3.0], predictions) <= 1


@pytest.mark.parametrize("name", METRICS)
def test_refuses_what_has_no_score(name):
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        METRICS[name]([], [])
    with pytest.raises(ValueError, match=r"shape \(2,\) and predictions of shape \(1,\)"):
        METRICS[name]([1, 0], [1])
    with pytest.raises(ValueError, match=r"shape \(2, 1\)"):
        METRICS[name]([[1], [0]], [[1], [0]])
    with pytest.raises(InputError, match="NaN or infinity: training diverged"):
        METRICS[name]([1.0, 2.0], [1.0, math.nan])


@pytest.mark.parametrize("task, names", [
    (get_task("CoLA"), ["accuracy", "matthews"]),
    (get_task("SST-2"), ["accuracy"]),
    (get_task("MRPC"), ["accuracy", "f1"]),
    (get_task("STS-B"), ["pearson", "spearman"]),
    (generic_task(0, None, 1), ["accuracy", "macro_f1"]),
    (generic_task(0, None, 1, kind="regression"), ["pearson", "spearman"]),
])
def test_metrics_of_a_task(task, names):
    metrics = compute_metrics(task, LABELS, PREDICTIONS)
    assert list(metrics) == names
    assert metrics == {name: METRICS[name](LABELS, PREDICTIONS) for name in names}
