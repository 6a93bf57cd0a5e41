"""Figures: what they are drawn of is in them."""
import os

import matplotlib
import pytest

from adapter_bert.research.meta import meta_figures
from adapter_bert.research.meta.intervals import Estimate

CURVES = {name: [(shots, Estimate(0.5 + 0.04 * place + 0.05 * number, 0.03 / (place + 1), 40))
                 for place, shots in enumerate((0, 8, 16, 80))]
          for number, name in enumerate(("plain base, adapters", "meta-trained, full",
                                         "meta-trained, adapters"))}
LOSSES = [(step, 0.7 * 0.99 ** step) for step in range(100)]
VALIDATION = [(step, Estimate(0.6 + step / 500, 0.05, 6)) for step in (25, 50, 75, 100)]


@pytest.fixture(name="drawn")
def fixture_drawn(monkeypatch):
    """The figures that are saved."""
    figures, save = [], meta_figures._save
    monkeypatch.setattr(meta_figures, "_save", lambda path, figure: (
        figures.append(figure), save(path, figure)))
    return figures


def test_a_line_and_a_band_for_each_curve(tmp_path, drawn):
    meta_figures.few_shot_curves(str(tmp_path / "shots.png"), CURVES, ["books", "music"])
    axes, = drawn[0].axes
    assert [line.get_label() for line in axes.lines] == list(CURVES)
    assert list(axes.lines[0].get_ydata()) == pytest.approx([50, 54, 58, 62])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((47, 62.75))
    assert len({(line.get_marker(), line.get_color()) for line in axes.lines}) == 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "8", "16", "80"]
    assert "%" in axes.get_ylabel() and "examples" in axes.get_xlabel()
    assert (tmp_path / "shots.png").read_bytes().startswith(b"\x89PNG")


def test_the_curve_of_the_outer_loop(tmp_path, drawn):
    meta_figures.learning_curve(str(tmp_path / "curve.png"), LOSSES, VALIDATION)
    above, below = drawn[0].axes
    assert len(above.lines[0].get_xdata()) == 100
    assert list(below.lines[0].get_ydata()) == pytest.approx([65, 70, 75, 80])
    meta_figures.learning_curve(str(tmp_path / "curve.png"), LOSSES, [])


def test_one_content_makes_one_file_and_no_style_is_left(tmp_path):
    before = matplotlib.rcParams["font.size"]
    for name in ("a.png", "b.png"):
        meta_figures.few_shot_curves(str(tmp_path / name), CURVES, ["books"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert matplotlib.rcParams["font.size"] == before
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]
