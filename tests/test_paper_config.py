"""What an experiment's file may say, which runs it makes, and whose a results folder is."""
import os
import platform
import subprocess
import time

import pytest
from sweeps import SMALL, adapters, full, write_config

from adapter_bert import files
from adapter_bert.__main__ import main
from adapter_bert.errors import InputError
from adapter_bert.research.sweep import (
    estimate,
    experiment_config,
    grid,
    queue,
    result_files,
    run_sweep,
)


def planned(path):
    return grid.plan(experiment_config.read(path))


def test_every_setting_and_seed_is_one_run(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [
        full(learning_rates=[1e-3, 1e-4], epochs=[1, 2]),
        adapters(sizes=[2, 4, 8], seeds=2)], seeds=3)
    runs = planned(path)
    assert len(runs) == 2 * 2 * 3 + 3 * 2 and len({run.name for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    settings, given, task = grid.settings_of(experiment_config.read(path), runs[-1], "out")
    assert (settings.do_train, settings.seed, settings.num_train_epochs) == (True, 2, 2.0)
    assert "learning_rate" in given and task.name == "SST-2"


def test_a_task_may_say_the_epochs_of_all_modes_or_of_some(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [full(epochs=[1]), adapters(epochs=[2])])
    for given, wanted in (([4], {4}), ({"adapters": [3]}, {1, 3})):
        changed = files.read_json(path)
        changed["tasks"][0]["epochs"] = given
        files.write_json(str(tmp_path / "changed.json"), changed)
        runs = planned(str(tmp_path / "changed.json"))
        assert {run.point["epochs"] for run in runs} == wanted


def test_names_depend_on_what_makes_a_run(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [full()])
    name = planned(path)[0].name
    assert planned(path)[0].name == name
    for where, key, value in (("settings", "train_batch_size", 16), ("tasks", "epochs", [2])):
        changed = files.read_json(path)
        (changed[where][0] if where == "tasks" else changed[where])[key] = value
        files.write_json(str(tmp_path / "changed.json"), changed)
        assert planned(str(tmp_path / "changed.json"))[0].name != name


@pytest.mark.parametrize("changes, message", [
    ({"sizes": [1]}, "unknown key sizes; known: base, tasks, modes, seeds, budget_minutes"),
    ({"seeds": 0}, "seeds 0; give 1 to 1000"),
    ({"seeds": 10**9}, "seeds 1000000000; give 1 to 1000"),
    ({"modes": [full(learning_rates=[10**400])]}, "mode 1, learning_rates: .*different numbers"),
    ({"modes": [full(epochs=[float("nan")])]}, "mode 1, epochs: .nan.; give a list of different"),
    ({"budget_minutes": 10**400}, "give more than 0"),
    ({"tasks": [{"name": "mean", "data_dir": "d"}]}, "and none 'mean'"),
    ({"tasks": [{"name": "a" * 61, "data_dir": "d"}]}, "at most 60 letters and digits"),
    ({"seeds": "5"}, "seeds: found '5', expected a whole number"),
    ({"base": "$NO_SUCH_PLACE/base"}, r"\$NO_SUCH_PLACE is not set; export it"),
    ({"modes": [full(sizes=[1, 1])]}, "mode 1, sizes: .1, 1.; give a list of different numbers"),
    ({"modes": [full(learning_rates=[])]}, "mode 1, learning_rates: ..; give a list of different"),
    ({"tasks": [{"name": "SST-2", "data_dir": "d", "epochs": {"full": 3}}]},
     "task 1, epochs: 3; give a list of different numbers"),
    ({"tasks": [{"name": "SST-2", "data_dir": "d", "epochs": {"ful": [3]}}]},
     "task SST-2, epochs: no mode that does it is called ful"),
    ({"modes": [{"name": "full"}]}, "mode 1: lacks tuning, learning_rates, epochs"),
    ({"modes": [full(), full()]}, "names of modes .*; give each one of its own"),
    ({"modes": [full(tasks=["plots"])]}, "mode full: no task is called plots"),
    ({"modes": [full(settings={"batch": 8})]}, "task films, mode full: settings: no flag is "
     "called 'batch'"),
    ({"modes": [full(settings={"seed": 8})]}, "settings say seed, which the sweep says itself"),
    ({"settings": {**SMALL, "train_batch_size": "8"}}, "train_batch_size is '8', expected a value "
     "of type int"),
    ({"modes": [adapters(sizes=[0])]}, "adapter size 0"),
    ({"tasks": [{"name": "films", "task": "SST-2", "data_dir": "d", "metric": "f1"}]},
     "metric 'f1'; known: accuracy"),
    ({"modes": [full(spans=True)]}, "spans of layers are removed from bottlenecks"),
    ({"budget_minutes": 0}, "budget_minutes 0; give more than 0"),
    ({"budget_minutes": float("nan")}, "budget_minutes nan; give more than 0"),
    ({"epoch_seconds": {"films": 3}}, "epoch_seconds, films: give {task: {mode: seconds}}"),
    ({"epoch_seconds": {"films": {"full": -3}}}, "epoch_seconds, films: give .* seconds above 0"),
    ({"epoch_seconds": {"film": {"fulll": 3}}}, "no task or mode is called film, fulll"),
    ({"modes": []}, "modes: there are none; give one or more"),
    ({"modes": [full(tasks=[])]}, "mode 1, tasks: ..; give a list of different names"),
    ({"modes": [full(sizes=[4])]}, "mode 1: sizes and init_stddevs are those of adapters; tuning "
     "'full' has none"),
    ({"tasks": [{"name": "SST3", "data_dir": "d"}]}, "task SST3, mode full: .*unknown task"),
    ({"tasks": [{"name": "no/task", "data_dir": "d"}]}, r"names of tasks \['no/task'\];"),
    ({"tasks": [{"name": name, "data_dir": "d"} for name in ("a b", "a_b")]}, "names of tasks"),
    ({"tasks": [{"name": name, "data_dir": "d"} for name in ("films", "plots")],
      "modes": [full(tasks=["films"])]}, "no mode does the task plots; leave it out"),
    ({"modes": [adapters(sizes=[4, 8]), adapters(name="adapters 4")]}, "two rows adapters 4"),
    ({"modes": [adapters(init_stddevs=[0.1, 1.0], epochs=[1, 2])]}, "give one of learning_rates"),
])
def test_a_wrong_config_is_one_line(tmp_path, tiny_dir, changes, message):
    path = write_config(tmp_path, tiny_dir, **{"modes": [full()], **changes})
    with pytest.raises(InputError, match=message) as caught:
        planned(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode, message", [
    (full(tuning="fulll"), "task films, mode full: tuning 'fulll': not one of"),
    (adapters(tuning="adaptors"), "mode adapters: tuning 'adaptors': not one of"),
    (full(tuning="top_layers=9"), "mode full: tuning top_layers=9: the model has 2 layers"),
    (full(settings={"max_seq_length": 9999}), "mode full: --max_seq_length=9999: this BERT has"),
    (adapters(settings={"adapter_layers": "7"}), "mode adapters: adapter layers .*7"),
])
def test_what_the_base_lacks_is_said_before_the_first_run(tmp_path, tiny_dir, mode, message):
    path = write_config(tmp_path, tiny_dir, [mode])
    with pytest.raises(InputError, match=message):
        grid.check_models(experiment_config.read(path), planned(path))


def test_the_command_says_it_in_one_line(tmp_path, tiny_dir, capsys):
    path = write_config(tmp_path, tiny_dir, [full()], sizes=[1])
    (tmp_path / "other").mkdir()
    other = write_config(tmp_path / "other", tiny_dir, [full(tuning="fulll")])
    for arguments, message in (
            ([path], "unknown key sizes"), ([other], "tuning 'fulll': not one of"),
            ([path, "--workers=0"], "--workers=0"),
            ([str(tmp_path / "none.json")], "no such file")):
        with pytest.raises(SystemExit) as ended:
            main(["experiment", *arguments, f"--results={tmp_path / 'results'}"])
        said = capsys.readouterr().err
        assert ended.value.code == 1 and message in said and said.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_data_that_is_not_there(tmp_path, tiny_dir):
    for task, message in (("SST-2", "train.tsv: no such file"), ("SQuAD", "train.json: no such")):
        path = write_config(tmp_path, tiny_dir, [full()], tasks=[
            {"name": "films", "task": task, "data_dir": str(tmp_path / "nowhere")}])
        with pytest.raises(InputError, match=message):
            grid.data_files(experiment_config.read(path), planned(path)[0])


def test_a_folder_belongs_to_a_base_and_data(tmp_path):
    folder = str(tmp_path / "results")
    facts = {"base": {"name": "bert", "fingerprint": "1", "config": {"hidden_act": "gelu"}},
             "data": {"MRPC": {"dev": "2"}}}
    result_files.bind(folder, facts)
    result_files.bind(folder, {**facts, "base": {**facts["base"], "name": "its name elsewhere"}})
    more = {**facts, "data": {"CoLA": {"dev": "3"}}}
    result_files.bind(folder, more)
    result_files.bind(folder, facts)
    for changed, words in (
            ({**facts, "base": {**facts["base"], "fingerprint": "0"}}, "the base differed"),
            ({**facts, "base": {**facts["base"], "config": {}}}, "the base differed"),
            ({**facts, "data": {"CoLA": {"dev": "4"}}}, "the data of CoLA differed")):
        with pytest.raises(InputError, match=f"made by an experiment in which {words}"):
            result_files.bind(folder, changed)


def test_files_in_the_place_of_folders_are_refused(tmp_path):
    facts = {"base": {"name": "bert", "fingerprint": "1"}, "data": {}}
    for folder, file in (("a", "a"), ("b", "b/claims"), ("c", "c/work")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
        with pytest.raises(InputError, match=f"{file}: is no folder; name another --results"):
            result_files.bind(str(tmp_path / folder), facts)


def test_what_killed_runs_left_goes_but_for_other_machines(tmp_path):
    for name in (f"a@{platform.node()}", f"b@{platform.node()}", "a@elsewhere"):
        (tmp_path / "work" / name).mkdir(parents=True)
    with queue.claimed(str(tmp_path / "claims"), "b"):
        run_sweep.remove_left(str(tmp_path))
    assert sorted(os.listdir(tmp_path / "work")) == ["a@elsewhere", f"b@{platform.node()}"]


def test_results_of_other_labels_are_refused_and_what_is_done_has_not_failed(tmp_path):
    folder = str(tmp_path)
    result_files.write(folder, "a", {"task": "films"}, {"kind": "classification", "dev": [0, 1]})
    result_files.write(folder, "b", {"task": "films"}, {"kind": "classification", "dev": [0, 1]})
    with pytest.raises(InputError, match="earlier runs of films had other labels"):
        result_files.write(
            folder, "c", {"task": "films"}, {"kind": "classification", "dev": [2, 1]}
        )
    for name in ("b", "c"):
        result_files.write_failure(folder, name, "no luck")
    assert result_files.failures(folder, ["a", "b", "c"]) == {"c": "no luck"}
    result_files.forgive(folder, "c")
    result_files.forgive(folder, "c")
    assert not result_files.failures(folder, ["c"])


def test_workers_that_are_killed_outside_a_run_start_anew_a_few_times(tmp_path, monkeypatch):
    monkeypatch.setattr(run_sweep.Workers, "_start", lambda *_: subprocess.Popen(["sleep", "1000"]))
    workers = run_sweep.Workers(
        experiment_config.Experiment("base", [], [], 1), str(tmp_path), 1, 0.0
    )
    for _ in range(run_sweep.MOST_KILLED):
        workers.stop()
        assert workers.look()
    workers.stop()
    with pytest.raises(InputError, match="a worker ended with -9, outside of a run"):
        workers.look()


def test_a_worker_that_cannot_begin_ends_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(run_sweep.Workers, "_start", lambda *_: subprocess.Popen(["false"]))
    workers = run_sweep.Workers(
        experiment_config.Experiment("base", [], [], 1), str(tmp_path), 1, 0.0
    )
    with pytest.raises(InputError, match="a worker ended with 1, outside of a run"):
        while workers.look():
            time.sleep(0.01)


def test_time_left_is_that_of_alike_runs(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [full(epochs=[3]), adapters(epochs=[2])], seeds=2,
                        epoch_seconds={"films": {"full": 10}})
    experiment, runs = experiment_config.read(path), planned(path)
    assert estimate.seconds_left(experiment, runs, {}, 1) == 2 * 3 * 10 + 2 * 2 * 10
    found = {("films", "full"): [5.0, 7.0], ("films", "adapters"): [1.0]}
    assert estimate.seconds_left(experiment, runs, found, 2) == (2 * 3 * 6 + 2 * 2 * 1) / 2
    assert estimate.seconds_left(experiment, runs[:1], found, 2) == 3 * 6
    assert estimate.measured(runs, {runs[0].name: 30.0}) == {("films", "full"): [10.0]}
