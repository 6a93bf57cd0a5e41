"""SavedModels of many packs: each row has the answer of its own task, and of no other."""
import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from packs import tiny_pack
from test_export import (
    ASK,
    apart,
    assert_operations_are_tensorflows,
    assert_warm_up_runs,
    fixture_ask,  # noqa: F401
    fixture_on,  # noqa: F401
)

import adapter_bert
from adapter_bert.__main__ import main
from adapter_bert.bert.adapters import AdapterConfig
from adapter_bert.errors import InputError
from adapter_bert.export import savedmodel_multi
from adapter_bert.export.savedmodel import export
from adapter_bert.packs import manifest, store

# Everything in which packs of one SavedModel may differ.
KINDS = {
    "SST-2": {"labels": ("bad", "good"), "adapter": AdapterConfig(size=4)},
    "a/b \u4f60": {"labels": ("a", "b", "c"), "adapter": AdapterConfig(size=2, layers=(1,)),
                   "do_lower_case": False, "max_seq_length": 24, "pair": None},
    "MRPC": {"pair": True, "tuning": "adapters_only", "max_seq_length": 8,
             "adapter": AdapterConfig(size=3, placement="feed_forward")},
    "pooled": {"labels": tuple("abcde"), "tuning": "adapters_pooler"},
    "norms and pooler": {"tuning": "adapters_norms_pooler"},
    "norms": {"tuning": "layer_norm", "adapter": None, "do_lower_case": False},
    "head": {"tuning": "head", "adapter": None, "pair": None}}
SCORES = {"x": {"head": "regression", "labels": ()},
          "y": {"head": "regression", "labels": (), "tuning": "layer_norm", "adapter": None}}
TEXTS = ["The film was GOOD", "the film was good", "\u00c9a \u4f60\u597d very bad", "",
         "a dull story ! " * 40, "it was not fine"]
SECONDS = ["It was fine", "not A plot " * 9]


@pytest.fixture(name="exported", scope="module")
def fixture_exported(tiny_dir, on, tmp_path_factory):
    """Function (kinds, ids_only) -> {task: path of its pack}, path of the version."""
    @functools.cache
    def make(names=tuple(KINDS), ids_only=False):
        folder = tmp_path_factory.mktemp("exported")
        paths = packs_of(folder, on, {name: (KINDS | SCORES)[name] for name in names})
        return paths, export(tiny_dir, list(paths.values()), str(folder / "model"),
                             ids_only=ids_only)
    return make


def packs_of(folder, on, kinds):
    """{task: path} of packs, each with weights of its own."""
    paths = {name: str(folder / f"{seed}.zip") for seed, name in enumerate(kinds)}
    for seed, (name, path) in enumerate(paths.items()):
        store.write(path, tiny_pack(seed, on, task=name, **kinds[name]))
    return paths


def alone(tiny_dir, paths, rows):
    """What load().predict of its own task says of each row (task, text or pair)."""
    answers = {}
    for name, path in paths.items():
        with adapter_bert.load(tiny_dir, path, precision="float32") as task:
            texts = list({text: None for other, text in rows if other == name})
            answers |= {(name, text): one for text, one in zip(
                texts, task.predict(texts), strict=True)}
    return [answers[row] for row in rows]


def largest(paths, rows, answer, wanted):
    """The largest difference of a probability; what pads a smaller head is looked at too."""
    worst, width = 0.0, len(answer["probabilities"][0])
    for (name, _), label, labels, row, one in zip(
            rows, answer["label"], answer["labels"], answer["probabilities"], wanted, strict=True):
        own = store.read(paths[name]).manifest.labels
        assert labels == [*own, *[""] * (width - len(own))] and label in own
        assert row[len(own):] == [0.0] * (width - len(own))
        worst = max(worst, np.abs(
            np.array(row[:len(own)]) - list(one.probabilities.values())).max())
    return worst


def mixed(kinds):
    """Rows of all tasks and texts, no two neighbours of one task."""
    singles = [name for name, kind in kinds.items() if not kind.get("pair")]
    rows = [(name, text) for text in TEXTS for name in singles]
    return rows + [(name, (text, second)) for text in TEXTS for second in SECONDS
                   for name, kind in kinds.items() if kind.get("pair") is not False
                   and "pair" in kind]


def columns(rows):
    """The inputs of a predict request."""
    texts = [text if isinstance(text, tuple) else (text, "") for _, text in rows]
    return {"task": [name for name, _ in rows], "text_a": [one for one, _ in texts],
            "text_b": [other for _, other in texts]}


def examples(rows):
    """The rows of a classify request."""
    return [{"task": name, **dict(zip(("text_a", "text_b"), (
        text if isinstance(text, tuple) else (text,)), strict=False))} for name, text in rows]


