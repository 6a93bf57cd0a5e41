"""Packs of runs: what is left after training, and what starts from it."""
import os
import shutil

import numpy as np
import pytest
from runs import go, write_sst2

from adapter_bert import files
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.files import read_json
from adapter_bert.packs import store


@pytest.fixture(name="run_dir", scope="module")
def fixture_run_dir(tiny_dir, tmp_path_factory):
    """A trained run on the tiny BERT with its pack; beside it the data."""
    folder = tmp_path_factory.mktemp("packed")
    go(data_dir=write_sst2(folder / "data"), output_dir=str(folder / "run"), bert_dir=tiny_dir,
       do_train=True, do_eval=True, do_predict=True, num_train_epochs=3.0)
    return folder


def predictions(folder):
    return np.loadtxt(os.path.join(folder, "test_results.tsv"))


def test_a_run_leaves_a_pack(run_dir):
    pack = store.read(str(run_dir / "run" / "pack"))
    results = read_json(str(run_dir / "run" / "results.json"))
    assert pack.manifest.metrics == results["metrics"] and pack.manifest.metrics["eval_accuracy"]
    assert pack.manifest.data["train"]["examples"] == 96 and pack.manifest.pair is False
    checkpoint = checkpoint_io.Checkpoint(results["checkpoint"])
    assert all(np.array_equal(value, checkpoint[name]) for name, value in pack.weights.items())
    assert {"output_weights", "bert/embeddings/LayerNorm/gamma"} < pack.weights.keys()


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_pack_and_base_predict_as_the_run(run_dir, tiny_dir, tmp_path, record_property, form):
    pack = str(run_dir / "run" / "pack")
    if form == "zip":
        store.write(str(tmp_path / "p.zip"), store.read(pack))
        pack = str(tmp_path / "p.zip")
    out = str(tmp_path / "out")
    metrics = go(data_dir=str(run_dir / "data"), output_dir=out, bert_dir=tiny_dir, pack=pack,
                 do_eval=True, do_predict=True)
    difference = np.abs(predictions(out) - predictions(run_dir / "run")).max()
    record_property("difference", float(difference))
    assert difference <= 1e-6
    assert metrics["eval_accuracy"] == read_json(
        str(run_dir / "run" / "results.json"))["metrics"]["eval_accuracy"]


def test_training_goes_on_from_a_pack(run_dir, tiny_dir, tmp_path):
    flags = dict(data_dir=str(run_dir / "data"), output_dir=str(tmp_path), bert_dir=tiny_dir,
                 do_train=True, pack=str(run_dir / "run" / "pack"), learning_rate=0.0)
    go(**flags)
    before, after = store.read(str(run_dir / "run" / "pack")), store.read(str(tmp_path / "pack"))
    assert all(np.array_equal(before.weights[name], value)
               for name, value in after.weights.items())
    go(**flags)   # the same command again is the same run


def test_half_the_bytes(run_dir, tiny_dir, tmp_path):
    go(data_dir=str(run_dir / "data"), output_dir=str(tmp_path), bert_dir=tiny_dir, do_train=True,
       pack_precision="bfloat16", pack_dir=str(tmp_path / "half.zip"), num_train_epochs=1.0)
    assert store.read(str(tmp_path / "half.zip")).manifest.weights.dtype == "bfloat16"


@pytest.mark.long
def test_tasks_do_not_touch_each_other(run_dir, tiny_dir, tmp_path):
    """A, B and C one after the other: A predicts the same bits, and the base is what it was."""
    def digests():
        return {name: files.sha256(os.path.join(tiny_dir, name)) for name in os.listdir(tiny_dir)}
    before, packs = digests(), []
    for name in "ABC":
        data = write_sst2(tmp_path / f"data{name}", seed=ord(name))
        pack = str(tmp_path / f"{name}.zip")
        go(data_dir=data, output_dir=str(tmp_path / name), bert_dir=tiny_dir, do_train=True,
           do_predict=True, pack_dir=pack, num_train_epochs=1.0)
        packs.append(pack)
    first = predictions(tmp_path / "A")
    go(data_dir=str(tmp_path / "dataA"), output_dir=str(tmp_path / "again"), bert_dir=tiny_dir,
       do_predict=True, pack=packs[0])
    assert np.array_equal(first, predictions(tmp_path / "again"))
    assert digests() == before
    needed = sum(map(os.path.getsize, packs))
    parameters = sum(value.size for value in store.read(packs[0]).weights.values())
    assert needed < 3 * (4 * parameters + 20_000)   # base + packs is all that the tasks need


def test_another_base_is_refused_with_both_names(run_dir, tiny_dir, tmp_path):
    other = tmp_path / "another_base"
    other.mkdir()
    checkpoint = checkpoint_io.Checkpoint(os.path.join(tiny_dir, "bert_model.ckpt"))
    checkpoint_io.write_checkpoint(str(other / "bert_model.ckpt"), {
        name: checkpoint[name] + 1e-6 for name in checkpoint})
    for name in ("vocab.txt", "bert_config.json"):
        shutil.copy(os.path.join(tiny_dir, name), other)
    with pytest.raises(InputError, match="another_base.*another base.*uncased_L-2_H-16_A-2"):
        go(data_dir=str(run_dir / "data"), output_dir=str(tmp_path / "out"), bert_dir=str(other),
           pack=str(run_dir / "run" / "pack"), do_predict=True)


