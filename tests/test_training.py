"""Whole runs on a tiny BERT: what trains, what is kept, how a run goes on."""
import glob
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from runs import REFERENCE, go, same, values, write, write_sst2

from adapter_bert.bert import checkpoint_io, conversion
from adapter_bert.data.batches import evaluation_batches
from adapter_bert.errors import InputError
from adapter_bert.files import read_json
from adapter_bert.train import evaluation, initial_values, resolve
from adapter_bert.train.evaluator import by_estimator
from adapter_bert.train.named_task import text_task
from adapter_bert.train.run import make_schedule, run
from adapter_bert.train.settings import Settings
from adapter_bert.train.split_records import Split, prepare, read

pytestmark = pytest.mark.slow
TUNINGS = ("adapters", "full", "top_layers=1", "layer_norm", "bias", "head")


@pytest.fixture(name="data", scope="session")
def fixture_data(tmp_path_factory):
    return write_sst2(str(tmp_path_factory.mktemp("data") / "SST-2"))


@pytest.fixture(name="finished", scope="session")
def fixture_finished(tmp_path_factory, data, tiny_dir):
    """A run of three epochs in adapters mode with everything on; never to be changed."""
    out = str(tmp_path_factory.mktemp("finished") / "out")
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
                 do_predict=True)
    return out, metrics


@pytest.fixture(name="copied")
def fixture_copied(tmp_path, finished):
    """A copy of the finished run that a test may change."""
    return shutil.copytree(finished[0], str(tmp_path / "copied"))


def test_results_files(finished):
    out, metrics = finished
    assert list(metrics) == ["eval_accuracy", "eval_loss", "global_step", "loss"]
    assert metrics["global_step"] == 36
    with open(f"{out}/eval_results.txt", encoding="utf-8") as file:
        assert file.read() == "".join(f"{key} = {value}\n" for key, value in metrics.items())
    results = read_json(f"{out}/results.json")
    assert {"metrics", "flags", "counts", "train_seconds", "train_examples_per_second",
            "versions"} <= set(results)
    assert results["metrics"] == metrics
    assert results["train_examples_per_second"] > 0
    counts = results["counts"]["variables"]
    assert counts["adapters"] == {"variables": 16, "parameters": 4 * (2 * 16 * 4 + 16 + 4),
                                  "trained": True}
    assert counts["frozen"]["trained"] is False
    with open(f"{out}/test_results.tsv", encoding="utf-8") as file:
        rows = np.array([line.split("\t") for line in file], float)
    assert rows.shape == (5, 2) and np.allclose(rows.sum(axis=1), 1, atol=1e-6)
    with open(f"{out}/SST-2.tsv", encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert lines == ["index\tprediction"] + [f"{i}\t{row.argmax()}" for i, row in enumerate(rows)]


def test_it_learns(tmp_path, data, tiny_dir):
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=str(tmp_path), do_train=True,
                 do_eval=True, num_train_epochs=20, tuning="full", learning_rate=0.002,
                 bias_correction=True)
    assert metrics["eval_accuracy"] >= 0.9


def test_a_checkpoint_holds_only_what_trains(finished):
    names = set(checkpoint_io.Checkpoint(f"{finished[0]}/model.ckpt-36").shapes)
    trained = {name for name in names if not name.endswith(("/adam_m", "/adam_v"))}
    assert trained - {"global_step", "base_fingerprint"} == {
        name for name in trained if "/adapters/" in name or "/LayerNorm/" in name
        or name.startswith("output_")}
    assert len(names) == 3 * (16 + 10 + 2) + 2


def test_the_share_of_the_base_in_a_checkpoint(tmp_path, data, minilm_dir, record_property):
    out = str(tmp_path / "out")
    go(data_dir=data, bert_dir=minilm_dir, output_dir=out, do_train=True, adapter_size=64,
       num_train_epochs=0.1, max_seq_length=8)
    written = sum(os.path.getsize(path) for path in glob.glob(f"{out}/model.ckpt-1.*"))
    whole = sum(os.path.getsize(path) for path in glob.glob(f"{minilm_dir}/bert_model.ckpt.*"))
    record_property("share of the base's bytes", float(written / whole))
    assert written / whole < 0.15


