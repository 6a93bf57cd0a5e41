"""A search proposes, prunes, resumes and shares its trials; a killed one ends as one left alone."""
import csv
import math
import multiprocessing
import os
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import time

import pytest
import tensorflow.compat.v1 as tf
from optuna.trial import TrialState
from runs import same, values, write_sst2

from adapter_bert import files
from adapter_bert.errors import InputError, Stopped
from adapter_bert.packs import store
from adapter_bert.research.tuning import commands, summary
from adapter_bert.research.tuning import journal as journals
from adapter_bert.research.tuning import plan as plans
from adapter_bert.research.tuning import search as searches
from adapter_bert.research.tuning import space as spaces
from adapter_bert.research.tuning import trial as trials
from adapter_bert.train import initial_values, split_records
from adapter_bert.train.run import run
from adapter_bert.train.settings import Settings

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ["learning_rate", "epochs", "size", "method"]
TRAIN = split_records.Split("train", "", 96, 960, (), True, None, "")


def made_plan(folder, **flags):
    """A Plan of a task without files, for searches in which nothing is trained."""
    settings = Settings(train_batch_size=8, output_dir=str(folder), **flags)
    return plans.Plan(str(folder), "classifier", flags, spaces.make(NAMES, settings), settings,
                      TRAIN, "accuracy", {})


def read(path):
    return pathlib.Path(path).read_text(encoding="utf-8")


def quality(job):
    """The score that a made trial ends with: best at a rate of 1e-3, more epochs, LoRA."""
    flags = job.flags
    distance = abs(math.log10(flags["learning_rate"]) + 3)
    return (0.8 - 0.2 * distance + 0.01 * flags["num_train_epochs"]
            + 0.02 * (flags["adapter_method"] == "lora") + 1e-4 * flags["adapter_size"])


def made_trial(job, stopper=None, seconds=0.0):
    """What trial.run does with a run's scores, without a run; resumes after its last score."""
    del stopper
    path = os.path.join(job.output_dir, "step")
    os.makedirs(job.output_dir, exist_ok=True)
    done = int(read(path)) if os.path.exists(path) else 0
    journal = journals.Journal(job.folder)
    on_scores = trials.watcher(job, journal)
    for step in range(max(done, 1), job.steps + 1):
        if step % job.flags["eval_steps"] == 0 or step == job.steps:
            time.sleep(seconds)
            files.write_text(path, str(step))
            try:
                on_scores(step, {job.metric: quality(job) * step / job.steps})
            except trials.Pruned:
                return journals.Outcome("pruned", None, step)
    return journals.Outcome("complete", quality(job), job.steps)


def rows(folder):
    """The rows of trials.csv without times."""
    with open(os.path.join(folder, "trials.csv"), encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "seconds"}
                for row in csv.DictReader(file)]


@pytest.fixture(name="alone", scope="module")
def fixture_alone(tmp_path_factory):
    """Folder and Journal of a search of 16 made trials that nothing disturbed."""
    folder = str(tmp_path_factory.mktemp("alone"))
    return folder, searches.search(made_plan(folder), 16, made_trial)


def test_first_trial_is_the_defaults_and_all_are_within_bounds(alone):
    plan = made_plan(alone[0])
    found = alone[1].trials()
    assert found[0].params == {"learning_rate": 5e-5, "epochs": 3, "size": 64, "method": "houlsby"}
    assert len({str(trial.params) for trial in found}) == 16
    for name, parameter in plan.space.items():
        assert all(parameter.distribution._contains(
            parameter.distribution.to_internal_repr(trial.params[name])) for trial in found)
    assert all(trial.params["learning_rate"] == float(f"{trial.params['learning_rate']:.3g}")
               for trial in found)


def test_bad_trials_are_pruned_and_good_ones_are_not(alone):
    found = alone[1].trials()
    pruned = [trial for trial in found if trial.state == TrialState.PRUNED]
    assert pruned and min(trial.number for trial in pruned) >= journals.UNPRUNED_TRIALS
    assert all(trial.user_attrs["step"] < plans.Plan.steps(made_plan(alone[0]), trial.params)
               for trial in pruned)
    best = alone[1].best()
    assert best.value == max(trial.value for trial in found if trial.state == TrialState.COMPLETE)
    assert best.value > found[0].value + 0.2
    assert os.path.realpath(os.path.join(alone[0], "best")) == os.path.realpath(
        made_plan(alone[0]).output_dir(best.number))


