"""What a person gets from a search: table, CSV file, picture, and the command of the best run."""
import csv
import io
import os
import shlex
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from adapter_bert import files
from adapter_bert.palette import COLOURS, STYLE
from adapter_bert.research.tuning import plan as plans
from adapter_bert.research.tuning import space as spaces
from adapter_bert.research.tuning.journal import NAMES, best_of, score_of
from adapter_bert.train.run import examples_a_step

CSV_FILE, PICTURE_FILE = "trials.csv", "trials.png"
MOST_ROWS = 10
PROGRAMS = {"classifier": "python run_classifier.py", "squad": "python run_squad.py"}
# Of trials by their state: colour, marker, legend.
LOOKS = {TrialState.COMPLETE: (COLOURS[0], "o", "complete"),
         TrialState.PRUNED: (COLOURS[4], "v", "pruned (best score before)")}


def in_words(plan: plans.Plan, trials: int) -> str:
    """What is searched, in a line."""
    return f"{trials} trials of {', '.join(plan.space)}, by {plan.metric} on the dev set"


def line(plan: plans.Plan, trials: Sequence[FrozenTrial], number: int, most: int) -> str:
    """How a trial ended and which is the best so far, in a line."""
    trial, best = trials[number], best_of(trials)
    score = score_of(trial)
    text = f"trial {number + 1} of {most}: {NAMES[trial.state]}"
    text += f", {plan.metric} {score:.3f}" if score is not None else ""
    text += "".join(f", {name} {shown(value)}" for name, value in trial.params.items())
    if trial.state == TrialState.FAIL:
        return f"{text}: {trial.user_attrs.get('reason')}"
    return text + (f"; best {best.value:.3f} (trial {best.number + 1})" if best else "")


def shown(value: Any) -> str:
    """A parameter's value for a table."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def write(plan: plans.Plan, trials: Sequence[FrozenTrial], best: FrozenTrial | None) -> str:
    """Writes trials.csv and trials.png; returns table, compute, and the command of the best run."""
    write_csv(plan, trials)
    draw(plan, trials)
    text = f"{table(plan, trials)}\n\n{compute(plan, trials)}\n"
    if best:
        text += (f"\nBest: trial {best.number + 1}, {plan.metric} {best.value:.3f}, in "
                 f"{os.path.join(plan.folder, 'best')}. To train it again:\n\n"
                 f"{command_of(plan, best)}\n")
    return text


def table(plan: plans.Plan, trials: Sequence[FrozenTrial]) -> str:
    """The best trials in aligned columns, complete ones before pruned ones."""
    def order(trial: FrozenTrial) -> tuple:
        score = score_of(trial)
        return trial.state != TrialState.COMPLETE, -(score if score is not None else -1e9)

    rows = [["trial", plan.metric, *plan.space, "epochs trained", "state"]]
    for trial in sorted(trials, key=order)[:MOST_ROWS]:
        score = score_of(trial)
        rows.append([str(trial.number + 1), "" if score is None else f"{score:.3f}",
                     *(shown(trial.params[name]) for name in plan.space),
                     f"{examples_of(plan, trial) / plan.train.examples:.1f}", NAMES[trial.state]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
                     for row in rows)


def examples_of(plan: plans.Plan, trial: FrozenTrial) -> float:
    """Training examples that a trial processed."""
    return trial.user_attrs.get("step", 0) * examples_a_step(plan.settings, plan.train)


def compute(plan: plans.Plan, trials: Sequence[FrozenTrial]) -> str:
    """How much was trained, and by how much less than in a full grid, in a line."""
    examples = sum(examples_of(plan, trial) for trial in trials)
    grid = spaces.full_grid(plan.space, plan.settings.num_train_epochs)
    share = examples / (grid.epochs * plan.train.examples)
    return (f"{examples:,.0f} training examples processed, {share:.1%} of a full grid of "
            f"{grid.settings} settings")


def command_of(plan: plans.Plan, trial: FrozenTrial) -> str:
    """The command that trains a trial again, with all flags."""
    flags = plan.run_flags(trial.params, os.path.join(plan.folder, "again"))
    return " ".join([PROGRAMS[plan.command], *(
        shlex.quote(f"--{name}={value}") for name, value in flags.items())])


def write_csv(plan: plans.Plan, trials: Sequence[FrozenTrial]) -> None:
    """Writes a row per trial into trials.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", plan.metric, *plan.space, "steps", "examples", "seconds",
                     "reason"])
    for trial in trials:
        noted = trial.user_attrs
        writer.writerow([trial.number + 1, NAMES[trial.state], score_of(trial),
                         *(trial.params[name] for name in plan.space), noted.get("step"),
                         round(examples_of(plan, trial)), noted.get("seconds"),
                         noted.get("reason")])
    files.write_text(os.path.join(plan.folder, CSV_FILE), text.getvalue())


def draw(plan: plans.Plan, trials: Sequence[FrozenTrial]) -> None:
    """Draws score by trial with the best so far, and score by each parameter, into trials.png."""
    style: Any = STYLE
    with matplotlib.rc_context(style):
        names = list(plan.space)
        columns = min(3, 1 + len(names))
        lines = -(-(1 + len(names)) // columns)
        figure = Figure((5.5 * columns, 4.5 * lines), 100, layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[1 + len(names):]:
            axes.remove()
        _by_number(panels.flat[0], trials)
        for axes, name in zip(panels.flat[1:], names, strict=False):
            _by_parameter(axes, plan.space[name], name, trials)
        for row in panels:
            row[0].set_ylabel(f"dev {plan.metric}")
        figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=3, frameon=False)
        with files.replacing(os.path.join(plan.folder, PICTURE_FILE)) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _by_number(axes: Axes, trials: Sequence[FrozenTrial]) -> None:
    """Scores in the order of the trials, and a line of the best so far."""
    _points(axes, trials, [trial.number + 1 for trial in trials])
    best, places, line_ = None, [], []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = trial.value if best is None else max(best, trial.value)
        if best is not None:
            places.append(trial.number + 1)
            line_.append(best)
    axes.plot(places, line_, color=COLOURS[1], drawstyle="steps-post", label="best so far")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _by_parameter(axes: Axes, parameter: spaces.Parameter, name: str,
                  trials: Sequence[FrozenTrial]) -> None:
    """Scores by the values of a parameter."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        _points(axes, trials, [distribution.choices.index(trial.params[name]) for trial in trials])
        axes.set_xticks(range(len(distribution.choices)), map(str, distribution.choices))
        axes.set_xlim(-0.5, len(distribution.choices) - 0.5)
    else:
        _points(axes, trials, [trial.params[name] for trial in trials])
        if isinstance(distribution, FloatDistribution):
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(name.replace("_", " "))


def _points(axes: Axes, trials: Sequence[FrozenTrial], places: Sequence[float]) -> None:
    """Scores of complete and pruned trials at these places of the x axis."""
    for state, (colour, marker, label) in LOOKS.items():
        found = [(place, score) for place, trial in zip(places, trials, strict=True)
                 if trial.state == state and (score := score_of(trial)) is not None]
        axes.scatter([place for place, _ in found], [score for _, score in found], s=60,
                     color=colour, marker=marker, label=label)
