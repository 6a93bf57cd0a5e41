"""Runs that learn nothing are noticed and started again."""
import dataclasses
import json
import types

import numpy as np
import pytest
from runs import go, same, values, write, write_sst2

import adapter_bert
from adapter_bert.errors import InputError
from adapter_bert.packs import store
from adapter_bert.train import evaluation, initial_values
from adapter_bert.train import guard as guards
from adapter_bert.train.settings import Settings

SETTINGS = Settings(output_dir="out", learning_rate=1e-3, seed=7)


def a_guard(folder, loss=0.6, is_on=True, **flags):
    return guards.Guard(dataclasses.replace(SETTINGS, output_dir=str(folder), **flags), loss, is_on)


def failed_guard(folder):
    """A Guard of which every attempt failed."""
    guard = a_guard(folder)
    for _ in range(guards.MOST_ATTEMPTS):
        guard.restart(SETTINGS, "all the same")
    return guard


def test_a_loss_below_that_of_the_best_constant_is_learning(tmp_path):
    guard = a_guard(tmp_path)
    assert guard.problem(False) is None   # no loss was seen: a resumed run that was at its end
    guard.note_loss(0.7)
    assert "0.600" in guard.problem(False)
    guard.note_loss(0.59)
    guard.note_loss(0.8)
    assert guard.problem(False) is None


def test_constant_predictions_are_a_problem(tmp_path):
    guard = a_guard(tmp_path)
    assert "same" in guard.problem(True)
    guard.note_loss(0.1)
    guard.note_loss(0.5)   # it collapsed after it had learned
    assert "same" in guard.problem(True)


def test_a_fitted_model_may_answer_the_same_for_a_small_dev_set(tmp_path):
    guard = a_guard(tmp_path)
    guard.note_loss(0.5)
    guard.note_loss(0.29)
    assert guard.problem(True) is None


def test_attempts_have_seeds_and_then_rates_of_their_own(tmp_path):
    guard, tried = a_guard(tmp_path), []
    for _ in range(3):
        one = guards.of_attempt(SETTINGS, guard.attempt)
        tried.append((one.seed, one.learning_rate, guard.may_restart))
        guard.restart(SETTINGS, "all the same")
    assert tried == [(7, 1e-3, True), (100010, 1e-3, True), (200013, 5e-4, False)]
    again = a_guard(tmp_path)   # as a process that resumes finds it
    assert again.failed == guard.failed and not again.may_restart
    assert "3 attempts" in again.message(SETTINGS) and "0.0005" in again.message(SETTINGS)


def test_a_failed_run_that_is_started_once_more_has_still_failed(tmp_path):
    failed_guard(tmp_path)
    again = a_guard(tmp_path)   # its last checkpoint is there: no step is trained
    assert again.problem(False) == "all the same"
    again.restart(SETTINGS, again.problem(False))
    assert len(again.failed) == guards.MOST_ATTEMPTS
    trained_longer = a_guard(tmp_path)
    trained_longer.note_loss(0.1)
    assert trained_longer.problem(False) is None


def test_failed_attempts_of_other_settings_do_not_count(tmp_path):
    failed_guard(tmp_path)
    assert a_guard(tmp_path, learning_rate=1e-4).attempt == 0
    assert a_guard(tmp_path, seed=8).attempt == 0
    assert a_guard(tmp_path).attempt == 2


def test_without_guard_a_resumed_run_keeps_its_attempt(tmp_path, monkeypatch):
    a_guard(tmp_path).restart(SETTINGS, "all the same")
    assert a_guard(tmp_path, is_on=False).attempt == 0   # nothing is there to be resumed
    monkeypatch.setattr(guards.initial_values, "latest_step", lambda folder: ("model.ckpt-9", 9))
    off = a_guard(tmp_path, is_on=False)
    assert off.attempt == 1 and not off.may_restart


def test_a_damaged_file_of_attempts_is_one_line(tmp_path):
    (tmp_path / guards.GUARD_FILE).write_text('{"seed": 1}')
    with pytest.raises(InputError, match="guard.json.*another --output_dir"):
        a_guard(tmp_path)
    assert a_guard(tmp_path, is_on=False).failed == []


def test_predictions_that_are_not_numbers_are_a_failed_attempt():
    passes = types.SimpleNamespace(batches=lambda start: [
        {"index": np.zeros(1, np.int32), "probabilities": np.array([[np.nan, 0.5]])}])
    with pytest.raises(guards.NothingLearned, match="model.ckpt-9: predictions for dev.*NaN"):
        evaluation.predict_split(passes, initial_values.Start("model.ckpt-9", None, None),
                                 types.SimpleNamespace(name="dev"))


def numbers(folder, seed=0, count=96):
    """A task whose labels have nothing to do with its texts, which are all the same."""
    random = np.random.default_rng(seed)
    rows = [f"the film was a film\t{label}" for label in random.integers(0, 2, count)]
    folder.mkdir()
    for name in ("train", "dev"):
        write(folder / f"{name}.tsv", ["sentence\tlabel", *rows])
    return str(folder)


@pytest.mark.slow
def test_nothing_to_learn_gives_exit_code_3_results_and_a_marked_pack(tiny_dir, tmp_path, caplog):
    out = tmp_path / "out"
    with pytest.raises(guards.NothingLearned, match="3 attempts.*--learning_rate"):
        go(bert_dir=tiny_dir, data_dir=numbers(tmp_path / "data"), output_dir=str(out),
           do_train=True, do_eval=True, guard="on", num_train_epochs=4)
    results = json.loads((out / "results.json").read_text())
    assert results["guard"]["learned"] is False and len(results["guard"]["failed_attempts"]) == 3
    assert "learned nothing" in store.read(str(out / "pack")).manifest.warning
    adapter_bert.load(tiny_dir, str(out / "pack"))
    assert "learned nothing" in caplog.text


@pytest.mark.slow
def test_a_collapsed_run_starts_again_and_ends_as_one_with_that_seed(tiny_dir, tmp_path,
                                                                     monkeypatch):
    """The first attempt counts as collapsed; the second is left alone."""
    data, flags = write_sst2(tmp_path / "data"), {
        "bert_dir": tiny_dir, "do_train": True, "do_eval": True, "num_train_epochs": 2,
        "eval_steps": 24}
    go(data_dir=data, output_dir=str(tmp_path / "plain"), seed=guards.SEED_DISTANCE, **flags)
    notes = iter(["all the same"])
    monkeypatch.setattr(guards.Guard, "problem_of_loss", lambda self: None)
    monkeypatch.setattr(guards.Guard, "problem", lambda self, is_constant: next(notes, None))
    go(data_dir=data, output_dir=str(tmp_path / "guarded"), guard="on", **flags)
    results = json.loads((tmp_path / "guarded" / "results.json").read_text())
    assert [one["seed"] for one in results["guard"]["failed_attempts"]] == [0]
    assert results["guard"]["learned"] is True
    assert results["recipe"] == {"name": "reference", "choices": {}}
    first, second = (values(str(tmp_path / name / "model.ckpt-24")) for name in (
        "plain", "guarded"))
    assert same(first, second)
