"""SavedModels of packs: what they say is what the pack says, in a process without this project."""
import dataclasses
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
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

import adapter_bert
from adapter_bert.__main__ import main
from adapter_bert.errors import InputError
from adapter_bert.export import warmup
from adapter_bert.export.savedmodel import SERVING_VERSION, export
from adapter_bert.packs import manifest, store
from adapter_bert.packs.bases import base_of

MRPC = pathlib.Path(__file__).parents[1] / "../shared/data/glue/MRPC"
TEXTS = ["the film was good", "Éa 你好 🙂 very bad", "", "a dull story ! " * 700, "not\u0301 ΟΔΟΣ"]
PAIRS = [("the plot", "it was fine"), ("the film", ""), ("", "a"),
         ("good " * 30, "bad story " * 30)]

# Answers one request a line, in a process that has TensorFlow and tensorflow-text and not us.
ASK = """
import json, sys
import tensorflow as tf
if sys.argv[1] == "text":
    import tensorflow_text
assert not {"adapter_bert", "modeling", "tokenization"} & set(sys.modules)

def example(row):
    values = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
              for key, text in row.items()}
    return tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()

def answer(signature, inputs):
    if isinstance(inputs, list):
        inputs = {"inputs": [example(row) for row in inputs]}
    fed = {key: tf.constant(value, tf.int32 if isinstance(value[0], list) else tf.string)
           for key, value in inputs.items()}
    return {key: value.numpy().tolist() for key, value in signature(**fed).items()}

for line in sys.stdin:
    version, requests = json.loads(line)
    loaded = tf.saved_model.load(version).signatures
    print(json.dumps([answer(loaded[name], inputs) for name, inputs in requests],
                     default=bytes.decode), flush=True)
"""
# Prints which operations are known to TensorFlow alone, and with tensorflow-text.
KNOWN = """
import json, sys
import tensorflow
from tensorflow.python.framework import op_def_registry
names = json.loads(sys.argv[1])
alone = [name for name in names if op_def_registry.get(name)]
import tensorflow_text
print(json.dumps([alone, [name for name in names if op_def_registry.get(name)]]))
"""


@pytest.fixture(name="on", scope="module")
def fixture_on(tiny_dir):
    """The manifest.Base of the tiny BERT."""
    return base_of(tiny_dir)


@pytest.fixture(name="exported", scope="module")
def fixture_exported(tiny_dir, on, tmp_path_factory):
    """Function (ids_only, fields of the manifest) -> path of the pack, path of the version."""
    @functools.cache
    def make(ids_only=False, **changes):
        folder = tmp_path_factory.mktemp("exported")
        path = str(folder / "pack.zip")
        store.write(path, tiny_pack(base=on, **changes))
        return path, export(tiny_dir, [path], str(folder / "model"), ids_only=ids_only)
    return make


