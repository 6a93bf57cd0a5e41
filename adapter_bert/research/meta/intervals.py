"""Means of repeated measurements, never without how far they may be off."""
import math
from typing import NamedTuple

import numpy as np
import scipy.stats


class Estimate(NamedTuple):
    """A mean and its confidence interval.

    Attributes:
      mean: float.
      margin: float, half the width of the interval; None of a single value, which shows no spread.
      size: how many values it is of.
    """
    mean: float
    margin: float | None
    size: int

    @property
    def low(self):
        """The lower end of the interval; -infinity where it is not known."""
        return self.mean - self.margin if self.margin is not None else -math.inf

    @property
    def high(self):
        """The upper end of the interval; infinity where it is not known."""
        return self.mean + self.margin if self.margin is not None else math.inf

    def percent(self, signed=False):
        """The estimate in percent for people, as in "83.1 ± 1.2" or, `signed`, "+2.0 ± 0.8"."""
        mean = f"{100 * self.mean:{'+' if signed else ''}.1f}"
        return mean if self.margin is None else f"{mean} ± {100 * self.margin:.1f}"

    def to_dict(self):
        """As results.json has it: {"mean", "low", "high", "count"}; null where not known."""
        known = self.margin is not None
        return {"mean": self.mean, "low": self.low if known else None,
                "high": self.high if known else None, "count": self.size}


def mean_and_interval(values, level=0.95):
    """The mean of independent values with its confidence interval of Student's t.

        mean ± t((1 + level) / 2, n - 1) * s / sqrt(n),  s^2 = sum (value - mean)^2 / (n - 1)

    Args:
      values: floats [n], n >= 1.
      level: the probability that such an interval holds the true mean.

    Returns:
      Estimate.
    """
    values = np.asarray(values, np.float64)
    if len(values) == 1:
        return Estimate(float(values[0]), None, 1)
    error = values.std(ddof=1) / math.sqrt(len(values))
    margin = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * error
    return Estimate(float(values.mean()), float(margin), len(values))
