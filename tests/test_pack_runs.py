"""Packs of runs: what is left after training, and what starts from it."""
import os
import shutil

import numpy as np
import pytest
from runs import go, write_sst2

from adapter_bert import base, files
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
    checkpoint = base.Checkpoint(results["checkpoint"])
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
    record_property("difference", difference)
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
    checkpoint = base.Checkpoint(os.path.join(tiny_dir, "bert_model.ckpt"))
    base.write_checkpoint(str(other / "bert_model.ckpt"), {
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


def test_full_tuning_makes_no_pack(run_dir, tiny_dir, tmp_path):
    go(data_dir=str(run_dir / "data"), output_dir=str(tmp_path), bert_dir=tiny_dir, do_train=True,
       tuning="full", num_train_epochs=0.1)
    assert not (tmp_path / "pack").exists()
