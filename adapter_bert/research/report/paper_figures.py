"""The paper's figures: score by trained parameters, by size, by removed layers, by first values.

Heat maps are in cividis, which colour-blind readers can read as well.
"""
import os

import matplotlib
import numpy as np

from adapter_bert.palette import COLOURS, STYLE, look
from adapter_bert.research.report import paper_tables, table_cells

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

MOST_TICKS, FULL, LOWEST = 6, "full tuning", -20
PERCENTILES = (20, 50, 80)   # as in the paper's figure 3
OWN_STYLE = {**STYLE, "legend.frameon": False, "svg.hashsalt": "adapter-bert",
             "svg.fonttype": "none"}


def draw(experiment, done, output):
    """Writes each figure that there are results for as PNG and SVG.

    Args:
      experiment: config.Experiment.
      done: what table_cells.read_all returns.
      output: folder.

    Returns:
      {name of the files: caption}.
    """
    drawn = {}
    with matplotlib.rc_context(OWN_STYLE):
        for name, (function, caption) in FIGURES.items():
            figure = function(experiment, done)
            if figure:
                save(figure, os.path.join(output, name))
                drawn[name] = caption
    return drawn


def save(figure, path):
    """Writes a figure as PNG and SVG, the same bytes each time, and forgets it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    figure.savefig(f"{path}.png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    figure.savefig(f"{path}.svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def series(experiment):
    """{name: [table_cells.Row]} of the rows that are one line each: sizes, counts of layers.

    A mode joins the line of its family where at least half of the tasks of both are the same, so
    that the points of a line are comparable; else it is a line of its own.
    """
    found, tasks_of = {}, {}
    for row in table_cells.rows(experiment):
        if row.mode.tuning == "full" or row.is_choice:
            continue
        tasks = {task.name for task in experiment.tasks if row.mode.does(task.name)}
        name = family_of(row.mode)
        common = tasks_of.get(name, tasks) & tasks
        if 2 * len(common) < max(len(tasks), len(tasks_of.get(name, ()))):
            own = row.mode.name
            name, common = own if own != name else f"{own}, other tasks", tasks
        tasks_of[name] = common
        found.setdefault(name, []).append(row)
    return found


def family_of(mode):
    """The name of the line that a mode is on; one with settings of its own is a method of its own.
    """
    if mode.tuning.startswith("top_layers"):
        return "top layers"
    return "adapters" if mode.tuning == "adapters" and not mode.settings else mode.name


def curve(experiment, done, rows):
    """Trained parameters and points above full tuning, of the tasks that have every row.

    Rows that no task has yet are left out.

    Returns:
      Float [rows] and float [rows, tasks]; None where no task has all of them.
    """
    parameters, gaps = [], []
    begun = [row for row in rows if any(table_cells.cell(done, task.name, row)
                                        for task in experiment.tasks)]
    for task in experiment.tasks:
        whole = full_tuning(experiment, done, task.name)
        found = [table_cells.cell(done, task.name, row) for row in begun]
        if whole and found and all(found):
            full = whole.points_held_out().mean()
            parameters.append([cell.best[0].result["trained_parameters"] for cell in found])
            gaps.append([cell.points_held_out().mean() - full for cell in found])
    if not gaps:
        return None
    return np.mean(parameters, axis=0), np.transpose(gaps)


def full_tuning(experiment, done, task):
    """The table_cells.Cell of full tuning on a task; None where there is none."""
    reference = paper_tables.reference_row(table_cells.rows(experiment), task)
    return reference and table_cells.cell(done, task, reference)


def by_parameters(experiment, done):
    """Figures 3 and 4: points above full tuning by the count of trained values."""
    curves = {name: curve(experiment, done, rows)
              for name, rows in series(experiment).items()}
    curves = {name: found for name, found in curves.items() if found}
    if not curves:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 6))
    for number, (name, (parameters, gaps)) in enumerate(curves.items()):
        order = np.argsort(parameters)
        low, middle, high = np.percentile(gaps[order], PERCENTILES, axis=1)
        style = line_look(number)
        axes.plot(parameters[order], np.maximum(middle, LOWEST), **style,
                  label=f"{name} ({paper_tables.counted(gaps.shape[1])})")
        note_lower(axes, parameters[order], middle)
        if len(order) > 1:
            axes.fill_between(parameters[order], low, high, alpha=0.2, linewidth=0,
                              color=style["color"])
        else:
            axes.vlines(parameters[order], low, high, alpha=0.5, linewidth=4,
                        color=style["color"])
    axes.axhline(0, color="#000000", linestyle="--", linewidth=1.5, label=FULL)
    axes.set(xscale="log", xlabel="trained parameters of a task",
             ylabel=f"score − {FULL} (points)")
    if axes.texts:
        axes.set_ylim(bottom=LOWEST - 1)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return figure


def note_lower(axes, x, values):
    """Writes the values below LOWEST, where the axis ends, so that those near 0 are far apart."""
    for place, value in zip(x, values, strict=True):
        if value < LOWEST:
            axes.annotate(f"−{-value:.0f} ↓", (place, LOWEST), xytext=(12, -5),
                          textcoords="offset points")


def line_look(number):
    """The look of a line, of which no two of a figure have the same; full tuning's is dashed."""
    return look(number, ("-", ":", "-.")[number // len(COLOURS) % 3])


def by_size(experiment, done):
    """Score by adapter size, a panel a task; of SQuAD this is the paper's figure 5."""
    rows = [row for row in table_cells.rows(experiment) if row.size is not None]
    names = [task for task in paper_tables.metrics(experiment)
             if len({row.size for row in rows if table_cells.cell(done, task, row)}) > 1]
    if not names:
        return None
    figure, panels = panels_of(len(names))
    for axes, task in zip(panels, names, strict=True):
        size_panel(axes, experiment, done, task)
        axes.legend(loc="best")
    return figure


def panels_of(count):
    """A figure and `count` axes, two in a row, so that text stays large beside them."""
    columns = min(2, count)
    lines = -(-count // columns)
    figure, panels = pyplot.subplots(lines, columns, figsize=(5.5 * columns + 1, 5 * lines),
                                     squeeze=False, layout="constrained")
    for axes in panels.flat[count:]:
        axes.remove()
    return figure, list(panels.flat[:count])


def size_panel(axes, experiment, done, task):
    """A task's score by size, with the standard error over seeds, and that of full tuning."""
    sizes = set()
    for number, (name, rows) in enumerate(series(experiment).items()):
        found = {row.size: table_cells.cell(done, task, row) for row in rows if row.size}
        found = {size: cell.points_held_out() for size, cell in sorted(found.items()) if cell}
        sizes |= found.keys()
        if found:
            axes.errorbar(
                list(found),
                [points.mean() for points in found.values()],
                [paper_tables.error_of(points) or 0 for points in found.values()],
                capsize=4,
                label=name,
                **line_look(number),
            )
    whole = full_tuning(experiment, done, task)
    if whole:
        axes.axhline(whole.points_held_out().mean(), color="#000000", linestyle="--",
                     linewidth=1.5, label=FULL)
    sizes = sorted(sizes)
    sizes = sizes[::-(-len(sizes) // MOST_TICKS)]
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, sizes)
    axes.set(xlabel="adapter size", title=task,
             ylabel=f"{paper_tables.metrics(experiment)[task]} (points)")


def by_first_values(experiment, done):
    """Score by the standard deviation of the adapters' first weights (figure 6, right)."""
    lines = {}
    for (task, mode), some in done.runs.items():
        for scored in some:
            if scored.run.mode.init_stddevs:
                found = lines.setdefault((task, mode), {})
                found.setdefault(scored.run.point["init_stddev"], []).append(whole_score(scored))
    if not lines:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 5.5))
    for number, ((task, mode), found) in enumerate(lines.items()):
        stddevs = sorted(found)
        axes.errorbar(stddevs, [np.mean(found[stddev]) for stddev in stddevs],
                      [paper_tables.error_of(np.array(found[stddev])) or 0 for stddev in stddevs],
                      label=f"{task} {paper_tables.metrics(experiment)[task]}, {mode}", capsize=4,
                      **line_look(number))
    axes.set(xscale="log", xlabel="standard deviation of the first weights",
             ylabel="dev score (points)")
    axes.legend(loc="best")
    return figure


def whole_score(scored):
    """Points of a table_cells.Scored on all of dev."""
    return scored.points(np.ones([1, table_cells.count_of(scored)]))[0]


def by_removed_layers(experiment, done):
    """Figure 6, left: a heat map a task of what is lost without the adapters of a span."""
    del experiment
    found = {}
    for (task, _), some in done.runs.items():
        ablated = [scored for scored in some if "spans" in scored.result]
        if ablated:
            found.setdefault(task, max(ablated, key=whole_score))
    if not found:
        return None
    figure, panels = panels_of(len(found))
    losses = {task: lost(scored) for task, scored in found.items()}
    span = [function([function(values) for values in losses.values()])
            for function in (np.nanmin, np.nanmax)]
    for axes, (task, values) in zip(panels, losses.items(), strict=True):
        image = heat_map(axes, values, span[0], max(0.0, span[1]))
        axes.set_title(f"{task}, {found[task].run.mode.name}: {whole_score(found[task]):.1f}")
    figure.colorbar(image, ax=panels, label="change of the score (points)", shrink=0.8)
    return figure


def lost(scored):
    """Points above the whole model's, float [first layer, last layer]; NaN below the diagonal."""
    spans = scored.result["spans"]
    layers = 1 + max(last for _, last, _ in spans)
    values = np.full([layers, layers], np.nan)
    for first, last, points in spans:
        values[first, last] = points - whole_score(scored)
    return values


def heat_map(axes, values, least, most):
    """Draws a heat map of values from `least` to `most`, with its numbers; returns the image."""
    image = axes.imshow(values, cmap="cividis", vmin=least, vmax=most)
    size = 15 if len(values) <= 6 else 8
    for (first, last), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
            axes.text(last, first, text, ha="center", va="center", fontsize=size,
                      color="white" if image.norm(value) < 0.5 else "black")
    axes.set(xlabel="last layer without adapters", ylabel="first layer without adapters")
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return image


FIGURES = {
    "parameters": (by_parameters, "Score above full tuning by the count of trained parameters: "
                   "median of the tasks, and 20th to 80th percentile."),
    "sizes": (by_size, "Score by the adapters' size, with the standard error over seeds; a point "
              "without one is of a single seed. Each size has rates of its own, see below."),
    "spans": (by_removed_layers, "What is lost when the trained adapters of the layers from first "
              "to last are removed, without training again."),
    "init_stddev": (by_first_values, "Dev score by the standard deviation of the adapters' first "
                    "weights, with the standard error where there are several seeds."),
}
