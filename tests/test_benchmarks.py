"""The benchmarks start; what they measure is no matter here, what they count is."""
import argparse
import importlib
import json
import os
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf
from runs import write_domains, write_sst2

import modeling
import optimization
from adapter_bert import engine, heads, network
from adapter_layers import AdapterConfig

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(name="glue_dir", scope="module")
def fixture_glue_dir(tmp_path_factory):
    """MRPC and SST-2 of a few made rows."""
    folder = tmp_path_factory.mktemp("glue")
    write_sst2(folder / "SST-2")
    source = os.path.join(ROOT, "tests", "fixtures", "glue", "MRPC")
    os.symlink(source, folder / "MRPC")
    return str(folder)


def output_of(script, *flags):
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *flags], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tokenization_against_the_plain_way(tiny_dir, glue_dir):
    """It also checks that both write the same records."""
    line = output_of("tokenize_speed.py", f"--bert_dir={tiny_dir}", f"--glue_dir={glue_dir}",
                     "--smoke")
    assert "examples: ours" in line


def test_pretraining_data(tiny_dir, tmp_path):
    pytest.importorskip("google_crc32c")
    reviews = [{"text": "The film was good. It was not dull! Fine?"}, {"text": "A bad plot."}] * 9
    (tmp_path / "reviews.json").write_text(json.dumps(reviews))
    table = output_of("pretraining_data_speed.py", f"--bert_dir={tiny_dir}", "--smoke",
                      f"--reviews={tmp_path / 'reviews.json'}")
    assert "times as fast as the plain way" in table and "bytes in memory" in table


def test_an_outer_step_of_meta_training(tiny_dir, tmp_path):
    reviews = [{"text": f"The film was word{place} {number}.", "domain": f"d{number % 2}",
                "label": ("negative", "positive")[place % 2]}
               for number in range(2) for place in range(8)]
    (tmp_path / "reviews.json").write_text(json.dumps(reviews))
    table = output_of("meta_speed.py", f"--bert_dir={tiny_dir}", "--smoke",
                      f"--reviews={tmp_path / 'reviews.json'}")
    assert table.count("times as fast as") == 4


def test_training_and_prediction(tiny_dir, glue_dir, tmp_path):
    names = ("train-MRPC-minilm-full", "predict-MRPC-minilm")
    table = output_of("speed.py", f"--bert_dir={tiny_dir}", f"--glue_dir={glue_dir}", "--smoke",
                      "--alone", f"--only={','.join(names)}", f"--work_dir={tmp_path}")
    assert all(f"{name:<24} ours" in table for name in names)
    assert "times as fast as that" in table


def test_adapter_drop(tiny_dir, glue_dir, tmp_path):
    line = output_of("adapter_drop.py", f"--bert_dir={tiny_dir}", f"--glue_dir={glue_dir}",
                     "--smoke", f"--work_dir={tmp_path}")
    assert "times as fast" in line


def test_many_tasks_on_one_base(tiny_dir):
    table = output_of("serving_speed.py", f"--bert_dir={tiny_dir}", "--smoke", "--alone")
    assert "32 tasks in a batch" in table and "Zipf(1)" in table


def test_the_server_under_load(tiny_dir):
    assert "rows a second" in output_of("overload.py", f"--bert_dir={tiny_dir}", "--smoke")


def test_the_profile_of_a_step(tiny_dir):
    table = output_of("step_profile.py", f"--bert_dir={tiny_dir}", "--tokens=12")
    assert "GFLOP/s of products" in table and "TensorFlow's product alone" in table


@pytest.mark.parametrize("trains", [False, True])
def test_the_products_of_a_step_are_those_of_its_graph(monkeypatch, trains):
    monkeypatch.syspath_prepend(os.path.join(ROOT, "benchmarks"))
    step_profile = importlib.import_module("step_profile")
    rows, tokens = step_profile.BATCH, 24
    config = modeling.BertConfig(30, hidden_size=128, num_hidden_layers=3, num_attention_heads=4,
                                 intermediate_size=512)
    with tf.Graph().as_default() as graph:
        ids = tf.ones([rows, tokens], tf.int32)
        batch = {"input_ids": ids, "input_mask": ids, "segment_ids": ids, "label_ids": ids[:, 0]}
        output, _ = network.towers(
            network.Model(config, "classification", 2, "adapters", AdapterConfig(), "float32"),
            batch, 1, trains, engine.choose_engine("plain", False, rows).formulas(trains=trains))
        end = heads.batch_loss(output).op
        if trains:
            end = optimization.create_optimizer(end.outputs[0], 1e-4, 10, 1)
        run = tf.graph_util.extract_sub_graph(graph.as_graph_def(), [end.name])
        counted = sum(2 * op.outputs[0].shape.num_elements() * op.inputs[0].shape[
            -2 if op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x") else -1]
            for op in (graph.get_operation_by_name(node.name) for node in run.node)
            if op.type in ("MatMul", "BatchMatMulV2"))
    assert step_profile.step_flop(config, tokens, trains) == pytest.approx(counted, rel=0.01)


def test_the_share_that_a_floor_asks_for(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, "benchmarks"))
    speed = importlib.import_module("speed")
    products = object.__new__(speed.Products)
    products.record = {"flop_an_example": 5.0, "rates": {"one": [90, 100, 110], "other": [80]}}
    row = speed.Row("a", "train", "MRPC", "minilm", {"plain": 6.0, "best": 2.5}, 1)
    answers = {"ours": [{"per_second": rate} for rate in (8, 12, 10)]}   # 50 FLOP a second of 100
    (_, ours), (what, asked) = products.shares(row, answers, {"plain": (9, 9, 9),
                                                              "best": (2.0, 1.9, 2.1)})
    assert ours == 0.5 and asked == 0.625 and "2.5 times `adapters`" in what


