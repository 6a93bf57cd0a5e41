"""The cells of the tables: of a task and a row the runs that are there, and the setting chosen.

A row is a mode, or of several sizes each, and then one more for the best of them.

Letters: B parts of a dev set, n examples, S seeds.
"""
import collections
import functools
from typing import NamedTuple

import numpy as np

from adapter_bert.errors import InputError
from adapter_bert.research.report import mode_comparison, paper_scores
from adapter_bert.research.sweep import grid, result_files
from adapter_bert.research.sweep.experiment_config import Mode


class Row(NamedTuple):
    """A line of a table: a mode, with one size or, where `size` is None, all it has or none."""

    label: str
    mode: Mode
    size: int | None

    @property
    def is_whole_mode(self):
        """Whether it is not one of several sizes of its mode."""
        return self.size is None or len(self.mode.sizes) == 1

    @property
    def is_choice(self):
        """Whether it is the best of several sizes."""
        return self.size is None and bool(self.mode.sizes)


class Scored(NamedTuple):
    """A run that is done.

    points: function of weights float [B, n] -> float [B].
    result: what its file holds.
    """

    run: grid.Planned
    result: dict
    points: object


class Done(NamedTuple):
    """What is done of an experiment.

    runs: {(task name, mode name): [Scored]}, without those of settings that went wrong.
    failed: {grid.setting_of} of these: a setting that went wrong with one seed is not chosen.
    """

    runs: dict[tuple[str, str], list[Scored]]
    failed: set[tuple]


class Cell(NamedTuple):
    """What a table says of a row on a task.

    best: the Scoreds of the setting that is best on the whole dev set, a seed each.
    chosen: those chosen on the first half and on the second, with the same seeds.
    by_others: the same, each seed at the setting that the other seeds chose.
    num_examples: n.

    Points and shares come in two ways: what one half of dev chose, of the other half (held out),
    and what all of dev chose, of all of it (best).
    """

    best: list[Scored]
    chosen: tuple[list[Scored], list[Scored]]
    by_others: tuple[list[Scored], list[Scored]]
    num_examples: int

    def points_best(self):
        """Points of the best setting on the dev set that chose it, float [S]."""
        whole = np.ones([1, self.num_examples])
        return np.array([scored.points(whole)[0] for scored in self.best])

    def sample(self):
        """The mode_comparison.Sample: what one half chose, scored on the other."""
        return mode_comparison.Sample(
            lambda weights: swapped(self.chosen, weights), self.num_examples
        )

    def points_held_out(self):
        """Points of each seed on the halves that did not choose, float [S]."""
        return swapped(self.chosen, np.ones([1, self.num_examples]))[:, 0]

    def points_by_others(self):
        """Points of each seed, which had no say in the choice, on halves that had none: [S]."""
        return swapped(self.by_others, np.ones([1, self.num_examples]))[:, 0]

    def share_best(self):
        """Trained values of the best setting by those of the encoder."""
        return share_trained(self.best[0])

    def share_held_out(self):
        """The same of the two settings that the halves chose, their mean."""
        return float(np.mean([share_trained(some[0]) for some in self.chosen]))


def swapped(chosen, weights):
    """Each seed's score of two halves, float [B, n] -> [S, B]: what one chose, on the other.

    Args:
      chosen: the Scoreds that the first half chose, and those that the second did.
      weights: how often each example counts.
    """
    first, second = (weights * half for half in mode_comparison.halves(weights.shape[1]))
    return np.array([(one.points(second) + other.points(first)) / 2
                     for one, other in zip(*chosen, strict=True)])


def rows(experiment):
    """The Rows of an Experiment; modes that are for the figure of init_stddev have none."""
    found = []
    for mode in experiment.modes:
        if mode.init_stddevs:
            continue
        if len(mode.sizes) > 1:
            found += [Row(mode.label(size), mode, size) for size in mode.sizes]
            found.append(Row(f"{mode.name}, best size", mode, None))
        else:
            found.append(Row(mode.name, mode, *(mode.sizes or [None])))
    return found


