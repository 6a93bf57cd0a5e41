"""adapter-bert pack: what people type, and what they read."""
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from packs import tiny_pack

from adapter_bert.__main__ import main
from adapter_bert.bert import checkpoint_io
from adapter_bert.packs import store
from adapter_bert.packs.bases import base_of


@pytest.fixture(name="on", scope="module")
def fixture_on(tiny_dir):
    """The manifest.Base of the tiny BERT."""
    return base_of(tiny_dir)


@pytest.fixture(name="run")
def fixture_run(tmp_path, monkeypatch, capsys, on):
    """A function that runs `adapter-bert pack ...` in a folder with the pack `mine`; its output.

    Where it fails, one line on stderr is added.
    """
    monkeypatch.chdir(tmp_path)
    store.write("mine", tiny_pack(base=on))

    def run(*arguments):
        try:
            main(["pack", *arguments])
        except SystemExit as error:
            said = capsys.readouterr()
            assert error.code == 1 and said.err.count("\n") == 1
            return said.out + said.err
        return capsys.readouterr().out
    return run


def test_show(run):
    shown = run("show", "mine")
    for words in ("SST-2, classification of single texts", "0, 1", "uncased_L-2_H-16_A-2",
                  "eval_accuracy 0.75", "96 train", "MIT", "Made sentences."):
        assert words in shown
    assert json.loads(run("show", "mine", "--json"))["task"] == "SST-2"


def test_show_begins_with_the_warning_of_a_pack(run, on):
    store.write("bad", tiny_pack(base=on, warning="training learned nothing: NaN"))
    assert run("show", "bad").splitlines()[0].split(maxsplit=1) == [
        "warning", "training learned nothing: NaN"]
    assert "warning" not in run("show", "mine")


def test_verify(run, tiny_dir):
    assert run("verify", "mine", "--bert_dir", tiny_dir) == "OK: mine\n"
    with open("mine/weights.safetensors", "r+b") as file:
        file.seek(5000)
        file.write(b"x")
    bad, error = run("verify", "mine").splitlines()
    assert bad.startswith("FAILED: mine: weights.safetensors is damaged")
    assert error == "error: 1 of 1 packs cannot be used: mine"


def test_convert_folder_and_zip(run):
    assert "there.zip: SST-2 for uncased" in run(
        "convert", "--from=pack", "--to=pack", "mine", "there.zip")
    run("convert", "--from=pack", "--to=pack", "there.zip", "back")
    for name in ("pack.json", "weights.safetensors"):
        with open(f"mine/{name}", "rb") as one, open(f"back/{name}", "rb") as other:
            assert one.read() == other.read()
    run("convert", "--from=pack", "--to=pack", "--dtype=bfloat16", "mine", "half.zip")
    assert os.path.getsize("half.zip") < os.path.getsize("there.zip")


def test_convert_to_adapterhub_and_back(run, tiny_dir, on):
    assert "LayerNorm" in run("convert", "--from=pack", "--to=adapterhub", "mine", "hub")
    assert not os.path.exists("hub")
    store.write("only", tiny_pack(3, base=on, tuning="adapters_only"))
    run("convert", "--from=pack", "--to=adapterhub", "only", "hub", "--name=sst")
    run("convert", "--from=adapterhub", "--to=pack", "--bert_dir", tiny_dir, "hub", "back",
        "--task=SST-2", "--max_seq_length=16")
    before, after = store.read("only"), store.read("back")
    assert all(np.array_equal(after.weights[name], value)
               for name, value in before.weights.items())
    assert after.manifest.adapter == before.manifest.adapter
    assert "--bert_dir is missing" in run("convert", "--from=adapterhub", "--to=pack", "hub", "x")


def cased_of(tiny_dir):
    """The tiny BERT in a folder that says it is cased."""
    shutil.copytree(tiny_dir, "cased")
    with open("cased/tokenizer_config.json", "w", encoding="utf-8") as file:
        file.write('{"do_lower_case": false}')
    return "cased"


def test_convert_a_checkpoint(run, tiny_dir, on):
    weights = tiny_pack(base=on).weights
    original = checkpoint_io.Checkpoint(f"{tiny_dir}/bert_model.ckpt")
    checkpoint_io.write_checkpoint("model.ckpt-3", {**dict(original), **weights})
    assert "--cased" in run("convert", "--from=checkpoint", "--to=pack", "--bert_dir", cased_of(
        tiny_dir), "--labels=no,yes", "model.ckpt-3", "new")
    assert "no name" in run("convert", "--from=checkpoint", "--to=pack", "--bert_dir", tiny_dir,
                            "--labels=no,,yes", "model.ckpt-3", "new")
    assert "--labels is missing" in run(
        "convert", "--from=checkpoint", "--to=pack", "--bert_dir", tiny_dir, "model.ckpt-3", "new")
    run("convert", "--from=checkpoint", "--to=pack", "--bert_dir", tiny_dir, "--labels=no,yes",
        "--task=MRPC", "--max_seq_length=16", "model.ckpt-3", "new")
    found = store.read("new")
    assert found.manifest.labels == ("no", "yes") and found.manifest.task == "MRPC"
    assert all(np.array_equal(found.weights[name], value) for name, value in weights.items())