def test_a_pruned_trial_and_its_twin(tmp_path):
    """The same scores are pruned where the others are better, and not where they are equal."""
    for others, is_pruned in ((0.6, True), (0.5, False)):
        folder = str(tmp_path / str(others))
        plan, journal = made_plan(folder), journals.Journal(folder)
        for score in [others] * journals.UNPRUNED_TRIALS + [0.5]:
            with journal.next_trial(plan.space, 0, 9) as number:
                answer = journal.report(number, 1, score)
                journal.finish(number, journals.Outcome("complete", score, 9))
        assert answer == is_pruned


def forked(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def test_killed_ten_times_it_ends_as_if_left_alone(tmp_path, alone):
    source, folder = random.Random(1), str(tmp_path)
    for _ in range(10):
        process = forked(searches.search, made_plan(folder), 16, slow_trial)
        time.sleep(source.uniform(0.02, 0.13))
        assert process.is_alive()
        process.kill()
        process.join()
    assert journals.Journal(folder).trials()
    searches.search(made_plan(folder), 16, made_trial)
    assert rows(folder) == rows(alone[0])
    assert journals.Journal(folder).best().number == alone[1].best().number


def slow_trial(job, stopper):
    return made_trial(job, stopper, seconds=0.03)


def test_two_processes_share_the_trials(tmp_path):
    processes = [forked(searches.search, made_plan(tmp_path), 12, noting_trial) for _ in range(2)]
    for process in processes:
        process.join()
        assert not process.exitcode
    done = [line.split() for line in read(tmp_path / "done").splitlines()]
    assert sorted(int(number) for number, _ in done) == list(range(12))
    assert {pid for _, pid in done} == {str(process.pid) for process in processes}
    assert len({str(trial.params) for trial in journals.Journal(str(tmp_path)).trials()}) == 12


def noting_trial(job, stopper):
    with open(os.path.join(job.folder, "done"), "a") as file:
        file.write(f"{job.number} {os.getpid()}\n")
    return slow_trial(job, stopper)


def test_more_trials_resume_a_search_with_the_same_proposals(tmp_path, alone):
    searches.search(made_plan(tmp_path), 5, made_trial)
    searches.search(made_plan(tmp_path), 9, made_trial)
    assert rows(tmp_path) == rows(alone[0])[:9]
    other = made_plan(tmp_path / "other", seed=1)
    searches.search(other, 3, made_trial)
    assert [row["learning_rate"] for row in rows(tmp_path / "other")][1:] != [
        row["learning_rate"] for row in rows(tmp_path)][1:3]


def test_half_a_line_of_the_journal_is_dropped(tmp_path):
    searches.search(made_plan(tmp_path), 2, made_trial)
    with open(tmp_path / journals.JOURNAL_FILE, "ab") as file:
        file.write(b'{"op_code":4,"worker_id"')
    searches.search(made_plan(tmp_path), 3, made_trial)
    assert [row["state"] for row in rows(tmp_path)] == ["complete"] * 3


def test_when_all_fail(tmp_path):
    def failing(job, stopper):
        return journals.Outcome("failed", None, 0, reason="no memory")

    with pytest.raises(InputError, match="all 3 trials failed, the last because: no memory; see"):
        searches.search(made_plan(tmp_path), 30, failing)


def test_a_failed_trial_among_others(tmp_path):
    def diverging(job, stopper):
        return (journals.Outcome("failed", None, 7, reason="the loss is not a number")
                if job.number == 1 else made_trial(job))

    journal = searches.search(made_plan(tmp_path), 3, diverging)
    assert [row["state"] for row in rows(tmp_path)] == ["complete", "failed", "complete"]
    assert rows(tmp_path)[1]["reason"] == "the loss is not a number"
    text = summary.write(made_plan(tmp_path), journal.trials(), journal.best())
    assert "failed" in text and os.path.getsize(tmp_path / "trials.png") > 10_000


def test_a_trial_whose_process_dies(tmp_path, monkeypatch):
    """It is tried again, and is failed in the end; a signal to the search leaves it for later."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho begun >&2\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(searches, "SECONDS_BETWEEN_ATTEMPTS", 0)
    job = made_plan(tmp_path).job(0, {"epochs": 3})
    outcome = searches.run_process(job, searches.Stopper())
    assert outcome.state == "failed" and "3 times with exit code -9, as when memory" in (
        outcome.reason)
    assert read(os.path.join(job.output_dir, trials.LOG_FILE)) == "begun\n" * 3
    stopper = searches.Stopper()
    stopper.number = signal.SIGINT
    with pytest.raises(Stopped, match="stopped by SIGINT; the same command resumes the search"):
        searches.run_process(job, stopper)


def test_large_files_go_and_small_ones_stay(tmp_path):
    for name in ("model.ckpt-3.index", "model.ckpt-3.data-00000-of-00001", "checkpoint",
                 "train.tf_record", "run.json", "report.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "pack").mkdir()
    searches.strip(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["report.md", "run.json"]


@pytest.mark.parametrize("flags, search, expected", [
    ({}, None, NAMES),
    ({"learning_rate": 1e-3}, None, NAMES[1:]),
    ({"tuning": "full"}, None, NAMES[:2]),
    ({"tuning": "adapters_only"}, None, NAMES[:3]),
    ({"adapter_method": "ia3", "adapter_fn": "ia3"}, None, NAMES[:2]),
    ({}, "method, learning_rate", ["learning_rate", "method"]),
    ({}, "rate", "unknown parameter rate; choose from learning_rate, epochs, size, method"),
    ({}, ",", "names no parameter"),
    ({"adapter_size": 8}, "size", "size cannot be searched, because --adapter_size is set"),
    ({"tuning": "bias"}, "size", "because --tuning=bias has no adapters"),
    ({"init_pack": "x"}, "method", "because --init_pack fixes the adapters"),
    ({"learning_rate": 1e-3, "num_train_epochs": 2.0, "tuning": "full"}, None,
     "nothing to search"),
])
def test_what_is_searched(flags, search, expected):
    settings = Settings(**flags)
    if isinstance(expected, list):
        assert spaces.choose(search, settings, set(flags)) == expected
        return
    with pytest.raises(InputError, match=expected):
        spaces.choose(search, settings, set(flags))


def test_spaces_fit_modes_keep_defaults_and_survive_json():
    full = spaces.make(["learning_rate"], Settings(tuning="full", learning_rate=5e-5))
    assert full["learning_rate"].distribution.high == 2e-4
    layers = spaces.make(["learning_rate"], Settings(tuning="top_layers=2", learning_rate=5e-5))
    assert layers["learning_rate"].distribution.high == 1e-3
    space = spaces.make(NAMES, Settings(adapter_size=48, num_train_epochs=10.0))
    assert space["size"].distribution.choices == (8, 16, 48, 64, 256)
    assert (space["epochs"].distribution.low, space["epochs"].distribution.high) == (5, 20)
    assert spaces.from_json(spaces.to_json(space)) == space


def test_the_full_grid_by_hand():
    settings = Settings(learning_rate=1e-3, num_train_epochs=4.0)
    rate = spaces.full_grid(spaces.make(["learning_rate"], settings), 4.0)
    assert rate == (4, 16.0)   # 1e-4, 3e-4, 1e-3, 3e-3
    whole = spaces.full_grid(spaces.make(NAMES, settings), 4.0)
    assert whole == (4 * 3 * 4 * 4, 4 * 4 * 4 * (2 + 4 + 8))


@pytest.mark.parametrize("steps", [1, 3, 5, 36, 343])
def test_evaluations_are_at_the_same_shares(steps):
    every = -(-steps // trials.EVALUATIONS)
    due = [step for step in range(1, steps + 1) if step % every == 0 or step == steps]
    rungs = [trials.rung_of(step, steps) for step in due]
    assert rungs == sorted(set(rungs)) and rungs[-1] == trials.EVALUATIONS
    assert all(abs(rung / trials.EVALUATIONS - step / steps) <= 0.5 / trials.EVALUATIONS
               for rung, step in zip(rungs, due, strict=True) if steps >= trials.EVALUATIONS)


def real_plan(tmp_path, tiny_dir, name, **flags):
    """A Plan of made sentences on the tiny BERT, bound to its folder."""
    given = write_sst2(tmp_path / "data", train=64, dev=24)
    flags = {"task_name": "SST-2", "data_dir": given, "bert_dir": tiny_dir, "max_seq_length": 16,
             "train_batch_size": 8, "precision": "float32", "learning_rate": 0.01,
             "num_train_epochs": 2.0, **flags}
    settings = Settings(**flags, output_dir=str(tmp_path / name))
    return plans.bind(plans.make("classifier", settings, set(flags) | {"output_dir"}, "size"))


def in_this_process(job, stopper):
    del stopper
    with tf.Graph().as_default():
        return trials.run(job)


@pytest.mark.slow
def test_trials_of_the_tiny_bert_killed_while_they_train(tmp_path, tiny_dir, monkeypatch):
    """The best run, killed and resumed, is bit by bit what its printed command trains."""
    plan = real_plan(tmp_path, tiny_dir, "search")
    report, killed = journals.Journal.report, set()

    def dying(journal, number, rung, value):
        if rung == 2 and number not in killed:
            killed.add(number)
            raise KeyboardInterrupt
        return report(journal, number, rung, value)

    monkeypatch.setattr(journals.Journal, "report", dying)
    with pytest.raises(KeyboardInterrupt):
        searches.search(plan, 1, in_this_process)
    best = searches.search(plan, 1, in_this_process).best()
    assert best.intermediate_values.keys() == {1, 2, 3, 4} and best.user_attrs["step"] == 16
    flags = plan.run_flags(best.params, os.path.join(plan.folder, "again"))
    again = shlex.split(summary.command_of(plan, best))[2:]
    assert [f"--{name}={value}" for name, value in flags.items()] == again
    settings, task = commands.settings_of(plan.command, flags)
    assert run(settings, frozenset(flags), task)["eval_accuracy"] == best.value
    packs = [store.read(os.path.join(plan.folder, name, "pack")) for name in ("best", "again")]
    assert same(packs[0].weights, packs[1].weights)


def test_a_run_that_cannot_go_on_is_a_failed_trial(tmp_path, monkeypatch):
    def diverged(*args, **named):
        raise InputError("the loss is not a number any more")

    monkeypatch.setattr("adapter_bert.train.run.run", diverged)
    plan = made_plan(tmp_path, task_name="SST-2", data_dir="data")
    outcome = trials.run(plan.job(0, {}))
    assert outcome._replace(seconds=0.0) == (
        "failed", None, 0, 0.0, "the loss is not a number any more")


@pytest.mark.slow
def test_a_trial_ends_with_its_search(tmp_path, tiny_dir):
    """The process of a trial ends when its standard input does, as when the search is killed."""
    plan = real_plan(tmp_path, tiny_dir, "search")
    journal = journals.Journal(plan.folder)
    with journal.next_trial(plan.space, 0, 1) as number:
        process = forked(searches.run_process, plan.job(number, {"size": 64}),
                         searches.Stopper())
        log = os.path.join(plan.output_dir(number), trials.LOG_FILE)
        lock = os.path.join(plan.output_dir(number), ".lock")
        while not (os.path.exists(lock) and read(lock)):
            assert process.is_alive(), read(log)
            time.sleep(0.02)
        trial = int(read(lock).split()[1])
        process.kill()
        process.join()
    until = time.time() + 10
    while os.path.exists(f"/proc/{trial}") and read(f"/proc/{trial}/stat").split()[2] != "Z":
        assert time.time() < until
        time.sleep(0.02)


def command(folder, data_dir, tiny_dir, count):
    return [sys.executable, "-m", "adapter_bert", "tune", f"--trials={count}",
            "--task_name=SST-2", f"--data_dir={data_dir}", f"--bert_dir={tiny_dir}",
            "--max_seq_length=16", "--train_batch_size=8", "--precision=float32",
            f"--output_dir={folder}"]


@pytest.mark.long
def test_the_command_killed_five_times(tmp_path, tiny_dir):
    """SIGKILL at random moments after a trial was begun; then it ends as if left alone."""
    data_dir, source = write_sst2(tmp_path / "data", train=400, dev=60), random.Random(0)
    environment = {**os.environ, "PYTHONPATH": ROOT}
    killed, alone = str(tmp_path / "killed"), str(tmp_path / "alone")
    for _ in range(5):
        process = subprocess.Popen(command(killed, data_dir, tiny_dir, 5), env=environment)
        while not os.path.exists(os.path.join(killed, "trials")):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(source.uniform(3, 15))
        assert process.poll() is None
        process.kill()
        process.wait()
    for folder in (killed, alone):
        subprocess.run(command(folder, data_dir, tiny_dir, 5), env=environment, check=True)
    assert rows(killed) == rows(alone)
    first, second = (journals.Journal(folder).best() for folder in (killed, alone))
    assert (first.number, first.value) == (second.number, second.value)
    assert same(values(checkpoint_in(killed)), values(checkpoint_in(alone)))


def checkpoint_in(folder):
    return initial_values.latest(os.path.join(folder, "best", "best"))
