"""How long a sweep will take, from the runs that are done."""
import collections
import statistics


def measured(planned, done):
    """{(task, mode): [seconds an epoch]} of the Planned runs that are done, start-up included.

    Args:
      planned: list of grid.Planned.
      done: {name of a run: its seconds}.
    """
    found = collections.defaultdict(list)
    for run in planned:
        if run.name in done:
            found[run.task.name, run.mode.name].append(done[run.name] / run.point["epochs"])
    return found


def seconds_left(experiment, open_runs, found, workers):
    """Seconds that the open runs will take together; None while nothing is known.

    Args:
      experiment: config.Experiment, whose epoch_seconds stand in for what is not measured.
      open_runs: list of grid.Planned.
      found: what `measured` returns.
      workers: how many are done at once.
    """
    known = {(task, mode): [float(seconds)] for task, modes in experiment.epoch_seconds.items()
             for mode, seconds in modes.items()} | found
    if not known:
        return None
    mean = {key: statistics.mean(values) for key, values in known.items()}
    of_all = statistics.mean(mean.values())
    return sum(mean.get((run.task.name, run.mode.name), of_all) * run.point["epochs"]
               for run in open_runs) / max(1, min(workers, len(open_runs)))
