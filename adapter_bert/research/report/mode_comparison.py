"""Whether one mode is as good as another: the difference of their scores, and how sure it is.

The dev set is cut into two halves. A mode's setting is chosen on one half by its mean over seeds
and reported on the other, and the other way round; a seed's score is the mean of the two reports.

    difference = mean over seeds of the reference - mean over seeds of the mode
    bound      = difference + t * sqrt(V),     V = V_examples + V_seeds

V_seeds is s^2 / count of the seeds of the one and of the other. V_examples is the variance of the
difference when the dev examples of each half are drawn again with replacement, the same ones for
both modes (bootstrap, RESAMPLINGS times, the seeds as they are), less what of it is in V_seeds
too: that other examples suit other seeds. Of a mode that is the variance over the drawings of each
seed's distance from the mean of the seeds, summed up, over S (S - 1). t is the 95 % quantile of
Student's t with the degrees of freedom of Welch and Satterthwaite, since seeds are few. The mean
over tasks has the mean of the differences and the sum of the variances over their count squared.

What it holds for: the settings that were chosen, trained again with other seeds and scored on
other examples, which are drawn one by one (SQuAD's questions of one text are not, nor MNLI's pairs
of one premise). The seeds that are scored have chosen, too: of settings that are equally good the
one with the luckier seeds is taken, which flatters the mode whose seeds differ more. So reports say
what the difference is where each seed is scored at the setting that the other seeds chose.

Letters: B resamplings, n examples, S seeds.
"""
import math
from typing import NamedTuple

import numpy as np
import scipy.stats

RESAMPLINGS, AT_ONCE, CONFIDENCE = 5000, 500, 0.95


class Sample(NamedTuple):
    """A mode's chosen runs on a task.

    points: function of weights float [B, n] -> float [S, B], each seed's score of two halves.
    num_examples: n.
    """

    points: object
    num_examples: int


class Difference(NamedTuple):
    """How much better the reference is, in points.

    value: the estimate.
    parts: [(variance, degrees of freedom)]; None where there are too few seeds to tell.
    """

    value: float
    parts: list | None

    @property
    def bound(self):
        """One-sided upper bound; None where there is none."""
        if self.parts is None:
            return None
        variance = sum(part for part, _ in self.parts)
        if not variance:
            return self.value
        freedom = variance**2 / sum(part**2 / count for part, count in self.parts)
        return self.value + scipy.stats.t.ppf(CONFIDENCE, freedom) * math.sqrt(variance)


def halves(count):
    """Two boolean arrays [n], a random half of the examples and the other, always the same."""
    order = np.random.default_rng(0).permutation(count)
    first = np.zeros(count, bool)
    first[order[:(count + 1) // 2]] = True
    return first, ~first


def difference(reference, mode, resamplings=RESAMPLINGS):
    """The Difference of two Samples on the same examples."""
    ones = np.ones([1, reference.num_examples])
    of_seeds = [sample.points(ones)[:, 0] for sample in (reference, mode)]     # [S] each
    value = float(of_seeds[0].mean() - of_seeds[1].mean())
    if min(map(len, of_seeds)) < 2:
        return Difference(value, None)
    parts = [[sample.points(weights) for sample in (reference, mode)]
             for weights in resampled(reference.num_examples, resamplings)]
    drawn = [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]  # [S, B] each
    of_all = (drawn[0].mean(axis=0) - drawn[1].mean(axis=0)).var(ddof=1)
    return Difference(value, [
        (float(max(of_all - sum(map(of_single_seeds, drawn)), 0.0)), reference.num_examples - 1),
        *((float(points.var(ddof=1)) / len(points), len(points) - 1) for points in of_seeds)])


def of_single_seeds(drawn):
    """What examples do to each seed of a mode apart from the others: its part in the variance of
    their mean.  Float [S, B] -> float."""
    count = len(drawn)
    return (drawn - drawn.mean(axis=0)).var(axis=1, ddof=1).sum() / (count * (count - 1))


def resampled(count, resamplings):
    """How often each example counts when each half is drawn again: float [B, n] of AT_ONCE drawings
    at the most, one after the other."""
    random, cut = np.random.default_rng(1), halves(count)
    for begin in range(0, resamplings, AT_ONCE):
        weights = np.empty([min(AT_ONCE, resamplings - begin), count])
        for half in cut:
            size = int(half.sum())
            weights[:, half] = random.multinomial(size, np.full(size, 1 / size), len(weights))
        yield weights


def mean_difference(differences):
    """The Difference of the mean over tasks."""
    value = float(np.mean([one.value for one in differences]))
    if any(one.parts is None for one in differences):
        return Difference(value, None)
    return Difference(value, [(part / len(differences)**2, freedom)
                              for one in differences for part, freedom in one.parts])
