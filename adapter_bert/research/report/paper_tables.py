"""The paper's tables of an experiment, as Markdown and CSV, and which result files each cell is of.
"""
import csv
import io

import numpy as np

from adapter_bert.research.report import mode_comparison, table_cells
from adapter_bert.research.sweep import grid

NOTHING, UNDONE = "–", "\\*"
MARGIN = 1.0   # points that the mean over tasks may lose, by the upper bound


def markdown(experiment, done, compared):
    """The text of the tables.

    Args:
      experiment: config.Experiment.
      done: what table_cells.read_all returns.
      compared: what `comparisons` returns.
    """
    rows = table_cells.rows(experiment)
    parts = [
        "## Scores, each setting chosen on one half of dev and reported on the other",
        "Mean and standard error over seeds, in points; the halves swapped and averaged.",
        *score_table(experiment, done, rows, table_cells.Cell.points_held_out,
                     table_cells.Cell.share_held_out),
        "## Best on dev",
        "The same, chosen and reported on all of dev, as the paper's development scores are.",
        *score_table(experiment, done, rows, table_cells.Cell.points_best,
                     table_cells.Cell.share_best),
        f"{UNDONE} Some of its runs are not done: the numbers may change. Where a row has not all "
        "tasks, total and mean name the count of those that it has."]
    if compared:
        parts += ["## Full tuning against the others",
                  f"Points that full tuning is better by, and in brackets the one-sided "
                  f"{mode_comparison.CONFIDENCE:.0%} upper bound (how: the top of "
                  "`adapter_bert/research/report/mode_comparison.py`).",
                  *difference_table(experiment, done, rows, compared)]
    return joined(parts)


def sweeps(experiment):
    """The text of what was tried: flags, and each mode's sweep."""
    return joined([
        "## What was run",
        f"Every run: {flags_in_words(experiment.settings)}.",
        *(f"{kind} {row.name}: {flags_in_words(row.settings)}."
          for kind, rows in (("Task", experiment.tasks), ("Mode", experiment.modes))
          for row in rows if row.settings),
        *sweep_table(experiment)])


def flags_in_words(settings):
    """{flag: value} as it is given on a command line."""
    return " ".join(f"`--{name}={value}`" for name, value in settings.items()) or "no flags"


def sweep_table(experiment):
    """Lines of a table of each mode's sweep; tasks that have the same one are a line."""
    yield header(["mode", "tasks", "tuning", "learning rates", "epochs", "sizes",
                  "init_stddevs", "seeds"])
    for mode in experiment.modes:
        alike = {}
        for task in experiment.tasks:
            if mode.does(task.name):
                sweep = (tuple(task.epochs_of(mode)), grid.seeds_of(experiment, task, mode))
                alike.setdefault(sweep, []).append(task.name)
        for (epochs, seeds), names in alike.items():
            lists = (mode.learning_rates, epochs, mode.sizes, mode.init_stddevs)
            yield line([mode.name, ", ".join(names), mode.tuning,
                        *(", ".join(map(str, values)) or NOTHING for values in lists),
                        str(seeds)])


def joined(parts):
    """Paragraphs and the lines of tables as one text."""
    text = ""
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        is_inside = part.startswith("|") and following.startswith("|")
        text += part + ("\n" if is_inside else "\n\n")
    return text.rstrip("\n") + "\n"


def score_table(experiment, done, rows, points, share):
    """Lines of a table of all rows and tasks.

    Args:
      experiment, done: as for `markdown`.
      rows: list of table_cells.Row.
      points, share: functions of a table_cells.Cell -> float [S], and float.
    """
    yield header(["", "total parameters", "trained a task",
                  *(f"{task} {metric}" for task, metric in metrics(experiment).items()), "mean"])
    for row in rows:
        yield score_line(experiment, done, row, points, share)


def score_line(experiment, done, row, points, share):
    """A row's line of a table, see `score_table`."""
    found = {task.name: table_cells.cell(done, task.name, row) for task in experiment.tasks}
    scores = {task: points(cell) for task, cell in found.items() if cell}
    shares = [share(cell) for cell in found.values() if cell]
    undone = {task.name for task in experiment.tasks
              if table_cells.missing(experiment, done, task, row)}
    planned = [task for task in found if row.mode.does(task)]
    is_whole = all(task in scores for task in planned)
    count = "" if len(planned) == len(found) else f" ({counted(len(planned))})"
    return line([
        row.label,
        f"{table_cells.total_parameters(shares, row):.2f}x{count}" if is_whole else NOTHING,
        percent(np.mean(shares)) if shares else NOTHING,
        *(with_error(scores[task]) + UNDONE * (task in undone) if task in scores else NOTHING
          for task in found),
        f"{np.mean([one.mean() for one in scores.values()]):.1f}{count}" if is_whole else NOTHING])


def counted(tasks):
    """A count of tasks in words."""
    return f"{tasks} task{'s' * (tasks != 1)}"


def percent(share):
    """A share as a text, two digits where it is small."""
    if share > 0.995:
        return f"{share:.0%}"
    return f"{share:.1%}" if share > 0.01 else f"{100 * share:.2g}%"


def metrics(experiment):
    """{task name: its metric} in the order of the tasks."""
    return {run.task.name: grid.metric_of(experiment, run) for run in grid.plan(experiment)}


def with_error(points):
    """Mean and standard error over seeds of float [S], as a text."""
    error = error_of(points)
    return f"{points.mean():.1f}" + ("" if error is None else f" ± {error:.1f}")


def header(names):
    """The first two lines of a table, the columns of numbers to the right."""
    return f"{line(names)}\n|---|{'---:|' * (len(names) - 1)}"


def line(values):
    """A line of a table."""
    return f"| {' | '.join(values)} |"


