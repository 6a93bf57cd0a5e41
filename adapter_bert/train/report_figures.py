"""The pictures of a report, as Matplotlib figures; imported only where one is drawn.

Letters: C classes, n examples.
"""
import contextlib
import logging
import warnings

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from adapter_bert.palette import COLOURS, STYLE
from adapter_bert.train.findings import clipped, counted

DOTS = 120
BLUE, ORANGE, GREEN, GREY = *COLOURS[:3], "#777777"
SHARES = LinearSegmentedColormap.from_list("shares", ["#FFFFFF", BLUE])
# Fonts with letters that Matplotlib's own lacks; those that are installed are used.
_MORE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "WenQuanYi Zen Hei",
               "PingFang SC", "Microsoft YaHei", "Arial Unicode MS", "Noto Sans Arabic",
               "Noto Sans Devanagari")


@contextlib.contextmanager
def style():
    """How pictures look while the block runs: the palette's style, smaller text, more letters."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)   # it reports each font it looks for
    installed = {font.name for font in font_manager.fontManager.ttflist}
    own = {**STYLE, "font.size": 12, "axes.titlesize": 13, "legend.frameon": False,
           "axes.axisbelow": True, "text.parse_math": False,
           "font.family": ["DejaVu Sans", *filter(installed.__contains__, _MORE_FONTS)]}
    with matplotlib.rc_context(own), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def save(figure: Figure, file) -> None:
    """Writes a figure as PNG, the same bytes each time."""
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", dpi=DOTS, bbox_inches="tight", pad_inches=0.15,
                   metadata={"Software": None})


def learning_curve(losses: list[tuple[int, float]], scores: list[tuple[int, float]], metric: str,
                   kept: int, baseline: tuple[str, float] | None) -> Figure:
    """Training loss and dev score over the steps.

    Args:
      losses: (step, mean training loss since the entry before).
      scores: (step, dev score) of several evaluations, or none.
      metric: name of the dev score.
      kept: the step of the checkpoint in use.
      baseline: name and dev score of the baseline; None for none.
    """
    figure = Figure((9, 6 if losses and scores else 4), layout="constrained")
    panels = figure.subplots(bool(losses) + bool(scores), sharex=True, squeeze=False)[:, 0]
    if losses:
        _losses(panels[0], losses)
    if scores:
        _scores(panels[-1], scores, metric, kept, baseline)
    panels[-1].set_xlabel("training step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    return figure


def running_mean(values: np.ndarray, count: int) -> np.ndarray:
    """The mean of each value and up to count - 1 values before it; float [n]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - count)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _losses(axes, losses):
    steps, values = (np.array(column) for column in zip(*losses, strict=True))
    every = steps[-1] - steps[-2] if len(steps) > 1 else steps[0]
    count = max(3, len(values) // 20) if len(values) >= 10 else 1
    if count > 1:
        axes.plot(steps, values, color=GREY, alpha=0.5, linewidth=1,
                  label=f"mean of {counted(every, 'step')}")
    axes.plot(steps, running_mean(values, count), color=BLUE,
              marker="o" if len(values) == 1 else None,
              label=f"running mean of {counted(count * every, 'step')}")
    axes.set_ylabel("training loss")
    axes.margins(y=0.1)
    if values.min() < values.max() / 2:
        axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def _scores(axes, scores, metric, kept, baseline):
    steps, values = zip(*scores, strict=True)
    axes.plot(steps, values, color=ORANGE, marker="s", markersize=6, label=f"dev {metric}")
    for step, value in scores:
        if step == kept:
            axes.plot([step], [value], linestyle="", marker="*", markersize=17, color=GREEN,
                      label=f"checkpoint in use: step {step:,}")
    if baseline:
        axes.axhline(baseline[1], color=GREY, linestyle="--", linewidth=1.5,
                     label=f"baseline: {baseline[0]}")
    axes.set_ylabel(f"dev {metric}")
    axes.margins(y=0.15)
    axes.legend(loc="best")


def confusion(names: list[str], counts: np.ndarray, support: np.ndarray) -> Figure:
    """A confusion matrix, coloured by the share of each true class.

    Args:
      names: of the C classes.
      counts: int [C, C], true class by predicted class.
      support: int [C], examples of each class, also those predicted as a class not shown.
    """
    size = len(names)
    longest = max(map(len, names))
    side = min(10.0, max(3.0, 0.36 * size + 1.4))
    font = 12 if size <= 12 else 10
    margin = 1.6 + 0.011 * font * (longest + 8)
    figure = Figure((side + margin + 1.0, side + margin), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(1, support)[:, np.newaxis]
    image = axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    _numbers(axes, counts, shares, side * 72 / size)
    flat = longest <= 9 and size <= 5
    axes.set_xticks(range(size), names, rotation=0 if flat else 90, fontsize=font)
    axes.set_yticks(range(size), [f"{name} ({count:,})" for name, count in zip(
        names, support, strict=True)], fontsize=font)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (examples)")
    axes.grid(False)
    axes.spines[:].set_visible(True)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class", aspect=25,
                    format=FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    return figure


def _numbers(axes, counts, shares, points):
    """Writes the counts into cells that are `points` wide, unless they would be unreadable."""
    digits = len(f"{counts.max():,}")
    font = min(13.0, points * 0.5, points * 0.9 / (0.65 * digits))
    if font < 6:
        return
    for place in np.argwhere(counts):
        row, column = place
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center",
                  fontsize=font, color="white" if shares[row, column] > 0.55 else "black")


def reliability(bins: list[dict], confident: np.ndarray, count: int, error: float) -> Figure:
    """A reliability diagram above a histogram of the probabilities.

    Args:
      bins: as of class_report.calibration.
      confident: float [n], probability of each answer.
      count: bins from 0 to 1.
      error: expected calibration error.
    """
    figure = Figure((7, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.5,
               label="perfectly calibrated")
    above.plot([row["confidence"] for row in bins], [row["accuracy"] for row in bins],
               color=BLUE, linewidth=1.5)
    sizes = np.array([row["count"] for row in bins])
    above.scatter([row["confidence"] for row in bins], [row["accuracy"] for row in bins],
                  s=30 + 300 * sizes / sizes.max(), color=BLUE, zorder=3,
                  label="answers (area: how many)")
    above.set_ylabel("share of right answers")
    above.set_title(f"expected calibration error {100 * error:.1f} %")
    above.set_ylim(-0.04, 1.04)
    above.legend(loc="upper left", markerscale=0.6)
    below.hist(confident, bins=np.linspace(0, 1, count + 1), color=BLUE, edgecolor="white")
    below.set_ylabel("answers")
    below.set_xlabel("probability of the answered class")
    below.set_xlim(-0.02, 1.02)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axis in (above.xaxis, above.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    return figure


def scatter(targets: np.ndarray, scores: np.ndarray) -> Figure:
    """Predicted against true scores, float [n] twice."""
    figure = Figure((7, 7), layout="constrained")
    axes = figure.subplots()
    least, most = (function(function(targets), function(scores)) for function in (min, max))
    margin = 0.04 * (most - least) or 1.0
    ends = [least - margin, most + margin]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.5, label="prediction is right")
    axes.scatter(targets, scores, s=26, color=BLUE, linewidths=0, label="one example",
                 alpha=float(np.clip(40 / np.sqrt(len(targets)) / 4, 0.08, 0.7)))
    axes.set(xlabel="true score", ylabel="predicted score", xlim=ends, ylim=ends)
    axes.set_title(correlations(targets, scores))
    axes.set_aspect("equal")
    for handle in filter(None, axes.legend(loc="upper left").legend_handles):
        handle.set_alpha(1)
    return figure


def correlations(targets: np.ndarray, scores: np.ndarray) -> str:
    """Pearson's and Spearman's correlation as a title."""
    from adapter_bert.kinds.metrics import pearson, spearman
    return f"Pearson {pearson(targets, scores):.3f}, Spearman {spearman(targets, scores):.3f}"


def bars_of_types(types: dict[str, dict]) -> Figure:
    """Precision, recall and F1 of entity types, side by side.

    Args:
      types: {type: {"precision", "recall", "f1" in [0, 1], "support"}}, drawn from the top.
    """
    figure = Figure((9, 1.6 + 0.62 * len(types)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(types))
    for number, (key, words, colour) in enumerate((
            ("precision", "precision", BLUE), ("recall", "recall", ORANGE), ("f1", "F1", GREEN))):
        axes.barh(places + (number - 1) * 0.26, [row[key] for row in types.values()], 0.24,
                  color=colour, label=words)
    for place, row in enumerate(types.values()):
        axes.text(row["f1"] + 0.008, place + 0.26, f"{row['f1']:.2f}", va="center", fontsize=11)
    axes.set_yticks(places, [f"{clipped(name, 24)} ({row['support']:,})"
                             for name, row in types.items()])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05)
    axes.set_xlabel("score (1 is perfect)")
    axes.grid(False, axis="y")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def bars_of_groups(groups: dict[str, dict], words: str) -> Figure:
    """Exact match and F1 of groups of questions, with the numbers of questions.

    Args:
      groups: {name: {"exact", "f1" in percent, "questions"}}.
      words: label of the axis of groups.
    """
    figure = Figure((9, 5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(groups))
    for number, (key, name, colour) in enumerate((("exact", "exact match", BLUE),
                                                  ("f1", "F1", ORANGE))):
        bars = axes.bar(places + (number - 0.5) * 0.4, [row[key] for row in groups.values()], 0.38,
                        color=colour, label=name)
        axes.bar_label(bars, fmt="%.0f", fontsize=11, padding=2)
    axes.set_xticks(places, [f"{clipped(name, 24)}\n({row['questions']:,})"
                             for name, row in groups.items()],
                    fontsize=12 if len(groups) <= 7 else 11)
    axes.set_xlabel(f"{words} (questions)")
    axes.set_ylabel("score, %")
    axes.set_ylim(0, 108)
    axes.grid(False, axis="x")
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