def test_a_mixed_batch(tiny_dir, exported, ask, record_property):
    """Each row has its task's adapters, LayerNorms, head, casing, length and kind of pairs."""
    paths, version = exported()
    rows = mixed(KINDS)
    wanted = alone(tiny_dir, paths, rows)
    texts = [row for row in rows if not isinstance(row[1], tuple)]
    found = ask(version, [("serving_default", columns(rows)), ("serving_pairs", columns(rows)),
                          ("classify", examples(rows)), ("serving_default", columns(rows[:1]))])
    worst = max(largest(paths, rows, one, wanted) for one in found[:2])
    classified = {"labels": found[2]["classes"], "probabilities": found[2]["scores"],
                  "label": found[0]["label"]}
    worst = max(worst, largest(paths, rows, classified, wanted),
                largest(paths, rows[:1], found[3], wanted[:1]))
    record_property("largest difference", float(worst))
    print(f"largest difference {worst:.2e} of {len(rows)} rows")
    assert worst <= 1e-5 and len(texts) > 20
    assert found[0]["label"] == [one.label for one in wanted]


def test_texts_alone_without_a_task_of_pairs(tiny_dir, exported, ask):
    """Then the default signature takes no second texts."""
    paths, version = exported(("SST-2", "norms"))
    rows = [(name, text) for text in TEXTS for name in paths]
    asked = columns(rows)
    found = ask(version, [("serving_default", {key: asked[key] for key in ("task", "text_a")})])
    assert largest(paths, rows, found[0], alone(tiny_dir, paths, rows)) <= 1e-5


def test_an_example_may_have_an_empty_second_text(tiny_dir, exported, ask):
    paths, version = exported()
    rows = [("head", "the film"), ("head", ("the film", ""))]
    found = ask(version, [("classify", examples(rows))])[0]["scores"]
    for row, one in zip(found, alone(tiny_dir, paths, rows), strict=True):
        assert row[:2] == pytest.approx(list(one.probabilities.values()), abs=1e-5)
    assert abs(found[0][0] - found[1][0]) > 5e-4


def test_scores(tiny_dir, exported, ask):
    paths, version = exported(tuple(SCORES))
    rows = [(name, text) for text in TEXTS for name in paths]
    asked = columns(rows)
    del asked["text_b"]
    found = ask(version, [("serving_default", asked), ("regress", examples(rows))])
    wanted = alone(tiny_dir, paths, rows)
    assert found[0]["score"] == pytest.approx(wanted, abs=1e-5)
    assert found[1]["outputs"] == pytest.approx(wanted, abs=1e-5)
    assert np.ptp(wanted) > 0.1


def test_other_slots_would_be_seen(tiny_dir, on, tmp_path, ask, monkeypatch):
    """The negative control: weights in each other's slots give other answers."""
    kinds = {"one": {}, "two": {}}
    paths, rows = packs_of(tmp_path, on, kinds), [("one", TEXTS[0]), ("two", TEXTS[0])]
    wanted, asked = alone(tiny_dir, paths, rows), {"task": ["one", "two"], "text_a": TEXTS[:1] * 2}
    real = savedmodel_multi.ManyTasks.restore

    def turned(self, session):
        self._packs = self._packs[::-1]
        real(self, session)
    monkeypatch.setattr(savedmodel_multi.ManyTasks, "restore", turned)
    version = export(tiny_dir, list(paths.values()), str(tmp_path / "model"))
    found = ask(version, [("serving_default", asked)])[0]
    assert largest(paths, rows, found, wanted) > 1e-3
    assert largest(paths, rows, found, wanted[::-1]) <= 1e-5


@pytest.mark.parametrize("tasks,words", [
    (["SST-2", "sst-2"], r"unknown task; there are SST-2, a/b .*tasks.txt.*sst-2"),
    (["SST-2", ""], "unknown task"), (["SST-2"], "not one name of a task for each row"),
    (["SST-2"] * 3, "not one name of a task for each row")])
def test_no_other_tasks_answer(exported, tasks, words):
    """An unknown name, or as many names as there are no rows, is an error."""
    _, version = exported(ids_only=True)
    with tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], version).signature_def["ids"]
        feed = {tensor.name: tasks if name == "task" else np.ones([2, 5], np.int32)
                for name, tensor in loaded.inputs.items()}
        for name in ("probabilities", "label"):
            with pytest.raises(tf.errors.InvalidArgumentError, match=words):
                session.run(loaded.outputs[name].name, feed)


def test_a_label_alone_asserts_too(exported):
    """With texts, every output of every signature refuses an unknown task."""
    import tensorflow_text  # noqa: F401  registers its operation
    _, version = exported()
    with tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], version).signature_def
        for way in ("serving_default", "serving_pairs"):
            feed = {tensor.name: ["nobody"] for tensor in loaded[way].inputs.values()}
            for output in loaded[way].outputs.values():
                with pytest.raises(tf.errors.InvalidArgumentError, match="unknown task.*nobody"):
                    session.run(output.name, feed)