@pytest.fixture(name="ask", scope="module")
def fixture_ask(tmp_path_factory):
    """Function (version, requests) -> answers of a process without this project."""
    with apart(tmp_path_factory.mktemp("apart"), ASK, "text", stdin=subprocess.PIPE) as process:
        def ask(version, requests):
            process.stdin.write(json.dumps([version, requests]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        yield ask
        process.stdin.close()


def apart(folder, code, *arguments, **options):
    """A Python process that sees the installed libraries alone."""
    return subprocess.Popen([sys.executable, "-I", "-c", code, *arguments], cwd=folder, text=True,
                            stdout=subprocess.PIPE, env={"TF_CPP_MIN_LOG_LEVEL": "3"}, **options)


def graph_of(version):
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(pathlib.Path(version, "saved_model.pb").read_bytes())
    return model.meta_graphs[0].graph_def


def nodes_of(version):
    graph = graph_of(version)
    return [*graph.node, *(node for one in graph.library.function for node in one.node_def)]


def row_by_row(answer):
    """The answer's probabilities as load().predict gives them, and its labels."""
    return [dict(zip(labels, row, strict=True)) for labels, row in zip(
        answer["labels"], answer["probabilities"], strict=True)]


def assert_same(answer, predictions):
    assert answer["label"] == [one.label for one in predictions]
    for found, wanted in zip(row_by_row(answer), predictions, strict=True):
        assert found == pytest.approx(wanted.probabilities, abs=1e-5)


def test_texts_pairs_and_examples(tiny_dir, exported, ask):
    """Every signature says what load().predict says, in order, for any text and length."""
    pack, version = exported(pair=None, labels=("no", "dé\u4f60"))
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        alone, pairs = task.predict(TEXTS), task.predict(PAIRS)
        single = task.predict(["the film"])
    first, second = map(list, zip(*PAIRS, strict=True))
    rows = [{"text_a": text} for text in TEXTS] + [
        {"text_a": one, "text_b": other} for one, other in PAIRS]
    found = ask(version, [
        ("serving_default", {"text_a": TEXTS}), ("serving_default", {"text_a": TEXTS[1:2]}),
        ("serving_pairs", {"text_a": first, "text_b": second}),
        ("serving_pairs", {"text_a": TEXTS, "text_b": [""] * len(TEXTS)}), ("classify", rows)])
    assert_same(found[0], alone)
    assert_same(found[1], alone[1:2])
    assert_same(found[2], [pairs[0], *single, *pairs[2:]])   # an empty text_b is none
    assert_same(found[3], alone)
    classified = {"label": [one.label for one in alone + pairs], "labels": found[4]["classes"],
                  "probabilities": found[4]["scores"]}
    assert_same(classified, alone + pairs)   # an Example may have an empty text_b
    assert np.ptp([one.probabilities["no"] for one in alone + pairs]) > 0.01


def test_a_task_of_pairs(tiny_dir, exported, ask):
    """Its default signature takes two texts, of which the second may be empty."""
    pack, version = exported(pair=True)
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        wanted = task.predict(PAIRS)
    found = store.read(pack)
    either = found._replace(manifest=dataclasses.replace(found.manifest, pair=None))
    with adapter_bert.load(tiny_dir, either, precision="float32") as task:   # else it is refused
        alone = task.predict(["the film"])
    assert abs(wanted[1].probabilities["0"] - alone[0].probabilities["0"]) > 1e-3
    first, second = map(list, zip(*PAIRS, strict=True))
    found = ask(version, [("serving_default", {"text_a": first, "text_b": second}),
                          ("classify", [{"text_a": "the film"}])])
    assert_same(found[0], wanted)
    assert found[1]["scores"][0] == pytest.approx(list(alone[0].probabilities.values()), abs=1e-5)


def test_a_regression(tiny_dir, exported, ask):
    pack, version = exported(head="regression", labels=())
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        wanted = task.predict(TEXTS)
    found = ask(version, [("serving_default", {"text_a": TEXTS}),
                          ("regress", [{"text_a": text} for text in TEXTS])])
    assert found[0]["score"] == pytest.approx(wanted, abs=1e-5)
    assert found[1]["outputs"] == pytest.approx(wanted, abs=1e-5)
    assert pathlib.Path(version, "assets/labels.txt").read_text() == ""


def test_cased_texts(tiny_dir, exported, ask):
    pack, version = exported(do_lower_case=False)
    texts = ["The film", "the film", "É good"]
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        assert_same(ask(version, [("serving_default", {"text_a": texts})])[0], task.predict(texts))


def test_ids_of_any_size(tiny_dir, exported, ask, tmp_path):
    """With and without texts; without them tensorflow-text is not needed."""
    pack, with_texts = exported()
    same, without = exported(ids_only=True)
    rows = {"input_ids": [[2, 5, 7, 3], [2, 3, 0, 0]], "input_mask": [[1] * 4, [1, 1, 0, 0]],
            "segment_ids": [[0] * 4] * 2}
    longest = {"input_ids": [[2] * 24], "input_mask": [[1] * 24], "segment_ids": [[0] * 24]}
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        wanted = task.predict(["good film", ""])
    assert_same(ask(with_texts, [("ids", rows)])[0], wanted)
    request = json.dumps([without, [("ids", rows), ("serving_default", longest)]])
    with apart(tmp_path, ASK, "ids", stdin=subprocess.PIPE) as process:
        found = json.loads(process.communicate(request + "\n")[0])
    assert_same(found[0], wanted)
    assert len(found[1]["label"]) == 1
    assert not {"FastWordpieceTokenizeWithOffsets", "UnicodeDecode"} & {
        node.op for node in nodes_of(without)}


def test_saved_model_cli(exported, tmp_path):
    """TensorFlow's own command runs a model of ids."""
    _, version = exported(ids_only=True)
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "saved_model_cli"), "run", "--dir", version,
         "--tag_set", "serve", "--signature_def", "serving_default", "--input_exprs",
         "input_ids=[[2,5,3]];input_mask=[[1,1,1]];segment_ids=[[0,0,0]]"],
        cwd=tmp_path, text=True, capture_output=True)
    assert not done.returncode, done.stderr
    assert "Result for output key probabilities" in done.stdout


