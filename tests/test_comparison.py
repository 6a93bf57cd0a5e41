"""Two results on the same draws, point by point."""
import json
import math

import numpy as np
import pytest

from adapter_bert import files
from adapter_bert.__main__ import main
from adapter_bert.errors import InputError
from adapter_bert.research.meta import start_comparison
from adapter_bert.research.meta.intervals import mean_and_interval


def draws(*accuracies, seed=0):
    return [{"seed": seed, "domain": "books", "draw": number, "accuracy": accuracy}
            for number, accuracy in enumerate(accuracies)]


def write(path, found_of, **changes):
    points = [start_comparison.point(shots, found) for shots, found in found_of.items()]
    path.write_text(json.dumps({
        "data": "d" * 64, "draws_of": {"seeds": [0], "num_query": 10}, "test_domains": ["books"],
        "points": points, **changes}))
    return str(path)


@pytest.fixture(name="plain")
def fixture_plain(tmp_path):
    return write(tmp_path / "plain.json", {0: draws(0.4, 0.6), 8: draws(0.5, 0.9)})


def test_differences_are_those_of_the_same_draws(tmp_path, plain, capsys):
    meta = write(tmp_path / "meta.json", {8: draws(0.6, 0.98)[::-1], 80: draws(1, 1)})
    (shots, first, second, difference), = start_comparison.compare(meta, plain)
    assert (shots, first.mean, second.mean) == (8, pytest.approx(0.79), 0.7)
    assert difference.mean == pytest.approx(0.09)
    assert difference.margin == pytest.approx(12.7062 * 0.01, rel=1e-4)   # t of 1 degree
    assert difference.margin < first.margin
    main(["compare", meta, plain, "--names=meta,plain"])
    said = capsys.readouterr().out
    assert "| shots | meta, % | plain, % |" in said and "| 8 | 79.0" in said and "+9.0" in said


def test_of_several_seeds_each_is_one_value(tmp_path):
    one = start_comparison.mean_of(draws(0.4, 0.6) + draws(0.7, 0.9, seed=1))
    assert one == start_comparison.mean_of(draws(0.5, 0.8)) and one.size == 2
    paths = [write(tmp_path / f"{name}.json", {8: draws(*first) + draws(*second, seed=1)})
             for name, first, second in (("a", (0.5, 0.7), (0.3, 0.5)), ("b", (0.4, 0.6), (0, 0)))]
    (_, _, _, difference), = start_comparison.compare(*paths)
    assert difference.mean == pytest.approx(0.25) and difference.size == 2
    assert difference.margin == pytest.approx(12.7062 * 0.15, rel=1e-4)


def test_so_many_intervals_hold_where_the_draws_of_a_seed_err_together():
    random, held, pooled = np.random.default_rng(0), 0, 0
    for _ in range(500):
        found = [one for seed in range(5) for one in draws(
            *(random.normal(0.7, 0.05) + random.normal(0, 0.02, 8)), seed=seed)]
        ours = start_comparison.mean_of(found)
        others = mean_and_interval([draw["accuracy"] for draw in found])
        held += ours.low < 0.7 < ours.high
        pooled += others.low < 0.7 < others.high
    assert 460 < held < 490 and pooled < 350


@pytest.mark.parametrize("points", [[{"shots": 8}], [{"shots": 8, "draws": []}], 5,
                                    [{"shots": 8, "draws": [{"seed": 0, "accuracy": 1}]}],
                                    [{"shots": 8, "draws": [{**draws(0)[0], "accuracy": "all"}]}],
                                    [{"shots": 8, "draws": draws(0.5, math.nan)}],
                                    [{"shots": 8, "draws": draws(0.5, seed=[])}],
                                    [{"shots": 8, "draws": draws(1, 0) + draws(1, seed=1)}]])
def test_points_that_no_run_writes(tmp_path, plain, points):
    other = write(tmp_path / "other.json", {}, points=points)
    with pytest.raises(InputError, match="other.json: .* measure it again"):
        start_comparison.compare(plain, other)


@pytest.mark.parametrize("changes, message", [
    ({"data": "e" * 64}, "other draws, data is"),
    ({"draws_of": {"seeds": [0, 1], "num_query": 10}}, "other draws, draws_of is"),
    ({"test_domains": ["music"]}, "test_domains is"),
    ({"points": [start_comparison.point(8, draws(0.5, 0.6, 0.7))]}, "other draws of 8 shots"),
    ({"points": [start_comparison.point(16, draws(0.5))]}, "no number of shots in common")])
def test_other_draws_are_not_compared(tmp_path, plain, changes, message):
    other = write(tmp_path / "other.json", {8: draws(0.5)}, **changes)
    with pytest.raises(InputError, match=message):
        start_comparison.compare(plain, other)


def test_a_table_and_the_points_of_a_curve(plain):
    points = files.read_json(plain)["points"]
    whole = start_comparison.point(None, draws(0.5, 0.7))
    assert list(start_comparison.table([points[1], whole]))[2:] == [
        "| 8 | 70.0 ± 254.1 | 2 |", "| all examples of the test domains | 60.0 ± 127.1 | 2 |"]
    assert [(shots, estimate.mean) for shots, estimate in start_comparison.estimates(plain)] == [
        (0, 0.5), (8, 0.7)]