def test_average(run, on):
    store.write("other.zip", tiny_pack(1, base=on))
    assert "average of 2" in run("average", "mine", "other.zip", "--output=mean.zip",
                                 "--weights=0.25,0.75")
    mean = store.read("mean.zip").weights["output_bias"]
    wanted = 0.25 * tiny_pack(0).weights["output_bias"] + 0.75 * tiny_pack(1).weights["output_bias"]
    assert np.allclose(mean, wanted, atol=1e-6)
    assert "named twice" in run("average", "mine", "mine", "--output=x.zip")
    assert "--weights=a" in run("average", "mine", "other.zip", "--output=x.zip", "--weights=a")
    assert "named twice" in run("average", "mine", "./mine", "--output=x.zip")
    assert "add up" in run("average", "mine", "other.zip", "--output=x.zip",
                           "--weights=1e308,1e308")
    assert "no path" in run("average", "mine", "other.zip", "--output=")
    assert "--head_from=that" in run("average", "mine", "other.zip", "--output=x.zip",
                                     "--head_from=that")


def test_describe_and_load(run):
    run("describe", "mine", "--license=Apache-2.0", "--description=Of films.")
    found = store.read("mine").manifest
    assert (found.license, found.description, found.task) == ("Apache-2.0", "Of films.", "SST-2")
    assert "run/model.ckpt-0" in run("load", "mine", "run")
    assert json.loads(run("show", "mine", "--json"))["license"] == "Apache-2.0"
    assert "output_weights" in checkpoint_io.Checkpoint("run/model.ckpt-0")
    os.mkdir("full")
    with open("full/notes.txt", "w", encoding="utf-8") as file:
        file.write("keep")
    assert "not an empty folder" in run("load", "mine", "full")
    assert os.listdir("full") == ["notes.txt"]
    store.write("other", tiny_pack(1))
    assert "not an empty folder" in run("load", "other", "run")   # nor is another's run touched
    assert sorted(os.listdir("run"))[-1] == "run.json" and len(os.listdir("run")) == 3
    assert "run/model.ckpt-0" in run("load", "mine", "run")   # the same again


def test_nothing_of_others_is_overwritten(run, tiny_dir):
    for name in ("thesis.zip", "index.json"):
        with open(name, "w", encoding="utf-8") as file:
            file.write("mine")
    assert "no pack" in run("convert", "--from=pack", "--to=pack", "mine", "thesis.zip")
    assert "no path" in run("convert", "--from=pack", "--to=pack", "mine", "")
    assert "not the index of a hub" in run("index", ".")
    for name in ("thesis.zip", "index.json"):
        with open(name, encoding="utf-8") as file:
            assert file.read() == "mine"


def test_options_that_would_be_passed_over(run, tiny_dir):
    said = run("convert", "--from=pack", "--to=pack", "--max_seq_length=8", "--cased", "mine", "x")
    assert "--max_seq_length" in said and "--cased" in said and not os.path.exists("x")


def test_options_stand_anywhere(run, tiny_dir):
    run("push", "mine", "--name=one", "hub")
    assert "one" in run("search", "hub", "--task=SST-2", "made")
    assert run("verify", "mine", "--bert_dir", tiny_dir, "hub/one.zip").count("OK: ") == 2


def test_show_prints_no_control_characters(run):
    store.write("evil", tiny_pack(description="nice\x1b[2J\nlabels       yes, no"))
    assert "\x1b" not in run("show", "evil") and run("show", "evil").count("\nlabels") == 1


def test_sharing(run):
    assert run("push", "mine", "hub") == "mine: pushed to hub\n"
    assert run("push", "mine/", "hub") == "mine: already there, unchanged\n"
    assert run("index", "hub") == "hub: 1 packs in its index\n"
    assert run("list", "hub").splitlines()[1].startswith("mine  SST-2")
    assert run("search", "hub", "sentences", "--task=sst-2").splitlines()[1].startswith("mine")
    assert run("search", "hub", "absent") == "no pack is like that\n"
    assert run("pull", "hub", "mine").startswith("mine.zip: pulled and verified")
    assert run("pull", "hub", "mine", "mine.zip") == "mine.zip: already there, unchanged\n"
    assert "holds no pack that" in run("pull", "hub", "that")


@pytest.mark.parametrize("arguments,message", [
    (["show", "nothing"], "nothing: no such file"), (["show"], "--help"), ([], "--help"),
    (["shwo", "mine"], "invalid choice"), (["push", "mine", "ftp://x/y"], "ftp"),
    (["push", "mine", "https://x/y"], "push to a folder"), (["list", "nohub"], "nohub"),
    (["push", "mine", "hub", "--name=../up"], "no name for a pack"),
    (["convert", "--from=pack", "--to=bin", "a", "b"], "invalid choice")])
def test_mistakes(run, arguments, message):
    assert message in run(*arguments)


def test_listing_imports_no_tensorflow(run):
    run("push", "mine", "hub")
    code = ("import sys; from adapter_bert.__main__ import main; main(['pack', 'list', 'hub']); "
            "sys.exit('tensorflow' in sys.modules)")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})
