"""Intervals against numbers worked out by hand and against what they promise."""
import json
import math

import numpy as np
import pytest

from adapter_bert.research.meta.intervals import mean_and_interval

T_3 = 3.182446305284263   # 97.5 % of Student's t with 3 degrees of freedom, from a table


def test_the_interval_by_hand():
    found = mean_and_interval([1.0, 2.0, 3.0, 6.0])   # s^2 = (4 + 1 + 0 + 9) / 3
    assert found.mean == 3.0 and found.size == 4
    assert found.margin == pytest.approx(T_3 * math.sqrt(14 / 3) / 2, rel=1e-12)
    assert (found.low, found.high) == (3.0 - found.margin, 3.0 + found.margin)


def test_a_single_value_claims_nothing():
    found = mean_and_interval([0.7])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.percent() == "70.0"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == {
        "mean": 0.7, "low": None, "high": None, "count": 1}


def test_equal_values_have_no_margin():
    assert mean_and_interval([0.5, 0.5]).percent() == "50.0 ± 0.0"


def test_so_many_intervals_hold_the_true_mean():
    random = np.random.default_rng(0)
    held = {level: np.mean([found.low < 1 < found.high for found in (
        mean_and_interval(random.normal(1, 2, 5), level) for _ in range(1000))])
        for level in (0.95, 0.5)}
    assert 0.93 < held[0.95] < 0.97 and 0.46 < held[0.5] < 0.54
