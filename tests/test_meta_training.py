"""Meta-training on the tiny BERT: what it leaves, and that it goes on where it was cut off."""
import json
import os
import pathlib
import random
import shutil

import numpy as np
import pytest
from absl import logging
from runs import go, same, sentence, values, write_sst2

from adapter_bert import files
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import store
from adapter_bert.research.meta import finetuning, meta_state, meta_training
from adapter_bert.research.meta.domains import read_dataset
from adapter_bert.research.meta.finetuning_settings import FinetuningSettings
from adapter_bert.research.meta.meta_settings import MetaSettings, check, with_defaults

DOMAINS = ("books", "dvd", "music", "video")


@pytest.fixture(name="data", scope="module")
def fixture_data(tmp_path_factory):
    """A dataset.json of made sentences in four domains."""
    source, path = random.Random(0), tmp_path_factory.mktemp("shop") / "dataset.json"
    rows = [{"text": f"{sentence(source, i % 2)} word{i} {'it ' * place}", "domain": name,
             "label": ("negative", "positive")[i % 2]}
            for place, name in enumerate(DOMAINS) for i in range(14)]
    files.write_json(str(path), rows)
    return str(path)


@pytest.fixture(name="meta", scope="module")
def fixture_meta(data, tiny_dir):
    """A function (output_dir, **flags) that meta-trains with small settings."""
    def run(output_dir, **flags):
        flags = {"data": data, "bert_dir": tiny_dir, "output_dir": str(output_dir), "epochs": 2,
                 "validation_domains": "dvd", "test_domains": "video", "num_train_task": 3,
                 "outer_batch_size": 2, "inner_update_step": 1, "inner_update_step_eval": 1,
                 "inner_batch_size": 4, "num_support": 6, "num_query": 4, "num_test_task": 2,
                 "max_seq_length": 20, "adapter_size": 4, "kernels": "plain",
                 "precision": "float32", **flags}
        return meta_training.run(MetaSettings(**flags), frozenset(flags))
    return run


@pytest.fixture(name="whole", scope="module")
def fixture_whole(meta, tmp_path_factory):
    """The folder of a run from its start to its end."""
    folder, before = tmp_path_factory.mktemp("whole"), logging.get_verbosity()
    logging.set_verbosity(logging.INFO)   # as a command does
    meta(folder)
    logging.set_verbosity(before)
    return folder


@pytest.mark.slow
def test_what_a_run_leaves(whole, data):
    left = set(os.listdir(whole))
    assert {"ckpt", "state", "pack", "hyparams.txt", "log.txt", "history.json", "best.json",
            "learning_curve.png"} <= left
    history = files.read_json(str(whole / "history.json"))
    assert [row["step"] for row in history] == [1, 2, 3, 4]   # 2 tasks and then 1, twice
    assert [len(row.get("accuracies", ())) for row in history] == [0, 2, 0, 2]
    best = files.read_json(str(whole / "best.json"))
    means = {row["epoch"]: np.mean(row["accuracies"]) for row in history if "accuracies" in row}
    epoch = max(means, key=means.get)
    assert best["checkpoint"] == f"ckpt/meta.epoch-{epoch}.step-{2 * epoch}"
    assert best["validation_accuracy"] == pytest.approx(means[epoch])
    assert "epoch 2 step 4: query loss" in (whole / "log.txt").read_text()
    settings = json.loads((whole / "hyparams.txt").read_text())
    assert (settings["inner_update_lr"], settings["tasks_at_once"]) == (1e-3, 2)

    pack = store.read(str(whole / "pack"))
    assert pack.manifest.meta.domains == ("books", "music") and pack.manifest.task != "dataset"
    assert pack.manifest.labels == read_dataset(data).labels == ("negative", "positive")
    trained = checkpoint_io.Checkpoint(str(whole / best["checkpoint"]))
    assert all(np.array_equal(trained[name], value) for name, value in pack.weights.items())


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_with_the_same_weights(meta, whole, tmp_path, monkeypatch):
    write = meta_state.write_state

    def write_and_die(output_dir, adam, step):
        write(output_dir, adam, step)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(meta_state, "write_state", write_and_die)
        meta(tmp_path)
    assert not os.path.exists(tmp_path / "best.json")
    prefix = meta(tmp_path)
    assert same(values(f"{tmp_path}/state/model.ckpt-4"), values(f"{whole}/state/model.ckpt-4"))
    assert not same(values(f"{tmp_path}/ckpt/meta.epoch-1.step-2"), values(prefix.replace(
        "epoch-1.step-2", "epoch-2.step-4")))
    assert files.read_json(str(tmp_path / "history.json")) == files.read_json(
        str(whole / "history.json"))
    with pytest.raises(InputError, match="--num_support: 6 then, 5 now"):
        meta(tmp_path, num_support=5)


@pytest.mark.slow
def test_a_classifier_starts_from_the_pack(whole, tiny_dir, tmp_path):
    data_dir = write_sst2(tmp_path / "SST-2", train=16, dev=5)
    assert "eval_accuracy" in go(
        data_dir=data_dir, bert_dir=tiny_dir, init_pack=str(whole / "pack"), do_train=True,
        do_eval=True, output_dir=str(tmp_path / "out"), kernels="plain", precision="float32")


