"""Tables and figures of made results: numbers by hand, every cell of files that are there."""
import csv
import os
import pathlib
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from packs import tiny_pack
from sweeps import adapters, full, made_results, write_config

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.research.report import (
    mode_comparison,
    paper_figures,
    paper_report,
    paper_tables,
    table_cells,
)
from adapter_bert.research.sweep import experiment_config, grid, layer_ablation, result_files

ROOT = pathlib.Path(__file__).resolve().parent.parent
RATES = {"full": 0.85, "adapters": 0.8, "head": 0.6, "stddevs": 0.7}


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory, tiny_dir):
    """Experiment, results folder and report of four modes on two tasks."""
    tmp_path = tmp_path_factory.mktemp("made")
    path = write_config(tmp_path, tiny_dir, [
        full(learning_rates=[1e-3, 1e-4]), adapters(sizes=[1, 4], spans=True),
        full(name="head", tuning="head", tasks=["films"]),
        adapters(name="stddevs", init_stddevs=[1e-4, 1.0], sizes=[4], seeds=1)],
        tasks=[{"name": name, "task": "SST-2", "data_dir": str(tmp_path)}
               for name in ("films", "plots")], seeds=3)
    folder, output = str(tmp_path / "results"), str(tmp_path / "report")

    def rate(run):   # of the two rates of full tuning the second is far better
        return RATES[run.mode.name] - 0.3 * (run.flags["learning_rate"] == 1e-3)
    experiment = made_results(folder, path, rate)
    paper_report.write(experiment, folder, output)
    return experiment, folder, output


def right(folder, name, part):
    """Accuracy in points of the result file on a part of dev, bool [n]."""
    result = result_files.read(folder, name)
    labels = np.array(result_files.read_dev(folder, result["task"])["dev"])
    return 100 * (np.array(result["predictions"]["dev"]) == labels)[part].mean()


def test_every_cell_follows_from_the_files_it_names(made):
    experiment, folder, output = made
    found = files.read_json(os.path.join(output, "cells.json"))
    assert {(one["row"], one["task"]) for one in found} == {
        (row.label, task) for row in table_cells.rows(experiment) for task in ("films", "plots")
    } - {("head", "plots")}
    first, second = mode_comparison.halves(200)
    for one in found:
        by_first, by_second = ([name.removesuffix(".json") for name in one[key]["files"]]
                               for key in ("chosen_on_first_half", "chosen_on_second_half"))
        wanted = [(right(folder, name, second) + right(folder, other, first)) / 2
                  for name, other in zip(by_first, by_second, strict=True)]
        assert len(wanted) == 3 and one["held_out"] == pytest.approx(np.mean(wanted))
        assert one["held_out_standard_error"] == pytest.approx(np.std(wanted, ddof=1) / 3**0.5)
        everything = [right(folder, name.removesuffix(".json"), slice(None))
                      for name in one["chosen_on_all"]["files"]]
        assert one["best"] == pytest.approx(np.mean(everything))
        if one["row"] == "full":
            assert one["chosen_on_all"]["point"]["learning_rate"] == 1e-4


def test_a_setting_is_chosen_without_the_half_it_is_reported_on(made, tmp_path):
    """Predictions that are right on one half alone are chosen there, and reported at nothing."""
    experiment, folder = made[0], shutil.copytree(made[1], tmp_path / "results")
    first, _ = mode_comparison.halves(200)
    for run in grid.plan(experiment):
        if (run.task.name, run.mode.name) == ("films", "full"):
            result = files.read_object(result_files.path_of(folder, result_files.RUNS, run.name))
            labels = np.array(result_files.read_dev(folder, "films")["dev"])
            is_right = first if run.flags["learning_rate"] == 1e-3 else ~first
            result["predictions"]["dev"] = np.where(is_right, labels, 1 - labels).tolist()
            files.write_json(result_files.path_of(folder, result_files.RUNS, run.name), result)
    row = paper_tables.reference_row(table_cells.rows(experiment), "films")
    cell = table_cells.cell(table_cells.read_all(experiment, folder), "films", row)
    assert cell.points_held_out().tolist() == [0, 0, 0] and cell.points_best().max() == 50