@pytest.mark.parametrize("tuning", TUNINGS)
def test_frozen_variables_stay_bit_identical(tmp_path, data, tiny_dir, tuning):
    out = str(tmp_path / "out")
    go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, tuning=tuning,
       num_train_epochs=1)
    full = str(tmp_path / "full" / "model.ckpt")
    conversion.convert(f"{out}/model.ckpt-12", full, to="full", base_path=tiny_dir)
    before, after = values(f"{tiny_dir}/bert_model.ckpt"), values(full)
    trained = {name for name in checkpoint_io.Checkpoint(f"{out}/model.ckpt-12").shapes}
    for name, value in before.items():
        assert np.array_equal(value, after[name]) == (name not in trained), name
    assert {"output_weights", "output_bias"} <= after.keys()
    assert not any("adam" in name or "fingerprint" in name for name in after)


def test_two_runs_with_one_seed_are_identical(tmp_path, data, tiny_dir, finished):
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=str(tmp_path), do_train=True,
                 do_eval=True)
    assert same(values(f"{tmp_path}/model.ckpt-36"), values(f"{finished[0]}/model.ckpt-36"))
    assert metrics == finished[1]
    other = str(tmp_path / "other")
    go(data_dir=data, bert_dir=tiny_dir, output_dir=other, do_train=True, seed=1)
    assert not same(values(f"{other}/model.ckpt-36"), values(f"{finished[0]}/model.ckpt-36"))


def test_an_interrupted_run_ends_as_if_it_was_not(tmp_path, data, tiny_dir, finished):
    flags = dict(data_dir=data, bert_dir=tiny_dir, output_dir=str(tmp_path), do_train=True,
                 save_checkpoints_steps=10)
    go(**flags)
    for path in glob.glob(f"{tmp_path}/model.ckpt-[23]*"):
        os.remove(path)
    write(f"{tmp_path}/checkpoint", ['model_checkpoint_path: "model.ckpt-10"'])
    go(**flags)
    assert same(values(f"{tmp_path}/model.ckpt-36"), values(f"{finished[0]}/model.ckpt-36"))


def test_a_finished_run_is_evaluated_and_more_epochs_go_on(copied, data, tiny_dir, finished):
    flags = dict(data_dir=data, bert_dir=tiny_dir, output_dir=copied, do_train=True, do_eval=True)
    stamp = os.path.getmtime(f"{copied}/model.ckpt-36.index")
    assert go(**flags) == finished[1]
    assert os.path.getmtime(f"{copied}/model.ckpt-36.index") == stamp
    assert go(**flags, num_train_epochs=4.0)["global_step"] == 48


@pytest.mark.parametrize("flag,value", [
    ("learning_rate", 0.02), ("adapter_size", 8), ("tuning", "full"), ("seed", 3),
    ("max_train_examples", 50), ("max_seq_length", 12)])
def test_contradicting_flags_are_refused_with_the_difference(copied, data, tiny_dir, flag, value):
    with pytest.raises(InputError, match=f"--{flag}: .* then, .* now"):
        go(**{"data_dir": data, "bert_dir": tiny_dir, "output_dir": copied, "do_train": True,
              flag: value})
    assert os.path.exists(f"{copied}/model.ckpt-36.index")


def test_other_data_is_refused(copied, tmp_path, tiny_dir):
    other = write_sst2(str(tmp_path / "other"), seed=5)
    stamp = os.path.getmtime(f"{copied}/train.tf_record")
    with pytest.raises(InputError, match="other training data; give those"):
        go(data_dir=other, bert_dir=tiny_dir, output_dir=copied, do_train=True)
    assert os.path.getmtime(f"{copied}/train.tf_record") == stamp


def test_evaluation_alone_needs_no_adapter_flags(copied, data, tiny_dir, finished):
    settings = dict(task_name="SST-2", data_dir=data, bert_dir=tiny_dir, output_dir=copied)
    settings = Settings(**settings, do_eval=True)
    assert run(settings, {"data_dir", "bert_dir", "output_dir", "do_eval"},
               text_task(settings)) == finished[1]


def predictions(folder):
    with open(f"{folder}/test_results.tsv", encoding="utf-8") as file:
        return file.read()


def test_prediction_from_a_checkpoint_of_what_trains(tmp_path, data, finished):
    out = str(tmp_path / "predicted")
    go(data_dir=data, output_dir=out, do_predict=True,
       init_checkpoint=f"{finished[0]}/model.ckpt-36")
    assert predictions(out) == predictions(finished[0])


def test_a_base_that_moved_gets_one_line(copied, tmp_path, data, tiny_dir, finished):
    moved = shutil.copytree(tiny_dir, str(tmp_path / "moved_uncased"))
    recorded = read_json(f"{copied}/run.json")
    for name in ("vocab_file", "bert_config_file", "init_checkpoint"):
        recorded["base"][name] = "/nowhere/" + os.path.basename(recorded["base"][name])
    write(f"{copied}/run.json", [json.dumps(recorded)])
    flags = dict(data_dir=data, output_dir=str(tmp_path / "out"), do_predict=True,
                 init_checkpoint=f"{copied}/model.ckpt-36")
    with pytest.raises(InputError, match="nowhere.*--bert_dir"):
        go(**flags)
    go(**flags, bert_dir=moved)
    assert predictions(str(tmp_path / "out")) == predictions(finished[0])


