"""The benchmarks start; what they measure is no matter here, what they count is."""
import argparse
import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from runs import write, write_domains, write_squad, write_sst2

from adapter_bert import compute, network
from adapter_bert.bert import modeling, optimization
from adapter_bert.bert.adapters import AdapterConfig
from adapter_bert.kinds import heads

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
            batch, 1, trains, compute.choose_engine("plain", False, rows).formulas(trains=trains))
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


@pytest.fixture(name="benchmark")
def fixture_benchmark(monkeypatch):
    """A function of a name: that module of benchmarks/."""
    monkeypatch.syspath_prepend(os.path.join(ROOT, "benchmarks"))
    return importlib.import_module


def write_ner(folder):
    """Files of sentences of which the first word of each is tagged; one word has two pieces."""
    folder.mkdir()
    sentences = [["film B-X", "##s O", "was O", "good O", ""], ["a O", "plot I-X", ""]]
    for name in ("train", "dev"):
        write(folder / f"{name}.txt", sum(sentences * 4, []))


def task_flags(kind, folder):
    """A task of a kind of head, as (program, flags, metric, highest score)."""
    if kind == "spans":
        for name in ("train", "dev"):
            write_squad(folder / f"{name}.json", 9)
        return "run_squad.py", {"train_file": str(folder / "train.json"), "doc_stride": 6,
                                "predict_file": str(folder / "dev.json"),
                                "max_seq_length": 20}, "eval_f1", 100.0
    if kind == "tokens":
        write_ner(folder / "NER")
        flags, metric = {"task_name": "NER", "data_dir": str(folder / "NER")}, "eval_f1"
    elif kind == "classification":
        flags = {"task_name": "SST-2", "data_dir": write_sst2(folder / "SST-2")}
        metric = "eval_accuracy"
    else:
        flags = {"task_name": "STS-B", "data_dir": os.path.join(
            ROOT, "tests", "fixtures", "glue", "STS-B")}
        metric = "eval_spearman"
    return "run_classifier.py", {**flags, "max_seq_length": 16}, metric, 1.0


@pytest.mark.parametrize("kind", ["classification", "regression", "tokens", "spans"])
def test_both_sides_of_the_comparison_mean_the_same_examples(benchmark, tiny_dir, tmp_path, kind):
    program, flags, metric, highest = task_flags(kind, tmp_path)
    peer_features = benchmark("peer_features")
    features = peer_features.write(program, {**flags, "bert_dir": tiny_dir}, tmp_path / "work")
    assert features.run.task.kind == kind
    assert peer_features.check_gold(features, metric, highest) == highest
    with np.load(features.dev) as file:
        columns = dict(file)
    last = "end_positions" if kind == "spans" else "label_ids"
    columns[last] = np.roll(columns[last], 1)   # labels of other rows
    np.savez(features.dev, **columns)
    with pytest.raises(ValueError, match="its own labels score"):
        peer_features.check_gold(features, metric, highest)


def test_a_file_of_rows_read_back_and_padded(benchmark, tmp_path):
    workload, rows = benchmark("workload"), benchmark("adapter_bert.data.example_codec").Rows
    ids = np.array([2, 5, 3, 2, 3])
    workload.write(tmp_path / "rows.npz", [rows(np.array([3, 2]), {
        "input_ids": ids, "segment_ids": 0 * ids, "word_starts": np.array([0, 1, 0, 0, 0]),
        "label_ids": np.array([0, 7, 0, 0, 0]), "index": np.array([4, 9])})])
    batch = workload.padded(workload.read(tmp_path / "rows.npz"))
    assert {name: array.tolist() for name, array in batch.items()} == {
        "input_ids": [[2, 5, 3], [2, 3, 0]], "segment_ids": [[0, 0, 0]] * 2,
        "word_starts": [[0, 1, 0], [0, 0, 0]], "label_ids": [[0, 7, 0], [0, 0, 0]],
        "index": [4, 9], "input_mask": [[1, 1, 1], [1, 1, 0]]}


def test_batches_of_the_library_have_rows_of_similar_length(benchmark):
    workload, lengths = benchmark("workload"), list(range(10)) * 3
    batches = workload.grouped_batches(lengths, 4, np.random.default_rng(0))
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows)) == 28
    assert max(np.ptp([lengths[row] for row in batch]) for batch in batches) <= 3
    with pytest.raises(ValueError, match="3 examples do not fill a batch of 4"):
        next(workload.batches_without_end([1, 2, 3], 4, np.random.default_rng(0)))


def runs_of(scores, rate, **more):
    return [{"seed": seed, "learning_rate": rate, "score": score, **more}
            for seed, score in enumerate(scores)]