def test_the_tables(made):
    _, _, output = made
    text = pathlib.Path(output, "README.md").read_text(encoding="utf-8")
    found = {(one["row"], one["task"]): one
             for one in files.read_json(os.path.join(output, "cells.json"))}
    for row, share in (("full", "2.00x | 100%"), ("adapters 4", "1.01x | 0.4%")):
        both = [found[row, task] for task in ("films", "plots")]
        for key in ("held_out", "best"):
            scores = " | ".join(f"{one[key]:.1f} ± {one[key + '_standard_error']:.1f}"
                                for one in both)
            mean = (both[0][key] + both[1][key]) / 2
            assert f"| {row} | {share} | {scores} | {mean:.1f} |\n" in text
    less = found["full", "films"]["held_out"] - found["head", "films"]["held_out"]
    assert f"| head | {less:+.1f} (" in text
    compared = files.read_json(os.path.join(output, "differences.json"))
    assert compared["head"]["films"]["difference"] == pytest.approx(less)
    assert compared["head"]["films"]["bound"] > less and compared["head"]["plots"] is None
    assert compared["head"]["mean"] == compared["head"]["films"]
    assert "| head | 2.00x (1 task) | 100% |" in text   # it lacks a task
    assert "**adapters, best size**: +" in text and "**adapters 4**" not in text
    with open(os.path.join(output, "table.csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["row"], row["task"]): float(row["best"]) for row in rows} == {
        key: one["best"] for key, one in found.items()}


def test_what_was_run_is_told(made):
    text = pathlib.Path(made[2], "README.md").read_text(encoding="utf-8")
    assert "Every run: `--max_seq_length=16` `--train_batch_size=8`" in text
    assert "| full | films, plots | full | 0.001, 0.0001 | 1 | – | – | 3 |\n" in text
    assert "| head | films | head | 0.001 | 1 | – | – | 3 |\n" in text
    assert "| stddevs | films, plots | adapters | 0.01 | 1 | 4 | 0.0001, 1.0 | 1 |\n" in text


def test_modes_with_half_their_tasks_in_common_are_one_line(tmp_path, tiny_dir):
    tasks = [{"name": name, "task": "SST-2", "data_dir": str(tmp_path)} for name in "abcd"]
    path = write_config(tmp_path, tiny_dir, [
        adapters(), adapters(name="sizes", sizes=[1, 8], tasks=["a", "b"]),
        adapters(name="apart", tasks=["d"])], tasks=tasks)
    assert {name: [row.label for row in rows]
            for name, rows in paper_figures.series(experiment_config.read(path)).items()} == {
        "adapters": ["adapters", "sizes 1", "sizes 8"], "apart": ["apart"]}


def test_parameters_of_all_tasks(made):
    """Made results: 1,000 x 100 trained values of 100,000 for full tuning, 400 for adapters."""
    experiment, folder, _ = made
    scored = table_cells.read_all(experiment, folder)
    totals = {}
    for row in table_cells.rows(experiment):
        found = [table_cells.cell(scored, task, row) for task in ("films", "plots")]
        if all(found):
            totals[row.label] = table_cells.total_parameters(
                [cell.share_best() for cell in found], row)
    assert totals["full"] == pytest.approx(2.0)
    assert totals["adapters 4"] == pytest.approx(1.008)


def test_the_figures_and_what_their_axes_say(made):
    _, _, output = made
    for name, labels in (
            ("parameters", ("trained parameters of a task", "score − full tuning (points)")),
            ("sizes", ("adapter size", "accuracy (points)", "films", "plots")),
            ("spans", ("first layer without adapters", "change of the score (points)")),
            ("init_stddev", ("standard deviation of the first weights", "dev score (points)"))):
        with open(os.path.join(output, f"{name}.png"), "rb") as file:
            assert file.read(4) == b"\x89PNG"
        texts = {text.strip() for text in ElementTree.parse(
            os.path.join(output, f"{name}.svg")).getroot().itertext()}
        assert set(labels) <= texts
        assert any(text.endswith("↓") for text in texts) == (name == "parameters")   # the head


def test_a_report_is_the_same_each_time(made):
    experiment, folder, output = made
    before = {name: files.sha256(os.path.join(output, name)) for name in os.listdir(output)}
    paper_report.write(experiment, folder, output)
    assert before == {name: files.sha256(os.path.join(output, name))
                      for name in os.listdir(output)}


@pytest.mark.parametrize("kind,changes,message", [
    ("runs", {"predictions": {"dev": [0]}}, "no predictions for 200 examples of classification"),
    ("runs", {"predictions": {"dev": [-1] * 200}}, "no predictions for 200 examples"),
    ("runs", {"predictions": {"dev": [10**6] * 200}}, "no predictions for 200 examples"),
    ("runs", {"predictions": {}}, "dev cannot be"),
    ("runs", {"seconds": "x", "versions": {}}, "seconds, tensorflow cannot be"),
    ("runs", {"encoder_parameters": 0}, "encoder_parameters cannot be"),
    ("runs", {"seed": 7}, "it holds another run"),
    ("dev", {"kind": "odd"}, "no predictions for 200 examples of odd"),
    ("dev", {"dev": 3}, "it holds no lists of targets; .* remove it and a result of films"),
    ("dev", {"dev": [1]}, "its dev set has 1 examples"),
    (".", {"base": None}, "does not say which base and data .* bring it back"),
])
def test_a_damaged_file_is_one_line(made, tmp_path, kind, changes, message):
    experiment, folder = made[0], str(shutil.copytree(made[1], tmp_path / "results"))
    name = {"runs": grid.plan(experiment)[0].name, "dev": "films", ".": "experiment"}[kind]
    path = result_files.path_of(folder, kind, name)
    files.write_json(path, {**files.read_object(path), **changes})
    with pytest.raises(InputError, match=message) as caught:
        paper_report.write(experiment, folder, str(tmp_path / "report"))
    assert "\n" not in str(caught.value)
    pathlib.Path(path).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not readable as JSON .*; (remove|bring) it"):
        paper_report.write(experiment, folder, str(tmp_path / "report"))


def test_half_a_sweep_has_a_report(made, tmp_path):
    experiment, folder = made[0], str(shutil.copytree(made[1], tmp_path / "results"))
    for run in grid.plan(experiment):
        if run.seed or run.task.name == "plots":
            os.remove(result_files.path_of(folder, result_files.RUNS, run.name))
    written = paper_report.write(experiment, folder, str(tmp_path / "half"))
    assert (written.done, written.planned) == (2 + 2 + 1 + 2, 2 * (6 + 6 + 2) + 3)
    text = pathlib.Path(written.path).read_text(encoding="utf-8")
    assert paper_tables.NOTHING in text and f"{paper_tables.UNDONE} |" in text
    for run in grid.plan(experiment):
        if result_files.is_done(folder, run.name):
            os.remove(result_files.path_of(folder, result_files.RUNS, run.name))
    with pytest.raises(InputError, match="no result of this experiment is there yet$"):
        paper_report.write(experiment, folder, str(tmp_path / "none"))
    result_files.write_failure(folder, grid.plan(experiment)[0].name, "it diverged")
    with pytest.raises(InputError, match="is there yet; 1 runs went wrong: .* --retry_failed"):
        paper_report.write(experiment, folder, str(tmp_path / "none"))


def test_a_run_that_is_missing_does_not_change_what_is_chosen(made, tmp_path):
    experiment, folder = made[0], str(shutil.copytree(made[1], tmp_path / "results"))
    for run in grid.plan(experiment):   # of the far better rate of full tuning
        if (run.mode.name, run.seed, run.flags["learning_rate"]) == ("full", 2, 1e-4):
            os.remove(result_files.path_of(folder, result_files.RUNS, run.name))
    text = pathlib.Path(
        paper_report.write(experiment, folder, str(tmp_path / "report")).path
    ).read_text(encoding="utf-8")
    found = files.read_json(str(tmp_path / "report" / "cells.json"))
    assert {(one["runs_missing"], one["seeds"], one["chosen_on_all"]["point"]["learning_rate"])
            for one in found if one["row"] == "full"} == {(1, 2, 1e-4)}
    assert "**adapters, best size**: 2 runs of it and of full tuning are not done" in text
    assert " is shown." not in text and " is not shown." not in text


def test_a_setting_that_went_wrong_with_a_seed_is_not_chosen(made, tmp_path):
    experiment, folder = made[0], str(shutil.copytree(made[1], tmp_path / "results"))
    for run in grid.plan(experiment):   # of the far better rate of full tuning
        if (run.task.name, run.mode.name, run.seed, run.flags["learning_rate"]) == (
                "films", "full", 2, 1e-4):
            os.remove(result_files.path_of(folder, result_files.RUNS, run.name))
            result_files.write_failure(folder, run.name, "it diverged")
    text = pathlib.Path(
        paper_report.write(experiment, folder, str(tmp_path / "report")).path
    ).read_text(encoding="utf-8")
    found = {one["task"]: one for one in files.read_json(str(tmp_path / "report" / "cells.json"))
             if one["row"] == "full"}
    assert (found["films"]["seeds"], found["films"]["runs_missing"]) == (3, 0)
    assert {task: one["chosen_on_all"]["point"]["learning_rate"]
            for task, one in found.items()} == {"films": 1e-3, "plots": 1e-4}
    assert "is not chosen: full on films, learning_rate 0.0001, epochs 1." in text
    assert "**adapters, best size**: -" in text   # a verdict all the same


def test_settings_without_a_seed_in_common_make_no_cell(made, tmp_path):
    experiment, folder = made[0], str(shutil.copytree(made[1], tmp_path / "results"))
    for run in grid.plan(experiment):
        if run.mode.name == "full" and (run.flags["learning_rate"] == 1e-4) == bool(run.seed):
            os.remove(result_files.path_of(folder, result_files.RUNS, run.name))
    paper_report.write(experiment, folder, str(tmp_path / "report"))
    assert "full" not in {one["row"] for one in files.read_json(
        str(tmp_path / "report" / "cells.json"))}


def test_modes_of_one_family_on_other_tasks(tmp_path, tiny_dir):
    """As in the paper's grid: sizes that two modes share, and a full tuning for each task."""
    path = write_config(tmp_path, tiny_dir, [
        full(tasks=["films", "plots"]), full(name="full of tweets", tasks=["tweets"]),
        adapters(sizes=[4, 64], tasks=["films", "plots"]),
        adapters(name="small", sizes=[2, 4], tasks=["tweets"])],
        tasks=[{"name": name, "task": "SST-2", "data_dir": "d"}
               for name in ("films", "plots", "tweets")], seeds=2)
    folder, output = str(tmp_path / "results"), tmp_path / "report"
    experiment = made_results(folder, path, lambda run: 0.8)
    paper_report.write(experiment, folder, str(output))
    compared = files.read_json(str(output / "differences.json"))
    assert {label: [task for task, found in one.items() if found]
            for label, one in compared.items()} == {
                **dict.fromkeys(("adapters 4", "adapters 64", "adapters, best size"),
                                ["films", "plots", "mean"]),
                **dict.fromkeys(("small 2", "small 4", "small, best size"), ["tweets", "mean"])}
    for name in ("parameters", "sizes"):
        text = (output / f"{name}.svg").read_text(encoding="utf-8")
        assert ">small" in text and ">adapters" in text
    assert "(2 tasks) |" in (output / "README.md").read_text(encoding="utf-8")


def test_kinds_of_one_size_have_no_figure_of_sizes(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [
        full(), adapters(sizes=[4]), adapters(name="alone", tuning="adapters_only", sizes=[4])])
    folder, output = str(tmp_path / "results"), tmp_path / "report"
    paper_report.write(made_results(folder, path, lambda run: 0.8), folder, str(output))
    assert (output / "parameters.png").exists() and not (output / "sizes.png").exists()


def test_first_values_alone_have_a_report(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [adapters(init_stddevs=[1e-4, 1.0])])
    folder, output = str(tmp_path / "results"), tmp_path / "report"
    paper_report.write(made_results(folder, path, lambda run: 0.8), folder, str(output))
    assert (output / "init_stddev.png").exists() and (output / "README.md").exists()


def test_a_span_is_removed_by_zeros():
    assert layer_ablation.spans_of(2) == [(0, 0), (0, 1), (1, 1)]
    pack = tiny_pack()
    removed = {name for name, value in layer_ablation.without(pack, 1, 1).weights.items()
               if not value.any() and pack.weights[name].any()}
    assert removed == {f"bert/encoder/layer_1/{site}/adapters/{name}"
                       for site in ("attention/output", "output")
                       for name in ("weights2", "biases2")}


@pytest.fixture(name="grids")
def fixture_grids(tmp_path, monkeypatch):
    """Function of a name -> the experiment_config.Experiment in the folder experiments."""
    for variable in ("BERT_DIR", "GLUE_DIR", "SQUAD_DIR", "SMS_DIR", "NEWSGROUPS_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))   # where base and data were is in no result
    return lambda name: experiment_config.read(str(ROOT / "experiments" / f"{name}.json"))


def test_the_paper_s_grid_has_as_many_runs_as_the_docs_say(grids):
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert f"({len(grid.plan(grids('paper'))):,} runs;" in text


@pytest.mark.parametrize("name,place", [
    ("paper_small", "."), ("seeds", "seeds"), ("pooler", "pooler")])
def test_a_report_in_docs_follows_from_its_results(tmp_path, grids, name, place):
    docs = ROOT / "docs" / "paper"
    done = paper_report.write(grids(name), str(docs / "results"), str(tmp_path))
    assert done.done == done.planned
    made, kept = (table_lines(folder / "README.md") for folder in (tmp_path, docs / place))
    assert made == kept and len(made) > 20
    for part in ("cells.json", "differences.json"):
        made, kept = (flat(files.read_json(str(folder / part)))
                      for folder in (tmp_path, docs / place))
        assert made.keys() == kept.keys()
        for path, value in made.items():
            assert value == (pytest.approx(kept[path]) if isinstance(value, float) else kept[path])


def table_lines(path):
    """The lines of tables and verdicts in a report."""
    return [line for line in path.read_text(encoding="utf-8").splitlines()
            if line.startswith(("|", "**"))]


def flat(value, path=()):
    """{path: value} of the leaves of nested JSON values."""
    pairs = (value.items() if isinstance(value, dict) else
             enumerate(value) if isinstance(value, list) else None)
    if pairs is None:
        return {path: value}
    return {key: leaf for name, part in pairs for key, leaf in flat(part, (*path, name)).items()}
