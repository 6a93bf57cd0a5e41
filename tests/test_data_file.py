"""Runs on one file of the user's own: split, scored, resumed; bad data leaves nothing behind."""
import logging as python_logging
import os
import random

import pytest
from absl import logging
from runs import go, sentence, write

from adapter_bert.errors import InputError
from adapter_bert.files import read_json


def messages(folder, count=60):
    source = random.Random(0)
    path = folder / "messages.csv"
    write(path, ["text,label", *(f"{sentence(source, n % 2)} {n},{['bad', 'good'][n % 2]}"
                                 for n in range(count))])
    return str(path)


@pytest.mark.slow
def test_a_run_on_one_file(tmp_path, tiny_dir, caplog):
    logging.use_absl_handler()
    logging.get_absl_logger().propagate = True
    caplog.set_level(python_logging.INFO)
    flags = {"task_name": "custom", "data_file": messages(tmp_path), "bert_dir": tiny_dir,
             "output_dir": str(tmp_path / "out"), "max_seq_length": 7, "num_train_epochs": 1.0}
    metrics = go(**flags, test_fraction=0.2, do_train=True, do_eval=True, do_predict=True)
    assert 0 <= metrics["test_accuracy"] <= 1
    assert metrics.keys() >= {"eval_accuracy", "test_macro_f1"}
    results = read_json(str(tmp_path / "out" / "results.json"))
    assert results["baselines"]["test_accuracy"]["name"] == "majority class"
    assert results["details"]["test"]["scores"]["accuracy"] == metrics["test_accuracy"]
    recorded = read_json(str(tmp_path / "out" / "dev.tf_record.json"))
    assert recorded["count"] == 6 and recorded["cut"] > 0
    assert "labels: bad 21, good 21" in caplog.text
    assert "are longer than --max_seq_length=7 tokens and were cut" in caplog.text
    # Evaluation takes the fractions of the training, so that nothing leaks.
    again = go(**flags, do_eval=True)
    assert again["eval_accuracy"] == metrics["eval_accuracy"]
    with pytest.raises(InputError, match="--dev_fraction=0.5: training had 0.1, so some of"):
        go(**flags, do_eval=True, dev_fraction=0.5)
    with pytest.raises(InputError, match="--test_fraction: 0.2 then, 0.1 now"):
        go(**flags, do_train=True, test_fraction=0.1)


@pytest.mark.parametrize("text, message", [
    ("", "the file is empty"), ("text,label\na,x\nb,y\n", "2 different texts cannot be split"),
    ("text,label\n" + "".join(f"t{n},x\n" for n in range(20)), "only the label 'x'"),
    ("text,label\n" + "".join(f"t{n},\n" for n in range(20)), "all rows are bad"),
    ("a,b\n1,2\n", "the columns are 'a', 'b'")])
def test_bad_data_leaves_nothing(tmp_path, tiny_dir, text, message):
    path, out = tmp_path / "data.csv", tmp_path / "out"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refusal:
        go(task_name="custom", data_file=str(path), bert_dir=tiny_dir, output_dir=str(out),
           do_train=True, do_eval=True)
    assert "\n" not in str(refusal.value) and not os.path.exists(out)