def test_too_long_a_row_is_named(exported):
    _, version = exported(ids_only=True)
    with tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], version).signature_def["ids"]
        feed = {loaded.inputs[name].name: np.ones([1, 25], np.int32) for name in loaded.inputs}
        with pytest.raises(tf.errors.InvalidArgumentError, match="than the base has positions, 24"):
            session.run(loaded.outputs["probabilities"].name, feed)


@pytest.mark.parametrize("changes", [
    {}, {"ids_only": True}, {"head": "regression", "labels": ()},
    {"tuning": "bias", "adapter": None}])
def test_operations_are_tensorflows(exported, tmp_path, changes):
    """No kernel of ours, nothing that must be compiled; of tensorflow-text one operation."""
    assert_operations_are_tensorflows(exported(**changes)[1], tmp_path, changes.get("ids_only"))


def assert_operations_are_tensorflows(version, folder, ids_only):
    """The operations are what `import tensorflow` (2.15.1) registers in a process of its own,
    and what `import tensorflow_text` (2.15.0) adds. TensorFlow Serving's server links all of
    TensorFlow's core operations and tensorflow-text's `ops_lib`.
    """
    nodes = nodes_of(version)
    assert not [node.name for node in nodes if "_XlaMustCompile" in node.attr]
    assert not [function.signature.name for function in graph_of(version).library.function
                if "_XlaMustCompile" in function.attr]
    functions = {function.signature.name for function in graph_of(version).library.function}
    names = sorted({node.op for node in nodes} - functions)
    assert not [name for name in names if name.startswith("AdapterBert")]
    with apart(folder, KNOWN, json.dumps(names)) as process:
        alone, with_text = json.loads(process.communicate()[0])
    assert with_text == names
    assert set(with_text) - set(alone) == (
        set() if ids_only else {"FastWordpieceTokenizeWithOffsets"})


@pytest.mark.parametrize("changes,kinds", [
    ({}, ["predict_log"] * 6 + ["classify_log"] * 2), ({"ids_only": True}, ["predict_log"] * 4),
    ({"head": "regression", "labels": ()}, ["predict_log"] * 6 + ["regress_log"] * 2)])
def test_warm_up_requests_run(exported, changes, kinds):
    assert_warm_up_runs(exported(**changes)[1], kinds)


def assert_warm_up_runs(version, kinds):
    """Every record is a request of one of these kinds that the version answers."""
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in
            tf.io.tf_record_iterator(os.path.join(version, warmup.PATH))]
    assert [log.WhichOneof("log_type") for log in logs] == kinds
    with tf.Session() as session:
        if "classify_log" in kinds or "regress_log" in kinds:
            import tensorflow_text  # noqa: F401  registers its operation
        loaded = tf.saved_model.load(session, ["serve"], version).signature_def
        for log in logs:
            request = getattr(log, log.WhichOneof("log_type")).request
            assert request.model_spec.name == os.path.basename(os.path.dirname(version))
            signature = loaded[request.model_spec.signature_name]
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()
                      } if hasattr(request, "inputs") else {
                "inputs": [one.SerializeToString() for one in request.input.example_list.examples]}
            assert inputs.keys() == signature.inputs.keys()
            session.run([value.name for value in signature.outputs.values()],
                        {signature.inputs[name].name: value for name, value in inputs.items()})