def test_ids_alone(tiny_dir, exported, tmp_path):
    """Without texts tensorflow-text is not needed, and TensorFlow's own command runs the model."""
    paths, version = exported(ids_only=True)
    rows = [("SST-2", "good film"), ("head", "good film"), ("pooled", "good film")]
    ids = {"input_ids": [[2, 5, 7, 3]] * 3, "input_mask": [[1] * 4] * 3,
           "segment_ids": [[0] * 4] * 3, "task": [name for name, _ in rows]}
    with apart(tmp_path, ASK, "ids", stdin=subprocess.PIPE) as process:
        found = json.loads(process.communicate(
            json.dumps([version, [("ids", ids), ("serving_default", ids)]]) + "\n")[0])
    wanted = alone(tiny_dir, paths, rows)
    assert max(largest(paths, rows, one, wanted) for one in found) <= 1e-5
    given = ";".join(f"{name}={value}" for name, value in ids.items())
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "saved_model_cli"), "run", "--dir", version,
         "--tag_set", "serve", "--signature_def", "ids", "--input_exprs", given],
        cwd=tmp_path, text=True, capture_output=True)
    assert not done.returncode, done.stderr
    assert "Result for output key probabilities:\n[[" in done.stdout


@pytest.mark.parametrize("changes", [
    {}, {"ids_only": True}, {"names": ("SST-2", "head")}, {"names": tuple(SCORES)}])
def test_operations_are_tensorflows(exported, tmp_path, changes):
    assert_operations_are_tensorflows(exported(**changes)[1], tmp_path, changes.get("ids_only"))


@pytest.mark.parametrize("changes,kinds", [
    ({}, ["predict_log"] * 6 + ["classify_log"] * 2), ({"ids_only": True}, ["predict_log"] * 4),
    ({"names": tuple(SCORES)}, ["predict_log"] * 6 + ["regress_log"] * 2)])
def test_warm_up_requests_run(exported, changes, kinds):
    assert_warm_up_runs(exported(**changes)[1], kinds)


def test_assets_and_slots(tiny_dir, exported):
    """A file a pack, whatever its name; and no more slots than packs."""
    paths, version = exported()
    assets = pathlib.Path(version, "assets")
    assert (assets / "tasks.txt").read_text("utf-8").splitlines() == list(paths)
    assert len(os.listdir(assets)) == 2 + 2 * len(paths)
    for name, ending in (("MRPC", "MRPC"), ("a/b \u4f60", "a%2Fb %E4%BD%A0")):
        found = manifest.parse((assets / f"pack-{ending}.json").read_bytes())
        assert found == store.read(paths[name]).manifest
        assert (assets / f"labels-{ending}.txt").read_text() == "".join(
            f"{label}\n" for label in found.labels)
    assert (assets / "vocab.txt").read_bytes() == pathlib.Path(tiny_dir, "vocab.txt").read_bytes()
    stacks = {name: shape for name, shape in tf.train.list_variables(
        os.path.join(version, "variables/variables")) if name.startswith("slots/")}
    assert stacks["slots/output_bias"] == [len(paths), 5]
    assert {shape[0] for shape in stacks.values()} == {len(paths)}


RESIDUAL = AdapterConfig(size=4, original_ln_before=True, residual_before_ln=False)


@pytest.mark.parametrize("kinds,words", [
    ({"a": {}, "b": {"adapter": AdapterConfig(activation="relu")}},
     "adapters of a and b differ: activation gelu and relu; export them apart"),
    ({"a": {}, "b": {"adapter": RESIDUAL}},
     "original_ln_before False and True, residual_before_ln True and False"),
    ({"a": {"tuning": "head", "adapter": None}, "b": {"adapter": RESIDUAL}},
     "a has no adapters, and those of b .*export them apart"),
    ({"a": SCORES["x"], "b": {}}, "a gives scores and b labels; export them apart"),
    ({"a": {}, "b": {"tuning": "bias", "adapter": None}}, "b: its tuning mode is bias"),
    ({"a": {}, "b" * 201: {}}, "too long a name.*describe --task")])
def test_what_one_graph_cannot_serve(tiny_dir, on, tmp_path, kinds, words):
    paths = packs_of(tmp_path, on, kinds)
    with pytest.raises(InputError, match=words) as caught:
        export(tiny_dir, list(paths.values()), str(tmp_path / "model"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_adapters_that_read_what_is_added_to_them(tiny_dir, on, tmp_path, ask):
    """Two of one placement and other sizes share a graph, with a pooler of their own."""
    kinds = {"a": {"adapter": RESIDUAL}, "b": {
        "tuning": "adapters_pooler", "adapter": AdapterConfig(
            size=2, original_ln_before=True, residual_before_ln=False)}}
    paths = packs_of(tmp_path, on, kinds)
    version = export(tiny_dir, list(paths.values()), str(tmp_path / "model"))
    rows = [(name, text) for text in TEXTS for name in paths]
    asked = columns(rows)
    del asked["text_b"]
    found = ask(version, [("serving_default", asked)])[0]
    assert largest(paths, rows, found, alone(tiny_dir, paths, rows)) <= 1e-5


def test_the_command(tiny_dir, on, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = packs_of(tmp_path, on, {"a": {}, "b": {}}).values()
    wanted = ["export", f"--bert_dir={tiny_dir}", "--output=models/all", "--ids_only"]
    main([*wanted, first, second])
    assert "models/all/1: a SavedModel" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*wanted, first, first])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "2 packs of the task a" in said
    assert "adapter-bert pack describe --task" in said
    assert os.listdir("models/all") == ["1"]