def test_a_task_must_reach_the_better_rate_less_one_standard_error(benchmark, capsys):
    peer_record = benchmark("peer_record")
    task = peer_record.TASKS[0]
    theirs = runs_of([0.1, 0.2, 0.9], 1e-3) + runs_of([0.5, 0.6, 0.7], 3e-4)   # means 0.4, 0.6
    entry = {"ours": runs_of([0.53, 0.54, 0.56], 5e-4, learned=True), "adapters": theirs,
             "settings": {"epochs": 6.0}}
    verdict = peer_record.judge(entry)
    assert verdict.rate == 3e-4 and verdict.floor == pytest.approx(0.6 - 0.1 / 3 ** 0.5)
    assert peer_record.problems({task.name: entry}, [task]) == []
    assert "floor 0.5423 reached" in capsys.readouterr().out
    assert "0.5433 (0.5300 0.5400 0.5600) at 0.0005 | 0.6000" in "".join(
        peer_record.lines({task.name: entry}))
    entry["ours"] = runs_of([0.53, 0.54, 0.55], 5e-4, learned=True)
    assert peer_record.problems({task.name: entry}, [task]) == [
        f"{task.name}: ours 0.5400, below the floor of 0.5423"]
    entry["ours"] = runs_of([0.9, 0.9, 0.9], 5e-4, learned=False)
    assert peer_record.problems({task.name: entry}, [task]) == [
        f"{task.name}: seeds [0, 1, 2] of ours learned nothing"]
    del entry["adapters"][-1]
    assert peer_record.problems({task.name: entry}, [task]) == [
        f"{task.name}: adapters at 0.0003: 2 of 3 runs"]
    assert peer_record.lines({task.name: entry}) == []


def test_runs_of_the_library_are_dropped_where_ours_get_other_settings(benchmark, tmp_path):
    peer_comparison = benchmark("peer_comparison")
    task, path = benchmark("peer_record").TASKS[0], tmp_path / "peers.json"
    run = {"seed": 0, "learning_rate": 1e-3, "score": 0.5, "train_seconds": 1}
    record = peer_comparison.Record(path)
    record.add(task, "ours", run, settings={"epochs": 5.0})
    record.add(task, "adapters", run)
    record.add(task, "ours", {**run, "seed": 1}, settings={"epochs": 5.0})
    assert len(peer_comparison.Record(path).runs(task, "adapters")) == 1
    record.add(task, "ours", {**run, "seed": 2}, settings={"epochs": 6.0})
    record = peer_comparison.Record(path)
    assert (len(record.runs(task, "ours")), record.runs(task, "adapters")) == (3, [])
    record.forget([task], "ours")
    assert record.runs(task, "ours") == []


@pytest.mark.slow
def test_a_run_of_ours_in_the_comparison(benchmark, tiny_dir, tmp_path):
    peer_comparison, peer_record = benchmark("peer_comparison"), benchmark("peer_record")
    task = peer_record.Task("SST-2", "run_classifier.py", {
        "task_name": "SST-2", "data_dir": "$GLUE_DIR/SST-2", "max_seq_length": 16,
        "num_train_epochs": 2, "guard": "off"}, "eval_accuracy")
    write_sst2(tmp_path / "SST-2")
    record = peer_comparison.Record(tmp_path / "peers.json")
    peer_comparison.train_ours(task, 3, argparse.Namespace(
        bert_dir=tiny_dir, glue_dir=str(tmp_path), ner_dir=None, squad_dir=None, smoke=False),
        record)
    entry, (run,) = record.entry(task), record.runs(task, "ours")
    assert entry["settings"] == {"epochs": 2, "batch_size": 32, "train_pooler": False}
    assert entry["command"].endswith("--do_train --do_eval --seed=0")
    assert run["seed"] == 3 and run["learning_rate"] == 1e-3 and 0 <= run["score"] <= 1


def test_measured_runs_leave_nothing_to_the_recipe_and_the_guard(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, "benchmarks"))
    quality, time_to_accuracy, options = (
        importlib.import_module("quality"), importlib.import_module("time_to_accuracy"),
        argparse.Namespace(smoke=False, glue_dir="glue", bert_dir="base"))
    for command in (*(quality.command(row, 0, "base", "data", "out") for row in quality.ROWS),
                    time_to_accuracy.our_command(0, options, "out")):
        assert {"--recipe=reference", "--guard=off"} <= set(command)


def test_the_table_of_methods(benchmark):
    """docs/methods.md has the scores that were measured, and every run learned something."""
    method_quality = benchmark("method_quality")
    with open(os.path.join(ROOT, "docs", "methods.md"), encoding="utf-8") as file:
        assert method_quality.table() in file.read()
    runs = [run for method in method_quality.METHODS for task in method_quality.TASKS
            for run in method_quality.runs_of(method, task)]
    assert len(runs) == 7 * 4 * 3 and all(run["learned"] for run in runs)