@pytest.mark.slow
def test_full_tuning_leaves_whole_checkpoints(meta, tmp_path, tiny_dir):
    prefix = meta(tmp_path, tuning="full", epochs=1, num_train_task=1, validation_domains="",
                  algorithm="reptile", inner_optimizer="sgd")
    found, before = values(prefix), values(os.path.join(tiny_dir, "bert_model.ckpt"))
    assert before.keys() < found.keys() and checkpoint_io.FINGERPRINT_VARIABLE not in found
    assert not np.array_equal(found["bert/embeddings/word_embeddings"],
                              before["bert/embeddings/word_embeddings"])
    assert not os.path.exists(tmp_path / "pack")
    assert checkpoint_io.recorded_run(prefix)["labels"] == ["negative", "positive"]


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["bert_model", "init_checkpoint"])
def test_a_checkpoint_without_its_labels(whole, data, tiny_dir, tmp_path, flag):
    best, = (whole / "ckpt").glob("meta.epoch-2*.index")
    for path in (whole / "ckpt").glob(f"{best.stem}*"):
        shutil.copy(path, tmp_path)
    with pytest.raises(InputError, match="has a head, but no run.json beside it says which labels"):
        finetuning.run(FinetuningSettings(
            data=data, bert_dir=tiny_dir, max_seq_length=20, zero_shot=True, test_domains="video",
            output_dir=str(tmp_path / "out"), **{flag: str(tmp_path / best.stem)}),
            frozenset({"zero_shot", flag}))


@pytest.mark.slow
def test_the_head_that_counts_is_the_start_s_own(whole, data, tiny_dir, tmp_path):
    folder = shutil.copytree(tiny_dir, tmp_path / "base")
    found = values(os.path.join(tiny_dir, "bert_model.ckpt"))
    width = found["bert/pooler/dense/bias"].shape[0]
    checkpoint_io.write_checkpoint(str(folder / "bert_model.ckpt"), {
        **found, "output_weights": np.zeros([3, width], np.float32),
        "output_bias": np.zeros([3], np.float32)})
    best, = (whole / "ckpt").glob("meta.epoch-2*.index")
    zero_shot = {"data": data, "max_seq_length": 20, "zero_shot": True, "test_domains": "video",
                 "bert_model": str(best.with_suffix(""))}
    points = []
    for place in (folder, pathlib.Path(tiny_dir)):
        output_dir = tmp_path / "out" / place.name
        finetuning.run(FinetuningSettings(**zero_shot, bert_dir=str(place),
                                          output_dir=str(output_dir)), frozenset(zero_shot))
        points.append(files.read_json(str(output_dir / "results.json"))["points"])
    assert points[0] == points[1]


def test_rates_follow_the_tuning_mode():
    adapters, full = (with_defaults(MetaSettings(tuning=one)) for one in ("adapters", "full"))
    assert (adapters.inner_update_lr, adapters.outer_update_lr) == (1e-3, 1e-3)
    assert (full.inner_update_lr, full.outer_update_lr, full.tasks_at_once) == (5e-5, 5e-5, 1)
    assert with_defaults(MetaSettings(tuning="full", inner_update_lr=1e-4)).inner_update_lr == 1e-4


@pytest.mark.parametrize("flags,message", [
    ({"data": None}, "--data is missing"), ({"output_dir": ""}, "--output_dir is missing"),
    ({"algorithm": "maml"}, "--algorithm=maml: not one of fomaml, reptile"),
    ({"inner_optimizer": "lamb"}, "--inner_optimizer=lamb: not one of adam, sgd"),
    ({"outer_batch_size": 0}, "--outer_batch_size=0: must be at least 1"),
    ({"outer_update_lr": 0.0}, "--outer_update_lr=0.0: must be above 0"),
    ({"inner_update_lr": float("nan")}, "--inner_update_lr=nan: must be a finite number"),
    ({"pack": "p.zip"}, "name the folder of its base"),
    ({"pack": "p.zip", "bert_model": "b"}, "both name a start"),
    ({"data": "gs://bucket/d.json"}, "this machine.s paths only"),
    ({"pack_dir": "p", "tuning": "full"}, "makes no pack")])
def test_flags_that_no_run_can_have(flags, message):
    with pytest.raises(InputError, match=message):
        check(MetaSettings(**{"data": "d.json", "output_dir": "out", **flags}))


@pytest.mark.parametrize("flags,message", [
    ({"num_support": 40}, "domain books has 14 different texts, expected 44"),
    ({"test_domains": "books,music,video,shoes"}, "no domain 'shoes'"),
    ({"test_domains": "books,dvd"}, "both name dvd"),
    ({"test_domains": "books,music,video"}, "leave one or more to train on"),
    ({"num_labels": 3}, "has 2 labels")])
def test_data_that_no_run_can_have(meta, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        meta(tmp_path / "out", **flags)
    assert not os.path.exists(tmp_path / "out")