def test_the_report_of_meta_learned_starts(tmp_path):
    def write(name, accuracies, **more):
        points = [{"shots": shots, "draws": [
            {"seed": 0, "domain": "toys", "draw": number, "accuracy": accuracy + number / 10}
            for number in range(3)]} for shots, accuracy in accuracies.items()]
        (tmp_path / f"{name}.json").write_text(json.dumps({
            "command": "python it.py", "commit": "0" * 12, "data": "d", "draws_of": {},
            "test_domains": ["toys"], "points": points, **more}))

    for start, accuracy in (("plain", 0.5), ("meta", 0.7), ("trained", 0.6)):
        write(f"shots-{start}-adapters", {0: accuracy, 8: accuracy})
        write(f"domains1-{start}-adapters", {None: accuracy})
    write("zero-meta-adapters", {}, points=[{"draws": [{
        "domain": "toys", "labels": {"no": 0.5, "yes": 0.5}, "answers": {"no": 0.2, "yes": 0.8}}]}])
    write("meta-adapters-0.001-0.003", {}, best={}, history=[
        {"step": 1, "query_loss": 0.6, "accuracies": [0.5, 0.7]}])
    tables = output_of("meta_quality.py", "--report", f"--results={tmp_path}")
    row = "60.0 ± 24.8 | 80.0 ± 24.8 | 70.0 ± 24.8 | +20.0 ± 0.0 | +10.0 ± 0.0"
    assert f"| 8 | {row} |" in tables
    assert "| 1, low-resource | 60.0 ± 24.8 | 80.0 ± 24.8 | +20.0 ± 0.0 | 3 |" in tables
    assert "of toys it answers no to 20.0 % (50.0 % are), yes to 80.0 % (50.0 % are)" in tables
    assert {"few-shot.png", "few-shot-adapters.png", "meta-adapters-0.001-0.003.png"} <= {
        path.name for path in tmp_path.iterdir()}
    (tmp_path / "shots-trained-adapters.json").unlink()
    tables = output_of("meta_quality.py", "--report", f"--results={tmp_path}")
    assert "| 8 |" not in tables and "| 1, low-resource |" in tables


@pytest.mark.long
def test_meta_learned_starts_against_plain_ones(tiny_dir, tmp_path):
    few = {"inner_batch_size": 4, "num_query": 4, "num_test_task": 2}
    config = {"validation_domains": ["music"], "test_domains": ["toys"],
              "common": {"max_seq_length": 20, "precision": "float32"},
              "meta_training": {**few, "epochs": 2, "num_train_task": 2, "outer_batch_size": 2,
                                "num_support": 4, "inner_update_step": 1},
              "few_shot": {**few, "shots": "0,4"}, "few_shot_choice": {**few, "shots": "4"},
              "fine_tuning": {"epochs": 1, "seeds": "0,1"},
              "fine_tuning_choice": {"num_domain": 1},
              "num_domains": [1], "tunings": {"bias": {
                  "meta_rates": [[1e-3, 1e-2]], "rates": [1e-2], "fine_tuning_rates": [1e-3]}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    flags = [f"--bert_dir={tiny_dir}", f"--data={write_domains(tmp_path / 'data.json')}",
             f"--config={tmp_path / 'config.json'}", f"--work_dir={tmp_path / 'work'}",
             f"--results={tmp_path / 'results'}"]
    tables = output_of("meta_quality.py", *flags)
    assert "| 4 | " in tables and "| 1, low-resource | " in tables
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert {"few-shot.png", "few-shot-bias.png", "meta-bias-0.001-0.01.png"} <= names
    curve = tmp_path / "results" / "few-plain-bias-0.01.json"
    curve.write_text(json.dumps({"command": "another", "points": []}))   # is measured again
    assert output_of("meta_quality.py", *flags).endswith(tables[tables.index("\n## "):])


def test_measured_runs_leave_nothing_to_the_recipe_and_the_guard(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, "benchmarks"))
    quality, time_to_accuracy, options = (
        importlib.import_module("quality"), importlib.import_module("time_to_accuracy"),
        argparse.Namespace(smoke=False, glue_dir="glue", bert_dir="base"))
    for command in (*(quality.command(row, 0, "base", "data", "out") for row in quality.ROWS),
                    time_to_accuracy.our_command(0, options, "out")):
        assert {"--recipe=reference", "--guard=off"} <= set(command)