def test_another_base_is_refused(copied, tmp_path, data, tiny_dir):
    other = shutil.copytree(tiny_dir, str(tmp_path / "other_uncased"))
    changed = values(f"{other}/bert_model.ckpt")
    changed["bert/pooler/dense/bias"] += 1
    checkpoint_io.write_checkpoint(f"{other}/bert_model.ckpt", changed)
    with pytest.raises(InputError, match="another base"):
        go(data_dir=data, output_dir=str(tmp_path / "out"), do_predict=True, bert_dir=other,
           init_checkpoint=f"{copied}/model.ckpt-36")
    with pytest.raises(InputError, match="another base; give those"):
        go(data_dir=data, bert_dir=other, output_dir=copied, do_train=True)


def test_keep_best_and_early_stopping(tmp_path, data, tiny_dir):
    out = str(tmp_path / "out")
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
                 num_train_epochs=4, eval_steps=12, keep_best=True, early_stopping_patience=1,
                 learning_rate=0.05)
    history = read_json(f"{out}/eval_history.json")
    scores = [row["eval_accuracy"] for row in history]
    best = scores.index(max(scores))
    assert metrics["eval_accuracy"] == scores[best]
    assert metrics["global_step"] == history[best]["global_step"] == 12 * (best + 1)
    assert len(scores) == min(4, best + 2)
    assert os.listdir(f"{out}/best")
    assert glob.glob(f"{out}/eval/events*")


def reference_checkpoint(folder, tiny_dir, adapters):
    """A checkpoint as the reference writes it, with random values under every name."""
    random = np.random.default_rng(3)
    shapes = dict(checkpoint_io.variable_shapes(TINY.to_dict()))
    if adapters:
        for layer in range(TINY.num_hidden_layers):
            for place in ("attention/output", "output"):
                scope = f"bert/encoder/layer_{layer}/{place}/adapters/"
                shapes |= {scope + "weights1": (16, 4), scope + "biases1": (1, 4),
                           scope + "weights2": (4, 16), scope + "biases2": (1, 16)}
        shapes |= {"output_weights": (2, 16), "output_bias": (2,)}
    shapes |= {f"{name}/adam_{slot}": shape for name, shape in shapes.items() for slot in "mv"}
    arrays = {name: random.normal(0.5, 0.2, shape).astype(np.float32)
              for name, shape in shapes.items()}
    arrays["global_step"] = np.int64(573)
    shutil.copytree(tiny_dir, folder)
    checkpoint_io.write_checkpoint(f"{folder}/bert_model.ckpt", arrays)
    return arrays


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_reference_checkpoint_loads_in_every_mode(tmp_path, data, tiny_dir, tuning, adapters):
    folder, out = str(tmp_path / "ref_uncased"), str(tmp_path / "out")
    arrays = reference_checkpoint(folder, tiny_dir, adapters)
    go(data_dir=data, bert_dir=folder, output_dir=out, do_train=True, tuning=tuning,
       num_train_epochs=0.1)
    start = values(f"{out}/model.ckpt-0") if os.path.exists(f"{out}/model.ckpt-0.index") else {}
    assert start
    for name, value in start.items():
        if name in arrays and not name.endswith(("adam_m", "adam_v")) and name != "global_step":
            assert np.array_equal(value, arrays[name]), name


def test_a_reference_checkpoint_is_evaluated(tmp_path, data, tiny_dir):
    folder = str(tmp_path / "ref_uncased")
    reference_checkpoint(folder, tiny_dir, adapters=True)
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=str(tmp_path / "out"), do_eval=True,
                 init_checkpoint=f"{folder}/bert_model.ckpt")
    assert metrics["global_step"] == 573


def test_the_reference_counts_its_mrpc_steps():
    split = Split("train", "", 3668, 200_000, (), True, None, "")
    schedule = make_schedule(Settings(num_train_epochs=5.0), split)
    assert (schedule.num_train_steps, schedule.num_warmup_steps) == (573, 57)


