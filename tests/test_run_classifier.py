"""The command: every kind of task from files to submission, and one line for every mistake."""
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import TINY, TINY_VOCAB
from runs import go, write, write_sst2

from adapter_bert import files
from adapter_bert.bert import checkpoint_io, modeling
from adapter_bert.errors import InputError, exit_on_input_error
from adapter_bert.files import read_json
from adapter_bert.train import initial_values

pytestmark = pytest.mark.slow
GLUE = os.path.join(os.path.dirname(__file__), "fixtures", "glue")


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


@pytest.mark.parametrize("task,metrics,submissions", [
    ("CoLA", {"eval_matthews"}, ["CoLA.tsv"]), ("MRPC", {"eval_f1"}, ["MRPC.tsv"]),
    ("STS-B", {"eval_pearson", "eval_spearman"}, ["STS-B.tsv"]),
    ("MNLI", {"eval_accuracy_mm", "eval_loss_mm", "loss_mm"}, ["MNLI-m.tsv", "MNLI-mm.tsv"])])
def test_a_glue_task_from_files_to_submission(tmp_path, tiny_dir, task, metrics, submissions):
    out = str(tmp_path / "out")
    found = go(task_name=task, data_dir=os.path.join(GLUE, task), bert_dir=tiny_dir,
               output_dir=out, do_train=True, do_eval=True, do_predict=True, train_batch_size=2,
               num_train_epochs=2.0)
    plain = {"eval_loss", "global_step", "loss"} | (
        set() if task == "STS-B" else {"eval_accuracy"})
    assert set(found) == plain | metrics
    for name in submissions:
        rows = lines_of(os.path.join(out, name))
        assert rows[0] == "index\tprediction" and rows[1].startswith("0\t")


def test_a_regression_begins_at_the_mean_score(tmp_path, tiny_dir):
    """The third run starts from the first one's head, on scores that are all higher."""
    data = shutil.copytree(f"{GLUE}/STS-B", tmp_path / "data")
    header, *rows = lines_of(data / "train.tsv")
    scores = [float(row.rsplit("\t", 1)[1]) for row in rows]

    def bias_after(name, **flags):
        out = str(tmp_path / name)
        go(task_name="STS-B", data_dir=str(data), bert_dir=tiny_dir, output_dir=out, do_train=True,
           train_batch_size=2, num_train_epochs=1.0, learning_rate=1e-9, **flags)
        return checkpoint_io.Checkpoint(initial_values.latest(out))["output_bias"].tolist()
    assert bias_after("first") == pytest.approx([np.mean(scores)], abs=1e-5)
    assert bias_after("full", tuning="full") == pytest.approx([np.mean(scores)], abs=1e-5)
    write(data / "train.tsv", [header, *(row.rsplit("\t", 1)[0] + "\t5.0" for row in rows)])
    assert bias_after("next", init_checkpoint=initial_values.latest(str(tmp_path / "first"))) == (
        pytest.approx([np.mean(scores)], abs=1e-5))
    assert bias_after("other") == pytest.approx([5.0], abs=1e-5)


def test_ax_is_predicted_with_an_mnli_model(tmp_path, tiny_dir):
    go(task_name="MNLI", data_dir=f"{GLUE}/MNLI", bert_dir=tiny_dir, train_batch_size=2,
       output_dir=str(tmp_path / "mnli"), do_train=True, num_train_epochs=1.0)
    out = str(tmp_path / "ax")
    step = lines_of(tmp_path / "mnli" / "checkpoint")[0].split('"')[1]
    go(task_name="AX", data_dir=f"{GLUE}/AX", output_dir=out, do_predict=True,
       init_checkpoint=str(tmp_path / "mnli" / step))
    assert {row.split("\t")[1] for row in lines_of(f"{out}/AX.tsv")[1:]} <= {
        "contradiction", "entailment", "neutral"}