def read_all(experiment, folder):
    """The Done of an Experiment in a results folder."""
    found, dev = collections.defaultdict(list), functools.cache(
        functools.partial(result_files.read_dev, folder))
    planned = grid.plan(experiment)
    failed = {grid.setting_of(run) for run in planned if result_files.is_failed(folder, run.name)}
    for run in planned:
        if result_files.is_done(folder, run.name) and grid.setting_of(run) not in failed:
            found[run.task.name, run.mode.name].append(
                scored_of(experiment, folder, run, dev(run.task.name)))
    return Done(found, failed)


def scored_of(experiment, folder, run, targets):
    """The Scored of a grid.Planned that is done, held against {split: targets}.

    Raises:
      InputError: its file is damaged, or is that of another run.
    """
    result, path = (
        result_files.read(folder, run.name),
        result_files.path_of(folder, result_files.RUNS, run.name),
    )
    flags = {**run.flags, "precision": result["flags"]["precision"]}   # auto: as it turned out
    if (result["task"], result["seed"], result["flags"]) != (run.task.name, run.seed, flags):
        raise result_files.damaged(path, "it holds another run")
    metric, predicted = grid.metric_of(experiment, run), result["predictions"]["dev"]
    if len(targets["dev"]) < 2:
        raise InputError(f"{run.task.name}: its dev set has {len(targets['dev'])} examples; one "
                         "half chooses and the other reports, so give 2 or more")
    paper_scores.check(path, targets["kind"], targets["dev"], predicted)
    return Scored(
        run, result, paper_scores.scorer(targets["kind"], metric, targets["dev"], predicted)
    )


def cell(done, task, row):
    """The Cell of a task's name and a Row; None where too little is done yet.

    A sweep that is not over has some settings with fewer seeds than others. They are chosen from by
    the seeds that all of them have.
    """
    settings = collections.defaultdict(dict)
    for scored in done_of(done, task, row):
        settings[grid.setting_of(scored.run)][scored.run.seed] = scored
    seeds = set.intersection(*map(set, settings.values())) if settings else set()
    if not seeds:
        return None
    comparable = [[some[seed] for seed in sorted(seeds)] for some in settings.values()]
    count = count_of(comparable[0][0])
    halves = mode_comparison.halves(count)
    return Cell(best(comparable, np.ones(count)), tuple(best(comparable, half) for half in halves),
                tuple(best_by_others(comparable, half) for half in halves), count)


def done_of(done, task, row):
    """The Scoreds of a task's name and a Row."""
    return [scored for scored in done.runs.get((task, row.mode.name), ())
            if row.size in (None, scored.run.point["size"])]


def missing(experiment, done, task, row):
    """How many runs of a config.TaskRow and a Row have no result, but for settings that went wrong.
    """
    if not row.mode.does(task.name):
        return 0
    settings = sum(row.size in (None, point["size"]) and
                   grid.setting(task, row.mode, point) not in done.failed
                   for point in grid.points(task, row.mode))
    return (settings * grid.seeds_of(experiment, task, row.mode)
            - len(done_of(done, task.name, row)))


def count_of(scored):
    """n of a Scored."""
    return len(scored.result["predictions"]["dev"])


def best(settings, part):
    """The Scoreds of the setting with the highest mean over seeds on a part of dev, float [n].

    Of equal ones the first.
    """
    return settings[int(np.argmax(points_of(settings, part).mean(axis=1)))]


def best_by_others(settings, part):
    """For each seed the Scored of the setting that is best on a part of dev by the other seeds.

    Of equal ones the first; a single seed chooses for itself.
    """
    points = points_of(settings, part)                          # [settings, S]
    others = points.sum(axis=1, keepdims=True) - points if points.shape[1] > 1 else points
    return [settings[number][seed] for seed, number in enumerate(others.argmax(axis=0))]


def points_of(settings, part):
    """Points of lists of Scoreds on a part of dev, float [settings, S]."""
    weights = np.asarray(part, float)[None]
    return np.array([[one.points(weights)[0] for one in some] for some in settings])


def share_trained(scored):
    """Trained values of a Scored by those of the encoder."""
    return scored.result["trained_parameters"] / scored.result["encoder_parameters"]


def total_parameters(shares, row):
    """What tasks need together, by what one encoder has: the base once unless it changes."""
    return (row.mode.tuning != "full") + sum(shares)