def test_batches_by_tokens_count_their_steps_and_train(tmp_path, data, tiny_dir):
    split = Split("train", "", 1000, 20_000, (), True, None, "")
    schedule = make_schedule(Settings(train_batch_tokens=400, num_train_epochs=2.0), split)
    assert schedule.num_train_steps == 100
    out = str(tmp_path / "out")
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
                 train_batch_tokens=64, num_train_epochs=2.0)
    tokens = read_json(f"{out}/train.tf_record.json")["tokens"]
    assert metrics["global_step"] == int(tokens / 64 * 2) and np.isfinite(metrics["eval_loss"])


def test_start_names_what_is_missing(tmp_path, tiny_dir):
    arrays = values(f"{tiny_dir}/bert_model.ckpt")
    del arrays["bert/pooler/dense/bias"]
    arrays["bert/embeddings/LayerNorm/beta"] = np.zeros([3], np.float32)
    checkpoint_io.write_checkpoint(str(tmp_path / "x.ckpt"), arrays)
    expected = r"LayerNorm/beta \[16\]: \[3\].*pooler/dense/bias.*missing"
    with pytest.raises(InputError, match=expected):
        initial_values.find_start(str(tmp_path / "x.ckpt"), TINY.to_dict())


def test_tensorboard_sees_loss_rate_and_metrics(finished):
    tags = set()
    for path in glob.glob(f"{finished[0]}/**/events*", recursive=True):
        for event in tf.train.summary_iterator(path):
            tags |= {value.tag for value in event.summary.value}
    assert {"loss", "learning_rate", "eval_accuracy", "eval_loss"} <= tags


def test_a_whole_checkpoint_beside_bert_dir_is_the_base(tmp_path, data, tiny_dir):
    folder = str(tmp_path / "ref_uncased")
    reference_checkpoint(folder, tiny_dir, adapters=False)
    out = str(tmp_path / "out")
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
                 init_checkpoint=f"{folder}/bert_model.ckpt", num_train_epochs=1.0)
    assert metrics["global_step"] == 12


def test_a_mode_that_would_lose_trained_values_is_refused(tmp_path, data, tiny_dir, finished):
    with pytest.raises(InputError, match="would freeze and lose"):
        go(data_dir=data, bert_dir=tiny_dir, output_dir=str(tmp_path / "out"), do_train=True,
           tuning="head", init_checkpoint=f"{finished[0]}/model.ckpt-36")


def test_training_goes_on_from_another_tasks_checkpoint(tmp_path, data, tiny_dir, finished):
    out = str(tmp_path / "out")
    metrics = go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
                 init_checkpoint=f"{finished[0]}/model.ckpt-36", num_train_epochs=1.0)
    assert metrics["global_step"] == 12
    start, before = values(f"{out}/model.ckpt-0"), values(f"{finished[0]}/model.ckpt-36")
    trained = [name for name in start if not checkpoint_io.is_training_state(name)]
    assert trained and all(np.array_equal(start[name], before[name]) for name in trained)


def test_an_abandoned_runs_scores_are_forgotten(copied, data, tiny_dir):
    flags = dict(data_dir=data, bert_dir=tiny_dir, output_dir=copied, do_train=True, eval_steps=12,
                 keep_best=True, num_train_epochs=1.0)
    write(f"{copied}/eval_history.json", ['[{"global_step": 12, "eval_accuracy": 2.0}]'])
    for path in glob.glob(f"{copied}/model.ckpt*"):
        os.remove(path)
    go(**flags, seed=4)
    assert [row["eval_accuracy"] <= 1 for row in read_json(f"{copied}/eval_history.json")] == [True]


def test_killed_between_a_checkpoint_and_its_score(copied, data, tiny_dir):
    """The finished run has no score of its last step, as if it was killed before it."""
    go(data_dir=data, bert_dir=tiny_dir, output_dir=copied, do_train=True, eval_steps=36,
       keep_best=True)
    assert [row["global_step"] for row in read_json(f"{copied}/eval_history.json")] == [36]
    assert os.path.exists(f"{copied}/best/model.ckpt-36.index")
    results = read_json(f"{copied}/results.json")
    assert results["counts"]["variables"] and results["train_examples_per_second"] > 0


def test_another_tasks_labels_are_refused(tmp_path, data, finished):
    flags = dict(data_dir=data, output_dir=str(tmp_path / "out"), do_predict=True,
                 init_checkpoint=f"{finished[0]}/model.ckpt-36")
    with pytest.raises(InputError, match="trained for 0, 1, and RTE has entailment"):
        go(**flags, task_name="RTE")
    with pytest.raises(InputError, match="trained for classification, and custom is regression"):
        go(**flags, task_name="custom", text_column="sentence", label_column="label",
           label_type="number")