def test_a_custom_csv_with_named_columns(tmp_path, tiny_dir):
    for name in ("train", "dev", "test"):
        write(tmp_path / f"{name}.csv", ["id,mood,text"] + [
            f'{i},{"happy" if i % 2 else "sad"},"a {"good" if i % 2 else "bad"}, ""fine"" film"'
            for i in range(16)])
    out = str(tmp_path / "out")
    found = go(task_name="custom", data_dir=str(tmp_path), bert_dir=tiny_dir, output_dir=out,
               text_column="text", label_column="mood", do_train=True, do_eval=True,
               do_predict=True, train_batch_size=4)
    assert set(found) == {"eval_accuracy", "eval_loss", "global_step", "loss", "eval_macro_f1",
                          "test_accuracy", "test_macro_f1"}
    again = str(tmp_path / "again")
    for name in ("train", "dev"):
        os.remove(tmp_path / f"{name}.csv")
    go(task_name="custom", data_dir=str(tmp_path), output_dir=again, text_column="text",
       label_column="mood", do_predict=True, init_checkpoint=f"{out}/model.ckpt-12")
    assert lines_of(f"{again}/predictions.tsv") == lines_of(f"{out}/predictions.tsv")


def test_an_empty_sentence_and_a_long_text_are_valid(tmp_path, tiny_dir):
    data = write_sst2(tmp_path / "data", train=8, dev=4)
    write(f"{data}/test.tsv", ["index\tsentence", "0\t", "1\t" + "good film " * 100_000])
    out = str(tmp_path / "out")
    go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_predict=True)
    assert len(lines_of(f"{out}/test_results.tsv")) == 2


@pytest.fixture(name="place")
def fixture_place(tmp_path, tiny_dir):
    """Flags of a run that works, in folders that a test may break."""
    bert = shutil.copytree(tiny_dir, tmp_path / "uncased_L-2_H-16_A-2")
    data = write_sst2(tmp_path / "data", train=8, dev=4)
    return {"data_dir": data, "bert_dir": str(bert), "output_dir": str(tmp_path / "out"),
            "do_train": True, "do_eval": True}


def change(place, name, old, new):
    path = os.path.join(place["data_dir"], name)
    with open(path, "rb") as file:
        content = file.read()
    assert old in content
    with open(path, "wb") as file:
        file.write(content.replace(old, new, 1))


def small_vocabulary(place):
    write(os.path.join(place["bert_dir"], "vocab.txt"), TINY_VOCAB)


def truncated_checkpoint(place):
    os.truncate(os.path.join(place["bert_dir"], "bert_model.ckpt.data-00000-of-00001"), 100)


def three_layers(place):
    config = modeling.BertConfig.from_dict({**TINY.to_dict(), "num_hidden_layers": 3})
    write(os.path.join(place["bert_dir"], "bert_config.json"), [config.to_json_string()])


def other_casing(place):
    write(os.path.join(place["bert_dir"], "tokenizer_config.json"), ['{"do_lower_case": false}'])


