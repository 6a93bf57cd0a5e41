"""A sweep of whole runs: each once, failures recorded, and a killed one ends as one left alone."""
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sweeps import adapters, full, write_config

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.research.sweep import experiment_config, grid, queue, result_files, worker
from adapter_bert.research.sweep.run_sweep import sweep

pytestmark = pytest.mark.slow
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What depends on when a run was done, not on what it is.
TIMES = ("seconds", "train_seconds", "commit")


def outcomes(folder, experiment):
    """{name of a run: its result without times} of those that are done."""
    return {run.name: {key: value for key, value in result_files.read(folder, run.name).items()
                       if key not in TIMES}
            for run in grid.plan(experiment) if result_files.is_done(folder, run.name)}


def start(path, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "adapter_bert", "experiment", path, f"--results={folder}"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ROOT}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_runs_their_results_and_a_failure(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [
        adapters(spans=True, epochs=[5], settings={"adapter_init_stddev": 0.5}),
        full(name="too large", settings={"train_batch_size": 500})])
    experiment, folder = experiment_config.read(path), str(tmp_path / "results")
    planned = grid.plan(experiment)
    assert worker.work(experiment, planned, folder) == 0
    result, dev = result_files.read(folder, planned[0].name), result_files.read_dev(folder, "films")
    assert np.mean(np.array(result["predictions"]["dev"]) == dev["dev"]) == pytest.approx(
        result["metrics"]["eval_accuracy"])
    assert result["trained_parameters"] == 4 * (2 * 16 * 4 + 16 + 4) + 5 * 2 * 16 + 2 * 16 + 2
    assert result["encoder_parameters"] == 66 * 16 + 32 + 2 * 2224 + 16 * 17
    whole = 100 * result["metrics"]["eval_accuracy"]
    assert [span[:2] for span in result["spans"]] == [[0, 0], [0, 1], [1, 1]]
    assert any(points != pytest.approx(whole) for _, _, points in result["spans"]), result
    reason = result_files.failures(folder, [run.name for run in planned])[planned[1].name]
    assert reason.startswith("32 examples make no batch of 500")
    assert not os.listdir(os.path.join(folder, "work"))
    before = files.sha256(result_files.path_of(folder, result_files.RUNS, planned[0].name))
    worker.work(experiment, planned, folder)
    assert files.sha256(result_files.path_of(folder, result_files.RUNS, planned[0].name)) == before


def test_nothing_is_begun_after_the_budget_or_while_another_does_it(tmp_path, tiny_dir):
    experiment = experiment_config.read(write_config(tmp_path, tiny_dir, [full()]))
    run, folder = grid.plan(experiment)[0], str(tmp_path / "results")
    assert worker.work(experiment, [run], folder, until=time.time()) == 0
    (tmp_path / "results" / "claims").mkdir(parents=True)
    files.write_json(os.path.join(folder, "claims", run.name), {"host": "elsewhere", "pid": 1})
    assert not worker.attempt(experiment, run, folder) and worker.is_open(folder, run.name)


def test_a_folder_of_other_data_is_refused(tmp_path, tiny_dir):
    path = write_config(tmp_path, tiny_dir, [full()])
    experiment, folder = experiment_config.read(path), str(tmp_path / "results")
    data = {"films": grid.data_files(experiment, grid.plan(experiment)[0])}
    result_files.bind(folder, result_files.facts_of(experiment.base, data))
    with open(tmp_path / "data" / "dev.tsv", "a", encoding="utf-8") as file:
        file.write("a good film\t1\n")
    with pytest.raises(InputError, match="the data of films differed; name another --results"):
        sweep(experiment, folder)


def begun(folder):
    """How often a run was begun, as the workers' logs say."""
    return sum(line.startswith("***** films-") for log in pathlib.Path(folder).glob("logs/*.log")
               for line in log.read_text().split("\n"))


def compare_with_killed(tmp_path, tiny_dir, modes, kills, seconds, **changes):
    """Runs a sweep that is killed at random moments after it began a run, and one that is not.

    It must have more runs than can be done in `kills` times as many seconds.
    """
    path = write_config(tmp_path, tiny_dir, modes, **changes)
    experiment, killed = experiment_config.read(path), str(tmp_path / "killed")
    source = random.Random(0)
    for _ in range(kills):
        before, process = begun(killed), start(path, killed)
        while process.poll() is None and begun(killed) == before:
            time.sleep(0.02)
        time.sleep(source.uniform(0, seconds))
        assert process.poll() is None, process.communicate()
        kill(process)
    last = start(path, killed)
    assert last.wait() == 0, last.communicate()
    alone = str(tmp_path / "alone")
    only = start(path, alone)
    assert only.wait() == 0, only.communicate()
    names = {run.name for run in grid.plan(experiment)}
    assert outcomes(killed, experiment) == outcomes(alone, experiment)
    assert outcomes(killed, experiment).keys() == names
    for folder in (killed, alone):
        assert not queue.owners(os.path.join(folder, "claims"))
        assert not os.listdir(os.path.join(folder, "work"))
        assert os.path.exists(os.path.join(folder, "README.md"))


def test_a_sweep_killed_once(tmp_path, tiny_dir):
    compare_with_killed(tmp_path, tiny_dir, [full()], 1, 2)


@pytest.mark.long
def test_a_sweep_killed_ten_times(tmp_path, tiny_dir):
    compare_with_killed(tmp_path, tiny_dir, [full(), adapters(sizes=[2, 4])], 10, 6, seeds=6)
