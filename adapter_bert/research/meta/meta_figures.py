"""Figures of meta-learning, as PNG files."""
import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adapter_bert import files
from adapter_bert.palette import COLOURS, STYLE, look

DASHES = ("-", "--", "-.", ":")
INCHES, DOTS = (9, 6), 120


def few_shot_curves(path, curves, test_domains):
    """Draws query accuracy against the examples of the new domain that were learned from.

    Args:
      path: of the PNG file.
      curves: {name of a line: list of (shots, statistics.Estimate)}; a band is its interval.
      test_domains: names, for the title.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _empty(f"New domains: {', '.join(test_domains)}")
        shots = sorted({shots for points in curves.values() for shots, _ in points})
        for number, (name, points) in enumerate(curves.items()):
            points = sorted(points, key=lambda point: point[0])
            _line(axes, number, name, [shots.index(count) for count, _ in points],
                  [estimate for _, estimate in points])
        axes.set_xticks(range(len(shots)), map(str, shots))
        axes.set_xlabel("shots: labelled examples of the new domain, in all")
        axes.set_ylabel("query accuracy, %")
        _finish(axes)
        _save(path, figure)


def learning_curve(path, losses, validation):
    """Draws how the outer loop went: the query loss, and the accuracy on meta-validation domains.

    Args:
      path: of the PNG file.
      losses: list of (outer step, mean query loss of its tasks).
      validation: list of (outer step, statistics.Estimate of the query accuracy).
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(INCHES, DOTS, layout="constrained")
        above, below = figure.subplots(2, sharex=True)
        if losses:
            above.plot(*zip(*losses, strict=True), color=COLOURS[0], linewidth=1.5)
        above.set_ylabel("query loss")
        if validation:
            _line(below, 1, "meta-validation domains", [step for step, _ in validation],
                  [estimate for _, estimate in validation])
            _finish(below)
        below.set_ylabel("query accuracy, %")
        below.set_xlabel("outer step")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        _save(path, figure)


def _empty(title):
    figure = Figure(INCHES, DOTS, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=15)
    return figure, axes


def _line(axes, number, name, places, estimates):
    """One line with a band of the estimates' intervals, in percent."""
    style = look(number, DASHES[number % len(DASHES)])
    means = [100 * estimate.mean for estimate in estimates]
    margins = [100 * (estimate.margin or 0) for estimate in estimates]
    axes.plot(places, means, label=name, **style)
    axes.fill_between(places, [mean - margin for mean, margin in zip(means, margins, strict=True)],
                      [mean + margin for mean, margin in zip(means, margins, strict=True)],
                      color=style["color"], alpha=0.15, linewidth=0)


def _finish(axes):
    lowest, highest = axes.get_ylim()
    axes.set_ylim(max(0, lowest), min(100, highest))
    axes.legend(title="bands: 95 % intervals", loc="best", fontsize=13, title_fontsize=12)


def _save(path, figure):
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