def test_assets(tiny_dir, exported):
    pack, version = exported(labels=("no", "dé"))
    assets = pathlib.Path(version, "assets")
    assert manifest.parse((assets / "pack.json").read_bytes()) == store.read(pack).manifest
    assert (assets / "labels.txt").read_text("utf-8") == "no\ndé\n"
    assert (assets / "vocab.txt").read_bytes() == pathlib.Path(tiny_dir, "vocab.txt").read_bytes()


def test_the_docs_name_the_image():
    text = pathlib.Path(__file__).parents[1].joinpath("docs/serving.md").read_text("utf-8")
    assert f"tensorflow/serving:{SERVING_VERSION}" in text


def test_the_command(tiny_dir, on, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store.write("p.zip", tiny_pack(base=on))
    wanted = ["export", f"--bert_dir={tiny_dir}", "--output=models/sst", "--ids_only", "p.zip"]
    for _ in range(2):
        main(wanted)
    main([*wanted, "--version=7"])
    main(wanted)
    assert sorted(os.listdir("models/sst")) == ["1", "2", "7", "8"]
    assert "models/sst/8: a SavedModel" in capsys.readouterr().out
    for version, words in (("7", "is there already"), ("0", "whole numbers from 1 to"),
                           ("9" * 20, "from 1 to 9223372036854775807")):
        with pytest.raises(SystemExit):
            main([*wanted, f"--version={version}"])
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1
    assert sorted(os.listdir("models/sst")) == ["1", "2", "7", "8"]


def test_what_fails_leaves_nothing(tiny_dir, on, tmp_path, monkeypatch):
    path = str(tmp_path / "p.zip")
    store.write(path, tiny_pack(base=on))
    output = tmp_path / "model"
    (output / ".3.x.part").mkdir(parents=True)   # what a killed process leaves
    monkeypatch.setattr(warmup, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(tiny_dir, [path], str(output))
    assert os.listdir(output) == []


def test_another_base_is_refused(tiny_dir, on, tmp_path):
    path = str(tmp_path / "p.zip")
    store.write(path, tiny_pack(base=manifest.Base("minilm", "3" * 64, on.vocab, on.config)))
    with pytest.raises(InputError, match="made on minilm.*uncased_L-2_H-16_A-2.*fingerprint"):
        export(tiny_dir, [path], str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()


@pytest.mark.long
@pytest.mark.skipif(not MRPC.is_dir(), reason="MRPC is not in ../shared/data/glue")
def test_all_of_mrpc_dev(minilm_dir, tmp_path, ask):
    """A real base, real pairs: the largest difference of a probability."""
    rows = [line.split("\t") for line in
            (MRPC / "dev.tsv").read_text("utf-8-sig").splitlines()[1:]]
    pairs = [(row[3], row[4]) for row in rows]
    path = str(tmp_path / "p.zip")
    store.write(path, tiny_pack(base=base_of(minilm_dir), pair=True, max_seq_length=128))
    with adapter_bert.load(minilm_dir, path, precision="float32") as task:
        wanted = np.array([list(one.probabilities.values()) for one in task.predict(pairs)])
    version = export(minilm_dir, [path], str(tmp_path / "mrpc"))
    first, second = map(list, zip(*pairs, strict=True))
    requests = [("serving_default", {"text_a": first[start:start + 32],
                                     "text_b": second[start:start + 32]})
                for start in range(0, len(pairs), 32)]
    found = np.concatenate([one["probabilities"] for one in ask(version, requests)])
    print(f"largest difference {np.abs(found - wanted).max():.2e} of {len(wanted)} rows")
    assert len(wanted) > 400 and np.ptp(wanted[:, 0]) > 0.01
    assert np.abs(found - wanted).max() < 1e-5