def test_lower_epochs_are_refused_and_a_step_0_checkpoint_binds_nobody(copied, tmp_path, data,
                                                                       tiny_dir):
    flags = dict(data_dir=data, bert_dir=tiny_dir, do_train=True)
    with pytest.raises(InputError, match="num_train_epochs: 3.0 then, 2.0 now"):
        go(**flags, output_dir=copied, num_train_epochs=2.0)
    out = str(tmp_path / "diverged")
    with pytest.raises(InputError, match="loss became NaN"):
        go(**flags, output_dir=out, learning_rate=1e30, tuning="full")
    go(**flags, output_dir=out, num_train_epochs=1.0)
    assert os.path.exists(f"{out}/model.ckpt-12.index")


def test_a_best_checkpoint_that_this_run_does_not_keep_is_not_used(copied, data, tiny_dir):
    flags = dict(data_dir=data, bert_dir=tiny_dir, output_dir=copied, do_train=True, do_eval=True)
    go(**flags, eval_steps=36, keep_best=True)
    assert os.listdir(f"{copied}/best")
    assert go(**flags, num_train_epochs=4.0)["global_step"] == 48


def test_one_file_of_a_checkpoint_is_no_checkpoint(tmp_path, data, finished):
    with pytest.raises(InputError, match="one file of a checkpoint; name .*model.ckpt-36$"):
        go(data_dir=data, output_dir=str(tmp_path), do_eval=True,
           init_checkpoint=f"{finished[0]}/model.ckpt-36.index")


def test_weights_that_are_no_numbers_are_not_scored(tmp_path, data, tiny_dir):
    with pytest.raises(InputError, match="diverged"):
        go(data_dir=data, bert_dir=tiny_dir, output_dir=str(tmp_path), do_train=True, do_eval=True,
           do_predict=True, learning_rate=1e30, num_train_epochs=0.1, warmup_proportion=0.0)
    assert not os.path.exists(f"{tmp_path}/test_results.tsv")


@pytest.mark.parametrize("tuning", ["adapters", "full"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_session_that_stays_predicts_what_a_new_one_does(
        tmp_path, data, tiny_dir, tuning, precision):
    out = str(tmp_path / "out")
    settings = Settings(task_name="SST-2", max_seq_length=16, train_batch_size=8, do_train=True,
                        learning_rate=0.01, do_eval=True, data_dir=data, bert_dir=tiny_dir,
                        output_dir=out, tuning=tuning, precision=precision, **REFERENCE)
    task = text_task(settings)
    run(settings, frozenset(), task)
    current, examples = read(resolve.open_run(settings, frozenset(), task))
    splits = prepare(current, examples)
    start = initial_values.find_start(current.settings.init_checkpoint, TINY.to_dict())
    first, last = (start._replace(task=f"{out}/model.ckpt-{step}") for step in (0, 36))
    staying, fresh = (evaluation.passes_of(current, splits["dev"], 8) for _ in range(2))
    before = list(staying.batches(first))
    assert len(before) == 3 and before[0]["index"].shape == (8,)
    found = list(staying.batches(last))
    wanted = list(by_estimator(current, last, lambda params: evaluation_batches(
        splits["dev"].path, splits["dev"].spec, 21, params["batch_size"], 16), 8))
    for one, new, other, old in zip(found, fresh.batches(last), wanted, before, strict=True):
        assert same(one, new) and same(one, other)
        assert np.array_equal(one["index"], old["index"]) and not same(one, old)


@pytest.mark.parametrize("extra", [
    {"cls/squad/output_weights": np.ones((2, 16), "f4"), "cls/squad/output_bias": np.ones(2, "f4")},
    {"output_weights": np.ones((5, 16), "f4"), "output_bias": np.ones(5, "f4")}])
def test_a_model_of_another_task_is_a_start_and_its_head_is_left_out(
        tmp_path, tiny_dir, caplog, extra):
    whole = str(tmp_path / "whole.ckpt")
    checkpoint_io.write_checkpoint(
        whole, {**checkpoint_io.Checkpoint(f"{tiny_dir}/bert_model.ckpt"), **extra}
    )
    with caplog.at_level("INFO"):
        metrics = go(data_dir=write_sst2(tmp_path / "data"), output_dir=str(tmp_path / "out"),
                     bert_dir=tiny_dir, init_checkpoint=whole, do_train=True, do_eval=True,
                     num_train_epochs=1)
    assert metrics["eval_accuracy"] >= 0
    said = [r.getMessage() for r in caplog.records if "is for another task" in r.getMessage()]
    assert len(said) == 1 and sorted(extra)[0] in said[0]