@pytest.mark.parametrize("spoil,flags,message", [
    (lambda p: os.remove(f"{p['data_dir']}/train.tsv"), {}, r"train\.tsv: no such file"),
    (lambda p: open(f"{p['data_dir']}/dev.tsv", "w").close(), {}, r"dev\.tsv: .*empty"),
    (lambda p: change(p, "train.tsv", b"\t1\n", b"\n"), {}, r"train\.tsv.*3.*column"),
    (lambda p: change(p, "dev.tsv", b"\t1\n", b"\t7\n"), {},
     r"dev\.tsv, line 3: found label '7', expected '0' or '1'"),
    (lambda p: change(p, "train.tsv", b"the", b"th\xff"), {}, r"train\.tsv.*2.*UTF-8"),
    (small_vocabulary, {}, r"vocab\.txt: 21 word pieces.*bert_config\.json says 40"),
    (truncated_checkpoint, {}, r"bert_model\.ckpt: a damaged"),
    (three_layers, {}, r"bert/encoder/layer_2/.*missing"),
    (other_casing, {}, r"--do_lower_case=false"),
    (None, {"do_lower_case": False}, r"uncased_L-2_H-16_A-2 was trained on lower"),
    (None, {"task_name": "MRCP"}, r"unknown task 'MRCP'; known: .*MRPC"),
    (None, {"task_name": "custom", "text_column": "review"}, r"no column is named 'review'"),
    (None, {"max_seq_length": 25}, r"--max_seq_length=25.*24 positions"),
    (None, {"max_seq_length": 2}, r"--max_seq_length=2"),
    (None, {"tuning": "top_layers=9"}, r"top_layers=9: the model has 2 layers"),
    (None, {"tuning": "all"}, r"tuning 'all'"),
    (None, {"adapter_size": 0}, r"adapter size 0"),
    (None, {"adapter_layers": "0,2"}, r"layers \[2\].*0 to 1"),
    (None, {"adapter_layers": "first"}, r"--adapter_layers=first"),
    (None, {"adapter_placement": "top"}, r"placement 'top'"),
    (None, {"train_batch_size": 0}, r"--train_batch_size=0"),
    (None, {"train_batch_size": 64}, r"8 examples make no batch of 64"),
    (None, {"num_train_epochs": 0.0}, r"--num_train_epochs=0"),
    (None, {"learning_rate": float("nan")}, r"--learning_rate=nan"),
    (None, {"warmup_proportion": 1.0}, r"--warmup_proportion"),
    (None, {"precision": "float8"}, r"--precision=float8.*float32"),
    (None, {"bert_dir": "/nowhere"}, r"/nowhere: no such folder"),
    (None, {"init_checkpoint": "/nowhere/x.ckpt"}, r"/nowhere/x\.ckpt: no checkpoint"),
    (None, {"output_dir": "/proc/out"}, r"/proc/out: cannot be written"),
    (None, {"data_dir": None}, r"--data_dir is missing"),
    (None, {"bert_dir": None}, r"--vocab_file is missing.*--bert_dir"),
    (None, {"do_train": False, "do_eval": False}, r"nothing to do"),
    (None, {"do_train": False}, r"no checkpoint of a trained task"),
    (None, {"learning_rate": 1e30, "tuning": "full", "num_train_epochs": 9.0},
     r"loss became NaN"),
])
def test_bad_input_is_one_line(place, spoil, flags, message):
    if spoil:
        spoil(place)
    with pytest.raises(InputError, match=message) as caught:
        go(**{**place, **flags})
    assert "\n" not in str(caught.value)
    left = os.listdir(place["output_dir"]) if os.path.isdir(place["output_dir"]) else []
    assert "eval_results.txt" not in left
    assert "results.json" not in left or "metrics" not in read_json(
        os.path.join(place["output_dir"], "results.json"))
    assert not [name for name in left if name.startswith(".")]


def test_a_score_that_is_no_number(tmp_path, tiny_dir):
    data = shutil.copytree(f"{GLUE}/STS-B", tmp_path / "data")
    header, *rows = lines_of(data / "train.tsv")
    rows[1] = rows[1].rsplit("\t", 1)[0] + "\tmuch"
    write(data / "train.tsv", [header, *rows])
    with pytest.raises(InputError, match=r"train\.tsv.*3.*much"):
        go(task_name="STS-B", data_dir=str(data), bert_dir=tiny_dir, do_train=True,
           output_dir=str(tmp_path / "out"))


