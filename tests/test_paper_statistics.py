"""Scores of weighted parts of a dev set, and the bound of a difference where the truth is known."""
import math

import hypothesis
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from adapter_bert.kinds.metrics import METRICS
from adapter_bert.research.report import mode_comparison, paper_scores, table_cells


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.data(), st.integers(2, 12), st.integers(1, 4))
def test_weighted_scores_are_those_of_repeated_examples(data, count, classes):
    labels, predictions = (np.array(data.draw(st.lists(
        st.integers(0, classes - 1), min_size=count, max_size=count))) for _ in range(2))
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    hypothesis.assume(weights.any())
    rows = np.repeat(np.arange(count), weights)
    for kind, metrics in (("classification", ("accuracy", "f1", "macro_f1", "matthews")),
                          ("regression", ("pearson", "spearman"))):
        for metric in metrics:
            points = paper_scores.scorer(kind, metric, labels.tolist(), predictions.tolist())
            wanted = METRICS[metric](labels[rows], predictions[rows])
            assert points(weights[None].astype(float))[0] == pytest.approx(100 * wanted, abs=1e-6)


def test_answers_and_names_by_hand():
    answers = paper_scores.scorer("spans", "f1", [{"id": "a", "answers": ["red car", "car"]},
                                            {"id": "b", "answers": ["no"]}], ["a red car", "yes"])
    assert answers(np.array([[1, 1], [1, 0], [1, 3]])) == pytest.approx([50, 100, 25])
    names = paper_scores.scorer("tokens", "f1", [["B-PER", "I-PER", "O"], ["O", "B-LOC"]],
                          [["B-PER", "O", "O"], ["O", "B-LOC"]])
    assert names(np.array([[1, 1], [0, 1], [1, 0]])) == pytest.approx([50, 100, 0])


def test_halves_part_the_examples():
    first, second = mode_comparison.halves(9)
    assert first.sum() == 5 and (first ^ second).all()
    parts = list(mode_comparison.resampled(9, mode_comparison.AT_ONCE + 50))
    assert [len(part) for part in parts] == [mode_comparison.AT_ONCE, 50]
    weights = np.concatenate(parts)
    assert (weights @ np.transpose([first, second]) == [5, 4]).all()


def accuracies(right):
    """A Sample of made runs, bool [S, n]: which example each seed has right."""
    return mode_comparison.Sample(lambda weights: 100 * right @ weights.T / weights.sum(axis=1),
                             right.shape[1])


def made(random, rate, spread, seeds=5, hardness=None):
    """Runs whose chance to be right is about `rate`, other from seed to seed, on examples of this
    hardness, float [n]."""
    hardness = random.normal(0, 1, 300) if hardness is None else hardness
    return np.array([random.random(len(hardness)) < scipy.stats.norm.cdf(
        scipy.stats.norm.ppf(rate) * math.sqrt(2) + hardness + random.normal(0, spread))
        for _ in range(seeds)])


@pytest.mark.parametrize("spread,seeds", [(0.0, 5), (0.05, 3), (0.2, 5)])
def test_the_bound_holds_as_often_as_it_says(spread, seeds):
    random, truth, held, of_examples_alone = np.random.default_rng(0), 2.0, [], []
    for _ in range(400):
        hardness = random.normal(0, 1, 300)   # of the examples that both modes are scored on
        found = mode_comparison.difference(
            *(accuracies(made(random, rate, spread, seeds, hardness)) for rate in (0.82, 0.80)),
            resamplings=100)
        held.append(found.bound >= truth)
        alone = mode_comparison.Difference(found.value, found.parts[:1])
        of_examples_alone.append(alone.bound >= truth)
    assert 0.93 <= np.mean(held) <= 0.985
    assert np.mean(of_examples_alone) < 0.9   # without the seeds' variance it promises too much


def made_settings(random, spread):
    """Two settings that are equally good, as cells choose from."""
    return [[table_cells.Scored(None, None, lambda weights, right=right: (
        100 * weights @ right / weights.sum(axis=1)))
        for right in made(random, 0.8, spread).astype(float)] for _ in range(2)]


def test_a_seed_at_the_setting_that_others_chose_is_not_flattered():
    random, spread, found = np.random.default_rng(3), 0.4, {}
    truth = 100 * scipy.stats.norm.cdf(
        scipy.stats.norm.ppf(0.8) * math.sqrt(2 / (2 + spread**2)))
    for _ in range(300):
        settings = made_settings(random, spread)
        for choose in (table_cells.best, table_cells.best_by_others):
            chosen = [choose(settings, half) for half in mode_comparison.halves(300)]
            found.setdefault(choose, []).append(
                table_cells.swapped(chosen, np.ones([1, 300])).mean()
            )
    assert np.mean(found[table_cells.best_by_others]) == pytest.approx(truth, abs=0.7)
    assert np.mean(found[table_cells.best]) > truth + 1


def test_the_difference_of_one_with_itself_by_other_seeds():
    random = np.random.default_rng(1)
    runs = made(random, 0.8, 0.1)
    same = mode_comparison.difference(accuracies(runs), accuracies(runs))
    assert same.value == 0 and same.parts[0][0] == 0 and same.bound > 0   # the seeds' part alone
    one = mode_comparison.difference(accuracies(runs[:1]), accuracies(runs))
    assert one.bound is None


def test_the_mean_over_tasks_is_surer_than_each():
    random = np.random.default_rng(2)
    found = [mode_comparison.difference(accuracies(made(random, 0.8, 0.1)),
                                   accuracies(made(random, 0.8, 0.1))) for _ in range(4)]
    mean = mode_comparison.mean_difference(found)
    assert mean.value == pytest.approx(np.mean([one.value for one in found]))
    assert mean.bound - mean.value < min(one.bound - one.value for one in found)
    assert (
        mode_comparison.mean_difference([*found, mode_comparison.Difference(1.0, None)]).bound
        is None
    )


def test_the_bound_by_hand():
    found = mode_comparison.Difference(1.0, [(4.0, 8), (5.0, 4)])
    freedom = 81 / (16 / 8 + 25 / 4)
    assert found.bound == pytest.approx(1 + 3 * scipy.stats.t.ppf(0.95, freedom))