def reference_row(rows, task):
    """The row of full tuning of a task's name, the first there is; None where there is none."""
    return next((row for row in rows if row.mode.tuning == "full" and row.mode.does(task)), None)


def compared_tasks(experiment, row):
    """[(config.TaskRow, the Row of full tuning)] of the tasks that a row is held against it on."""
    rows = table_cells.rows(experiment)
    pairs = [(task, reference_row(rows, task.name)) for task in experiment.tasks
             if row.mode.does(task.name)]
    return [(task, reference) for task, reference in pairs if reference not in (None, row)]


def comparisons(experiment, done):
    """{row's label: mode_comparison.Difference of each task to full tuning, and of their mean}.

    None stands where one is missing, and for the mean where one of those that are planned is.
    Rows that are compared on no task are left out.
    """
    found = {}
    for row in table_cells.rows(experiment):
        some = {task.name: difference(done, task.name, row, reference)
                for task, reference in compared_tasks(experiment, row)}
        if some:
            mean = (
                mode_comparison.mean_difference(list(some.values())) if all(some.values()) else None
            )
            found[row.label] = [*(some.get(task.name) for task in experiment.tasks), mean]
    return found


def difference(done, task, row, reference):
    """The mode_comparison.Difference of two rows on a task; None where one has no runs."""
    pair = [table_cells.cell(done, task, one) for one in (reference, row)]
    return mode_comparison.difference(*(cell.sample() for cell in pair)) if all(pair) else None


def difference_table(experiment, done, rows, compared):
    """Lines of the table of differences, and a sentence on the claim for whole modes."""
    yield header(["", *(task.name for task in experiment.tasks), "mean"])
    for label, found in compared.items():
        yield line([label, *map(in_words, found)])
    for row in rows:
        mean = compared.get(row.label, [None])[-1]
        if mean and mean.bound is not None and row.is_whole_mode:
            pairs = compared_tasks(experiment, row)
            undone = sum(table_cells.missing(experiment, done, task, one)
                         for task, reference in pairs for one in (row, reference))
            yield verdict(row, mean, by_others(done, row, pairs), len(pairs), undone)


def by_others(done, row, pairs):
    """Points that full tuning is better by in the mean of `compared_tasks`, where each seed is
    scored at the setting that the other seeds chose."""
    found = [[table_cells.cell(done, task.name, one).points_by_others().mean()
              for one in (reference, row)] for task, reference in pairs]
    return float(np.mean([reference - points for reference, points in found]))


def difference_records(experiment, compared):
    """`comparisons` as JSON values, of each row and task and of the mean."""
    names = [*(task.name for task in experiment.tasks), "mean"]
    return {label: {name: one and {"difference": one.value, "bound": one.bound}
                    for name, one in zip(names, found, strict=True)}
            for label, found in compared.items()}


def in_words(difference):
    """A mode_comparison.Difference as a text."""
    if difference is None:
        return NOTHING
    bound = "" if difference.bound is None else f" ({difference.bound:+.1f})"
    return f"{difference.value:+.1f}{bound}"


def verdict(row, mean, without_say, tasks, undone):
    """What the mean over tasks says of the paper's claim for a row; nothing before all is done.

    Args:
      row: table_cells.Row.
      mean: its mode_comparison.Difference of the mean over tasks.
      without_say: the difference `by_others`.
      tasks: how many.
      undone: how many runs are not done.
    """
    if undone:
        return (f"**{row.label}**: {undone} runs of it and of full tuning are not done, so nothing "
                "is said of it yet.")
    holds = round(mean.bound, 2) < MARGIN   # as it is printed: drawings move the third digit
    return (f"**{row.label}**: {mean.value:+.2f} points behind full tuning in the mean of "
            f"{counted(tasks)}, at most {mean.bound:+.2f} with {mode_comparison.CONFIDENCE:.0%} "
            f"confidence: that it loses less than {MARGIN:g} point is {'' if holds else 'not '}"
            f"shown. Where the other seeds choose each seed's setting it is {without_say:+.2f} "
            "behind.")


def records(experiment, done):
    """Every cell as a dict: scores, settings, and the result files that it is made of."""
    found = []
    of_tasks = metrics(experiment)
    for row in table_cells.rows(experiment):
        for task in experiment.tasks:
            cell = table_cells.cell(done, task.name, row)
            if cell:
                missing = table_cells.missing(experiment, done, task, row)
                found.append(record(row, task.name, of_tasks[task.name], cell, missing))
    return found


def record(row, task, metric, cell, missing):
    """A table_cells.Cell as JSON values; `missing` runs of it are not done."""
    held_out, on_all = cell.points_held_out(), cell.points_best()
    return {
        "row": row.label, "task": task, "metric": metric, "seeds": len(held_out),
        "runs_missing": missing,
        "held_out": float(held_out.mean()), "held_out_by_seed": held_out.tolist(),
        "held_out_standard_error": error_of(held_out),
        "best": float(on_all.mean()), "best_by_seed": on_all.tolist(),
        "best_standard_error": error_of(on_all),
        "trained_parameters": cell.best[0].result["trained_parameters"],
        "share_trained": cell.share_best(),
        **{name: {"point": some[0].run.point, "files": [one.run.name + ".json" for one in some]}
           for name, some in (("chosen_on_first_half", cell.chosen[0]),
                              ("chosen_on_second_half", cell.chosen[1]),
                              ("chosen_on_all", cell.best))}}


def error_of(points):
    """Standard error over seeds; None for one seed."""
    return float(points.std(ddof=1) / len(points) ** 0.5) if len(points) > 1 else None


def as_csv(found):
    """The plain columns of `records` as CSV."""
    text = io.StringIO()
    names = [name for name, value in (found[0] if found else {}).items()
             if not isinstance(value, (list, dict))]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()