def test_the_command_ends_with_one_line_and_code_1(place):
    done = subprocess.run(
        [sys.executable, "run_classifier.py", "--task_name=SST-2", "--data_dir=/nowhere",
         f"--bert_dir={place['bert_dir']}", f"--output_dir={place['output_dir']}", "--do_train",
         "--max_seq_length=16"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: /nowhere/train.tsv: no such file; the train examples of SST-2 are read there"]


def test_a_word_that_belongs_to_no_flag_is_refused():
    done = subprocess.run([sys.executable, "run_classifier.py", "--do_train", "false"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, "error: 'false' belongs to no flag; write --flag=value\n")


def test_help_has_every_flag_of_the_reference():
    done = subprocess.run([sys.executable, "run_classifier.py", "--help"], capture_output=True,
                          text=True, check=False)
    for flag in ("data_dir", "bert_config_file", "task_name", "vocab_file", "output_dir",
                 "init_checkpoint", "do_lower_case", "max_seq_length", "do_train", "do_eval",
                 "do_predict", "train_batch_size", "eval_batch_size", "predict_batch_size",
                 "learning_rate", "num_train_epochs", "warmup_proportion",
                 "save_checkpoints_steps", "iterations_per_loop", "use_tpu", "tpu_name",
                 "tpu_zone", "gcp_project", "master", "num_tpu_cores"):
        assert f"--{flag}" in done.stdout or f"--[no]{flag}" in done.stdout, flag


def run_of(place, **flags):
    go(**{**place, "do_eval": False, **flags})
    return f"{place['output_dir']}/model.ckpt-3"


def half_precision(place):
    path = os.path.join(place["bert_dir"], "bert_model.ckpt")
    checkpoint = checkpoint_io.Checkpoint(path)
    checkpoint_io.write_checkpoint(
        path, {name: checkpoint[name].astype("float16") for name in checkpoint}
    )


def edit_vocabulary(place):
    write(os.path.join(place["bert_dir"], "vocab.txt"), [
        *TINY_VOCAB[::-1][:-5], *TINY_VOCAB[:5], *(f"word{i}" for i in range(19))])


def edit_config(place):
    config = modeling.BertConfig.from_dict({**TINY.to_dict(), "hidden_act": "relu"})
    write(os.path.join(place["bert_dir"], "bert_config.json"), [config.to_json_string()])


def config_with(value):
    def spoil(place):
        write(os.path.join(place["bert_dir"], "bert_config.json"),
              [json.dumps({**TINY.to_dict(), **value})])
    return spoil


@pytest.mark.parametrize("spoil,flags,message", [
    (half_precision, {}, r"variables of another shape or type: .*float32: .*float16"),
    (config_with({"hidden_size": "16"}), {}, r"hidden_size is '16', not a positive whole number"),
    (config_with({"hidden_dropout_prob": 2}), {}, r"hidden_dropout_prob is 2, not a number from 0"),
    (config_with({"hidden_act": ["gelu"]}), {}, r"hidden_act is \['gelu'\], not a name"),
    (lambda p: write(f"{p['bert_dir']}/tokenizer_config.json", ["[]"]), {}, r"no JSON object"),
    (None, {"seed": 2**63}, r"--seed=.*at most"),
    (None, {"adapter_size": 10**9}, r"--adapter_size=.*at most"),
    (None, {"use_tpu": True}, r"--use_tpu: say where"),
    (None, {"output_dir": "~/out"}, r"--output_dir=~/out: the shell left"),
    (None, {"output_dir": "a\\b"}, r"in paths of checkpoints as patterns"),
    (None, {"data_dir": "s3://bucket/x"}, r"knows no such file system"),
])
def test_more_bad_input_is_one_line(place, spoil, flags, message):
    if spoil:
        spoil(place)
    with pytest.raises(InputError, match=message) as caught:
        go(**{**place, **flags})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil,message", [
    (edit_vocabulary, "another vocabulary"), (edit_config, r"another bert_config\.json")])
def test_a_base_changed_in_place_is_refused(place, tmp_path, spoil, message):
    trained = run_of(place)
    spoil(place)
    with pytest.raises(InputError, match=message):
        go(**place, num_train_epochs=4.0)
    with pytest.raises(InputError, match=f"has {message} than then"):
        go(data_dir=place["data_dir"], output_dir=str(tmp_path / "new"), do_eval=True,
           init_checkpoint=trained)


def test_another_start_is_refused(place, tmp_path):
    first = run_of(place)
    second = {**place, "output_dir": str(tmp_path / "second"), "init_checkpoint": first}
    run_of(second)
    with pytest.raises(InputError, match="another --init_checkpoint"):
        go(**{**second, "num_train_epochs": 4.0,
              "init_checkpoint": f"{place['bert_dir']}/bert_model.ckpt"})


def test_a_second_run_in_a_folder_at_work_is_refused(place):
    with files.locked(place["output_dir"]), pytest.raises(InputError, match="another run is at"):
        go(**place)
    go(**place)


@pytest.mark.parametrize("name", ["run.json", "results.json", "eval_history.json"])
def test_a_file_of_another_shape_is_named(place, name):
    run_of(place, eval_steps=1)
    write(os.path.join(place["output_dir"], name), ["[7]"])
    with pytest.raises(InputError, match=name):
        go(**place, num_train_epochs=4.0)


def test_old_checkpoints_go(place):
    for epochs in (4.0, 8.0):   # TensorFlow forgets those of an earlier command
        go(**{**place, "do_eval": False}, save_checkpoints_steps=1, num_train_epochs=epochs)
    assert len([name for name in os.listdir(place["output_dir"]) if name.endswith(".index")]) == 5


@pytest.mark.parametrize("error,code,message", [
    (OSError(28, "No space left on device", "/out/x"), 1,
     "error: /out/x: No space left on device\n"),
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (InputError("/caf\udce9: no such file"), 1, "error: /caf\\udce9: no such file\n")])
def test_every_end_is_one_line(error, code, message, capsys):
    def main():
        raise error
    with pytest.raises(SystemExit) as ended:
        exit_on_input_error(main)()
    assert (ended.value.code, capsys.readouterr().err) == (code, message)
