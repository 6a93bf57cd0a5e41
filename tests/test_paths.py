"""Paths of another file system: `ram://` is TensorFlow's, with no path of this machine."""
import errno
import os

import pytest
import runs
import tensorflow.compat.v1 as tf
from runs import go, same, values, write_sst2
from tensorflow.python.training import checkpoint_utils

from adapter_bert import files, paths
from adapter_bert.errors import InputError
from adapter_bert.files import read_json
from adapter_bert.train import initial_values

FLAGS = {"num_train_epochs": 1.0, "do_train": True, "do_eval": True, "do_predict": True}


@pytest.fixture(name="no_prefix_is_a_folder")
def fixture_no_prefix_is_a_folder(monkeypatch):
    """TensorFlow's `ram://` alone takes the beginning of a path for a folder, as that of a base."""
    monkeypatch.setattr(checkpoint_utils, "_get_checkpoint_filename", str)


def put(folder, place):
    """Copies a folder of this machine to another file system."""
    for name in os.listdir(folder):
        files.upload(os.path.join(folder, name), f"{place}/{name}")
    return place


@pytest.mark.parametrize("place", ["ram://calls", ""])
def test_both_file_systems_answer_alike(tmp_path, place):
    folder = f"{place or tmp_path}/folder"
    assert not paths.exists(folder) and paths.names_in(folder) == []
    with pytest.raises(FileNotFoundError) as error:
        paths.open_file(f"{folder}/a")
    assert error.value.errno == errno.ENOENT and error.value.filename == f"{folder}/a"
    files.write_text(f"{folder}/a", "one")
    files.write_text(f"{folder}/a", "two\n")
    paths.append(f"{folder}/a", "three\n")
    with paths.open_file(f"{folder}/a") as file:
        assert list(file) == [b"two\n", b"three\n"]
    with paths.here(f"{folder}/a") as here:
        assert os.path.basename(here) == "a" and os.path.getsize(here) == paths.size(here)
    assert paths.names_in(folder) == ["a"] and paths.is_folder(folder)
    assert paths.matching(f"{folder}/*") == [f"{folder}/a"]
    assert files.sha256(f"{folder}/a") == files.sha256(here if place == "" else f"{folder}/a")
    with files.new_folder(f"{folder}/b") as new:
        files.write_json(os.path.join(new, "c"), 1)
    assert files.read_json(f"{folder}/b/c") == 1
    with pytest.raises(InputError, match="not an empty folder"), files.new_folder(f"{folder}/b"):
        pass
    paths.remove_all(f"{folder}/b")
    paths.remove(f"{folder}/a")
    with pytest.raises(InputError, match="no such file"):
        files.read_json(f"{folder}/b/c")


def test_what_cannot_be_done_elsewhere_is_one_line(tiny_dir, tmp_path):
    flags = {"bert_dir": tiny_dir, "output_dir": str(tmp_path), "data_dir": str(tmp_path), **FLAGS}
    for name, value, message in (
            ("data_dir", "s3://bucket/x", "knows no such file system"),
            ("pack", "gs://bucket/x", "copy it here first")):
        with pytest.raises(InputError, match=f"--{name}={value}: .*{message}"):
            go(**{**flags, name: value})


@pytest.mark.slow
@pytest.mark.usefixtures("no_prefix_is_a_folder")
def test_a_run_on_another_file_system_equals_one_here(tmp_path, tiny_dir):
    data = write_sst2(tmp_path / "data")
    here = {"data_dir": data, "bert_dir": tiny_dir, "output_dir": str(tmp_path / "out")}
    there = {"data_dir": put(data, "ram://data"), "output_dir": "ram://runs/out",
             "bert_dir": put(tiny_dir, "ram://bases/uncased_L-2_H-16_A-2")}
    found = go(**there, **FLAGS, keep_best=True)
    assert found == go(**here, **FLAGS, keep_best=True)
    assert same(values("ram://runs/out/model.ckpt-12"), values(f"{tmp_path}/out/model.ckpt-12"))
    assert {name for name in paths.names_in("ram://runs/out") if "events" not in name} == {
        name for name in os.listdir(tmp_path / "out") if "events" not in name}
    assert read_json("ram://runs/out/pack/pack.json")["metrics"] == read_json(
        f"{tmp_path}/out/pack/pack.json")["metrics"]
    with pytest.raises(InputError, match=r"ram://data/no/train\.tsv: no such file"):
        go(**{**there, "data_dir": "ram://data/no", **FLAGS})
    tf.io.gfile.remove("ram://runs/out/train.tf_record")
    go(**there, do_train=True, num_train_epochs=2.0)
    assert initial_values.latest_step("ram://runs/out")[1] == 24


@pytest.mark.slow
@pytest.mark.usefixtures("no_prefix_is_a_folder")
def test_answers_on_another_file_system(tmp_path, tiny_dir):
    path = runs.write_squad(tmp_path / "train.json", 24)
    files.upload(path, "ram://squad/train.json")
    runs.go_squad(train_file="ram://squad/train.json", predict_file="ram://squad/train.json",
                  bert_dir=tiny_dir, output_dir="ram://runs/squad", do_train=True, do_predict=True,
                  num_train_epochs=1.0)
    assert {"predictions.json", "pack", "results.json"} <= set(paths.names_in("ram://runs/squad"))