def test_pack_flags_that_do_not_fit(run_dir, tiny_dir, tmp_path):
    pack, data = str(run_dir / "run" / "pack"), str(run_dir / "data")
    with pytest.raises(InputError, match="--bert_dir"):
        go(data_dir=data, output_dir=str(tmp_path), pack=pack, do_predict=True)
    with pytest.raises(InputError, match="--adapter_size=4, not 8"):
        go(data_dir=data, output_dir=str(tmp_path), pack=pack, bert_dir=tiny_dir, do_predict=True,
           adapter_size=8)
    with pytest.raises(InputError, match="no such"):
        go(data_dir=data, output_dir=str(tmp_path), pack=pack + "x", bert_dir=tiny_dir,
           do_predict=True)


@pytest.mark.parametrize("flags,message", [
    ({"pack_dir": "OUT"}, "the run's own folder"), ({"pack_dir": "OUT/.."}, "the run's own folder"),
    ({"pack_dir": "BERT"}, "other things than a pack"),
    ({"pack_dir": "BERT/vocab.txt"}, "no pack"), ({"pack_dir": "/proc/x/y"}, "cannot be written"),
    ({"pack_description": "x" * 10_001}, "description"), ({"pack_license": "\udcff"}, "license"),
    ({"pack_dir": "OUT2", "tuning": "full"}, "full tuning")])
def test_what_would_lose_the_pack_is_refused_before_training(run_dir, tiny_dir, tmp_path, flags,
                                                             message):
    out = str(tmp_path / "out")
    flags = {name: value.replace("OUT", out).replace("BERT", tiny_dir)
             for name, value in flags.items()}
    with pytest.raises(InputError, match=message):
        go(data_dir=str(run_dir / "data"), output_dir=out, bert_dir=tiny_dir, do_train=True,
           **flags)
    assert not os.path.exists(os.path.join(out, "model.ckpt-1.index"))


def test_two_packs_in_one_folder_do_not_meet(run_dir, tiny_dir, tmp_path):
    """Each start has a folder of its own, so that a run at work keeps what it began with."""
    first = store.read(str(run_dir / "run" / "pack"))
    second = first._replace(weights={**first.weights, "output_bias": first.weights[
        "output_bias"] + 1})
    starts = []
    for name, pack in (("first", first), ("second", second)):
        store.write(str(tmp_path / name), pack)
        go(data_dir=str(run_dir / "data"), output_dir=str(tmp_path / "out"), bert_dir=tiny_dir,
           pack=str(tmp_path / name), do_predict=True)
        starts.append(sorted(os.listdir(tmp_path / "out" / "from_pack")))
    assert len(starts[0]) == 1 and len(starts[1]) == 2 and starts[0][0] in starts[1]


@pytest.mark.parametrize("do_train", [True, False])
def test_another_vocabulary_is_refused(run_dir, tiny_dir, tmp_path, do_train):
    other = shutil.copytree(tiny_dir, tmp_path / "uncased_L-2_H-16_A-2")
    lines = (other / "vocab.txt").read_text().splitlines()
    lines[5], lines[6] = lines[6], lines[5]
    (other / "vocab.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="another vocabulary"):
        go(data_dir=str(run_dir / "data"), output_dir=str(tmp_path / "out"), bert_dir=str(other),
           pack=str(run_dir / "run" / "pack"), do_train=do_train, do_eval=True)


def test_a_pack_does_not_hide_the_run_in_its_folder(run_dir, tiny_dir):
    with pytest.raises(InputError, match="holds a run of its own"):
        go(data_dir=str(run_dir / "data"), output_dir=str(run_dir / "run"), bert_dir=tiny_dir,
           pack=str(run_dir / "run" / "pack"), do_predict=True)


def test_the_best_checkpoints_pack_and_its_scores(run_dir, tiny_dir, tmp_path):
    flags = dict(data_dir=str(run_dir / "data"), output_dir=str(tmp_path), bert_dir=tiny_dir,
                 do_train=True, keep_best=True, eval_steps=4, num_train_epochs=2.0,
                 learning_rate=0.05, pack_license="MIT", pack_description="Films.")
    go(**flags)
    pack = store.read(str(tmp_path / "pack"))
    best, = (tmp_path / "best").glob("*.index")
    checkpoint = checkpoint_io.Checkpoint(str(best)[:-len(".index")])
    assert np.array_equal(pack.weights["output_weights"], checkpoint["output_weights"])
    assert pack.manifest.metrics["global_step"] == int(checkpoint["global_step"])
    assert (pack.manifest.license, pack.manifest.description) == ("MIT", "Films.")
    go(**flags)   # nothing is left to train, and the scores are still known
    assert store.read(str(tmp_path / "pack")).manifest == pack.manifest


def test_what_a_killed_writer_left_is_no_hindrance(run_dir, tiny_dir, tmp_path):
    flags = dict(data_dir=str(run_dir / "data"), output_dir=str(tmp_path), bert_dir=tiny_dir,
                 do_train=True, num_train_epochs=0.1)
    (tmp_path / ".pack.abc.part" / "new").mkdir(parents=True)
    go(**flags)
    go(**flags)
    assert store.read(str(tmp_path / "pack")) and not list(tmp_path.glob(".*.part"))


def test_full_tuning_makes_no_pack(run_dir, tiny_dir, tmp_path):
    go(data_dir=str(run_dir / "data"), output_dir=str(tmp_path), bert_dir=tiny_dir, do_train=True,
       tuning="full", num_train_epochs=0.1)
    assert not (tmp_path / "pack").exists()
