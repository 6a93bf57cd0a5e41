"""AdapterHub's folders: recorded logits, round trips, and what is refused."""
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile

import hypothesis
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from adapter_bert import network
from adapter_bert.bert import adapters, checkpoint_io, modeling
from adapter_bert.errors import InputError
from adapter_bert.packs import adapterhub, manifest, store

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "adapterhub"
RECORDED = ROOT.parent / "shared" / "golden" / "adapterhub"
TINY_BASE = manifest.Base("tiny", "0" * 64, "0" * 64, TINY)
INPUTS = ("input_ids", "input_mask", "segment_ids")


def logits_of(pack, bert_dir, ids, key="logits"):
    """What the network makes of the pack's weights on the base of a folder."""
    values = {**checkpoint_io.Checkpoint(f"{bert_dir}/bert_model.ckpt"), **pack.weights}
    with tf.Graph().as_default():
        output, variables = network.towers(
            pack.manifest.model(), {name: tf.constant(ids[name]) for name in INPUTS}, 1, False,
            modeling.plain_formulas())
        with tf.Session() as session:
            network.load(session, [(variables[name], values[name]) for name in variables])
            return session.run(output.predictions[key])


def without_adapters(pack):
    """The pack with adapters of zeros."""
    return pack._replace(weights={name: value * ("/adapters/" not in name)
                                  for name, value in pack.weights.items()})


def some_pack(seed=0, labels=("no", "yes"), tuning="adapters_only", head=None, **adapter):
    """A pack of random weights on the tiny BERT."""
    config = adapters.AdapterConfig(**{"size": 3, **adapter})
    head = head or ("classification" if labels else "regression")
    found = manifest.Manifest(
        "made", head, labels, True, tuning, config, TINY_BASE, True, 24, {}, {}, {})
    random = np.random.default_rng(seed)
    return store.Pack(found, {name: random.normal(0, 1, shape).astype(np.float32)
                              for name, shape in found.shapes().items()})


def changed(folder, source, file="adapter_config.json", around=None, **config):
    """A copy of a fixture with other values in its config, `around` it or in it."""
    shutil.copytree(FIXTURES / source, folder)
    path = folder / file
    values = json.loads(path.read_text())
    values["config"].update(config)
    values.update(around or {})
    path.write_text(json.dumps(values))
    return str(folder)


@pytest.mark.parametrize("folder", [
    "houlsby", "houlsby-safetensors", "pfeiffer", "pfeiffer-safetensors"])
def test_recorded_adapters_give_recorded_logits(minilm_dir, folder, record_property):
    if not RECORDED.is_dir():
        pytest.skip("the recorded adapters of ../shared/golden/adapterhub are not here")
    ids = np.load("tests/fixtures/golden/minilm_l6.npz")
    config = network.read_config(f"{minilm_dir}/bert_config.json")
    pack = adapterhub.read(str(RECORDED / folder),
                           manifest.Base("minilm", "0" * 64, "0" * 64, config))
    recorded = np.load(RECORDED / f"{folder.split('-')[0]}_logits.npz")["logits"]
    difference = np.abs(logits_of(pack, minilm_dir, ids) - recorded).max()
    record_property("largest difference", float(difference))
    assert difference <= 1e-4
    assert np.abs(logits_of(without_adapters(pack), minilm_dir, ids) - recorded).max() > 1e-2


@pytest.mark.parametrize("folder,key", [("default", "logits"), ("houlsby", "scores")])
def test_tiny_adapters_give_recorded_logits(tiny_dir, folder, key, record_property):
    recorded = np.load(FIXTURES / "logits.npz")
    pack, wanted = adapterhub.read(str(FIXTURES / folder), TINY_BASE), recorded[f"logits_{folder}"]
    wanted = wanted[:, 0] if key == "scores" else wanted
    difference = np.abs(logits_of(pack, tiny_dir, recorded, key) - wanted).max()
    record_property("largest difference", float(difference))
    assert difference <= 1e-4
    found = logits_of(without_adapters(pack), tiny_dir, recorded, key)
    assert np.abs(found - wanted).max() > 1e-2


def test_a_tagging_head_gives_recorded_tags(tiny_dir, record_property):
    recorded = np.load(FIXTURES / "logits.npz")
    pack = adapterhub.read(str(FIXTURES / "tagging"), TINY_BASE)
    assert (pack.manifest.head, pack.manifest.labels) == ("tokens", ("O", "B-PER", "I-PER"))
    wanted, is_token = recorded["logits_tagging"], recorded["input_mask"] == 1
    wanted = np.exp(wanted) / np.exp(wanted).sum(axis=-1, keepdims=True)
    found = logits_of(pack, tiny_dir, recorded, "probabilities")
    difference = np.abs(found - wanted.max(axis=-1))[is_token].max()
    record_property("largest difference", float(difference))
    assert difference <= 1e-5
    tags = logits_of(pack, tiny_dir, recorded, "label_ids")[is_token]
    assert (tags == wanted.argmax(axis=-1)[is_token]).all() and len(set(tags)) > 1
    found = logits_of(without_adapters(pack), tiny_dir, recorded, "probabilities")
    assert np.abs(found - wanted.max(axis=-1))[is_token].max() > 1e-2


@pytest.mark.parametrize("activation,unlike", [
    ("gelu", "gelu_new"), ("gelu_new", "gelu"), ("gelu_pytorch_tanh", "gelu"), ("relu", "gelu"),
    ("tanh", "linear"), ("swish", "gelu"), ("silu", "relu"), ("linear", "tanh")])
def test_each_activation_gives_recorded_logits(tiny_dir, tmp_path, activation, unlike,
                                               record_property):
    recorded = np.load(FIXTURES / "logits.npz")
    folder = changed(tmp_path / "a", "houlsby", non_linearity=activation)
    found = logits_of(adapterhub.read(folder, TINY_BASE), tiny_dir, recorded, "scores")
    difference = np.abs(found - recorded[f"logits_{activation}"][:, 0]).max()
    record_property("largest difference", float(difference))
    assert difference <= 1e-5
    assert np.abs(found - recorded[f"logits_{unlike}"][:, 0]).max() > 1e-4


def test_what_the_tiny_folders_say():
    default, houlsby = (adapterhub.read(str(FIXTURES / name), TINY_BASE).manifest
                        for name in ("default", "houlsby"))
    assert (default.tuning, default.labels) == ("adapters_pooler", ("no", "yes", "maybe"))
    assert default.adapter == adapters.AdapterConfig(
        4, "feed_forward", activation="relu", original_ln_before=True)
    assert (houlsby.tuning, houlsby.head, houlsby.labels) == ("adapters_only", "regression", ())
    assert houlsby.adapter == adapters.AdapterConfig(3, layers=(1,), activation="swish")
    assert (houlsby.task, houlsby.max_seq_length) == ("tiny", 24)


@pytest.mark.parametrize("pack,beside", [
    (some_pack(), False),
    (some_pack(labels=(), placement="attention", activation="linear"), False),
    (some_pack(tuning="adapters_pooler", placement="feed_forward", original_ln_before=True), False),
    (some_pack(layers=(1,), activation="gelu_erf", residual_before_ln=False), False),
    (some_pack(labels=("O", "B", "I"), head="tokens"), False),
    (some_pack(tuning="adapters", activation="swish"), True)])
@pytest.mark.parametrize("left_out", ["", "bin", "safetensors"])
def test_round_trip(tmp_path, pack, beside, left_out):
    folder = tmp_path / "saved"
    adapterhub.write(pack, str(folder), "some-name", layer_norms_beside=beside)
    for kind in (adapterhub.ADAPTER, adapterhub.HEAD) * bool(left_out):
        (folder / (kind.torch if left_out == "bin" else kind.safetensors)).unlink()
    found = adapterhub.read(str(folder), TINY_BASE, task="made")
    assert found.weights.keys() == pack.weights.keys()
    for name, value in pack.weights.items():
        assert found.weights[name].tobytes() == value.tobytes(), name
    for key in ("task", "head", "labels", "tuning", "adapter"):
        assert getattr(found.manifest, key) == getattr(pack.manifest, key)
    store.write(str(tmp_path / "again.zip"), found)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_other_weights_do_not_come_back_equal(tmp_path):
    adapterhub.write(some_pack(1), str(tmp_path / "saved"), "a")
    found, other = adapterhub.read(str(tmp_path / "saved"), TINY_BASE).weights, some_pack(2).weights
    assert all((found[name] != value).any() for name, value in other.items())


@pytest.mark.parametrize("hidden", [16, 128, 384, 768, 1000, 1024])
def test_the_reduction_factor_gives_back_the_size(hidden):
    for size in range(1, 2 * hidden):
        factor = json.loads(json.dumps(adapterhub.reduction_factor(hidden, size)))
        assert int(hidden // factor) == size


def test_labels_missing_and_a_head_without_bias(tmp_path):
    folder = changed(tmp_path / "a", "default", "head_config.json", label2id=None)
    assert adapterhub.read(folder, TINY_BASE).manifest.labels == ("0", "1", "2")
    weights = adapterhub.read(str(FIXTURES / "houlsby"), TINY_BASE).weights
    assert (weights["output_bias"] == 0).all() and weights["output_weights"].any()


def test_tensors_of_a_bare_model_and_in_half_precision(tmp_path):
    adapterhub.write(some_pack(), str(tmp_path / "saved"), "a")
    path = tmp_path / "saved" / "adapter.safetensors"
    save_file({name.removeprefix("bert."): value.astype(np.float16)
               for name, value in load_file(path).items()}, path)
    found = adapterhub.read(str(tmp_path / "saved"), TINY_BASE).weights
    for name, value in some_pack().weights.items():
        held = value.astype(np.float16) if "/adapters/" in name else value
        assert (found[name] == held).all()


def test_whole_numbers_with_and_without_a_point(tmp_path):
    """As other programs write JSON: 1 for 1.0, and the other way round."""
    adapterhub.write(some_pack(), str(tmp_path / "saved"), "a")
    wanted = adapterhub.read(str(tmp_path / "saved"), TINY_BASE)
    for file, changes in (("adapter_config.json", {"scaling": 1, "leave_out": []}),
                          ("head_config.json", {"num_labels": 2.0, "layers": 1.0})):
        path = tmp_path / "saved" / file
        values = json.loads(path.read_text())
        values["config"].update(changes)
        for name, number in (values["config"].get("label2id") or {}).items():
            values["config"]["label2id"][name] = float(number)
        path.write_text(json.dumps(values))
    found = adapterhub.read(str(tmp_path / "saved"), TINY_BASE)
    assert found.manifest == wanted.manifest


@pytest.mark.parametrize("key,value", [
    ("is_parallel", True), ("scaling", True), ("is_parallel", 0),
    ("ln_before", True), ("ln_after", True), ("use_gating", True),
    ("phm_layer", True), ("scaling", 2.0), ("scaling", "learned"), ("inv_adapter", "nice"),
    ("cross_adapter", True), ("original_ln_after", False), ("residual_before_ln", "post_add"),
    ("architecture", "lora"), ("mh_adapter", "yes"), ("non_linearity", "leakyrelu"),
    ("non_linearity", None), ("reduction_factor", {"0": 4, "default": 8}),
    ("reduction_factor", 0), ("reduction_factor", float("nan")), ("reduction_factor", "4"),
    ("leave_out", None), ("leave_out", [0, 1]), ("output_adapter", False), ("new_key", 1)])
def test_an_adapter_of_another_kind_is_refused(tmp_path, key, value):
    folder = changed(tmp_path / "a", "default", **{key: value})
    with pytest.raises(InputError) as caught:
        adapterhub.read(folder, TINY_BASE)
    words = {"leave_out": "leave_out" if value is None else "no place", "architecture": "method",
             "output_adapter": "no place", "new_key": "unknown"}.get(key, key)
    assert words in str(caught.value) and "adapter_config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change,words", [
    ({"head_type": "tagging"}, "unknown 'bias', 'use_pooler'"),
    ({"head_type": "multilabel_classification"}, "multilabel"),
    ({"layers": 3}, "3 layers"), ({"activation_function": "relu"}, "relu"),
    ({"use_pooler": True}, "use_pooler True"), ({"layers": 1}, "1 layers"),
    ({"num_labels": 0}, "num_labels"), ({"num_labels": 2}, "label2id"),
    ({"label2id": {"a": 0, "b": 1, "c": 1}}, "label2id"), ({"label2id": ["a"]}, "label2id"),
    ({"bias": None}, "bias"), ({"extra": 1}, "unknown")])
def test_a_head_of_another_kind_is_refused(tmp_path, change, words):
    folder = changed(tmp_path / "a", "default", "head_config.json", **change)
    with pytest.raises(InputError, match=words):
        adapterhub.read(folder, TINY_BASE)


@pytest.mark.parametrize("around,words", [
    ({"model_type": "roberta"}, "model_type"), ({"hidden_size": 32}, "hidden_size"),
    ({"name": 3}, "name"), ({"name": "a\nb"}, "name"), ({"version": None}, "version"),
    ({"name": "other"}, "adapters.other.adapter_down")])
def test_another_model_is_refused(tmp_path, around, words):
    with pytest.raises(InputError, match=words):
        adapterhub.read(changed(tmp_path / "a", "default", around=around), TINY_BASE)


def test_another_number_of_layers_is_refused():
    deeper = dataclasses.replace(TINY_BASE, config=dataclasses.replace(TINY, num_hidden_layers=3))
    with pytest.raises(InputError, match="layer.2.output.*missing"):
        adapterhub.read(str(FIXTURES / "default"), deeper)


@pytest.mark.parametrize("file,text,words", [
    ("adapter_config.json", None, "no such file"), ("head_config.json", None, "no such file"),
    ("adapter_config.json", "{", "JSON"), ("head_config.json", "[" * 99_999, "JSON"),
    ("head_config.json", "[]", "no config"), ("head_config.json", '{"config": null}', "no config"),
    ("pytorch_adapter.bin", None, "lacks adapter.safetensors and pytorch_adapter.bin"),
    ("pytorch_model_head.bin", None, "lacks model_head.safetensors"),
    ("adapter.safetensors", "x", "safetensors")])
def test_a_folder_of_something_else_is_refused(tmp_path, file, text, words):
    shutil.copytree(FIXTURES / "default", tmp_path / "a")
    path = tmp_path / "a" / file
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=words):
        adapterhub.read(str(tmp_path / "a"), TINY_BASE)


@pytest.mark.parametrize("change,words", [
    (lambda tensors: tensors.popitem(), "missing"),
    (lambda tensors: tensors.update(more=np.zeros(1, np.float32)), "more.* not there"),
    (lambda tensors: tensors.update({name: value.T for name, value in tensors.items()}), "not "),
    (lambda tensors: next(iter(tensors.values())).fill(np.nan), "no finite numbers in bert"),
    (lambda tensors: tensors.update({name: value.astype(np.float64)
                                     for name, value in tensors.items()}), "F64"),
    (lambda tensors: tensors.update({name.removeprefix("bert."): value
                                     for name, value in tensors.items()}), "two tensors")])
def test_other_tensors_are_refused(tmp_path, change, words):
    adapterhub.write(some_pack(), str(tmp_path / "saved"), "a")
    path = tmp_path / "saved" / "adapter.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    with pytest.raises(InputError, match=words):
        adapterhub.read(str(tmp_path / "saved"), TINY_BASE)


def test_layer_norms_beside_the_default_head_are_refused(tmp_path):
    shutil.copytree(FIXTURES / "default", tmp_path / "a")
    (tmp_path / "a" / "layer_norms.safetensors").touch()
    with pytest.raises(InputError, match="no tuning mode"):
        adapterhub.read(str(tmp_path / "a"), TINY_BASE)


def test_what_that_format_cannot_carry_is_not_written(tmp_path):
    folder = tmp_path / "saved"
    head_only = store.Pack(dataclasses.replace(some_pack().manifest, tuning="head", adapter=None),
                           {name: value for name, value in some_pack().weights.items()
                            if name.startswith("output")})
    for pack, name, words in ((some_pack(tuning="adapters"), "a", "adapters_only"),
                              (head_only, "a", "tuning head"), (some_pack(), "a.b", "no name"),
                              (some_pack(), "keys", "no name"),
                              (some_pack(tuning="adapters_pooler", head="tokens"), "a", "tagging"),
                              (some_pack()._replace(weights={}), "a", "not written")):
        with pytest.raises(InputError, match=words):
            adapterhub.write(pack, str(folder), name)
        assert not folder.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        adapterhub.write(some_pack(), str(tmp_path / "full"), "a")
    assert os.listdir(tmp_path) == ["full"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=3), max_leaves=5)
KEYS = [(file, key) for file in ("adapter_config.json", "head_config.json")
        for key in json.loads((FIXTURES / "default" / file).read_text())["config"]]


def read_or_refuse(folder):
    try:
        pack = adapterhub.read(folder, TINY_BASE)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        store.to_bytes(folder, pack, "float32")


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.sampled_from(KEYS), JSON_VALUES,
                  st.sampled_from(["name", "model_name", "version", "hidden_size", "config", "x"]),
                  st.booleans())
def test_any_value_in_a_config_is_read_or_refused(place, value, around, is_around):
    with tempfile.TemporaryDirectory() as folder:
        change = {"around": {around: value}} if is_around else {place[1]: value}
        read_or_refuse(changed(pathlib.Path(folder) / "a", "default", place[0], **change))


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(st.integers(0, 10_000), st.integers(1, 255), st.booleans())
def test_a_damaged_safetensors_file_is_read_or_refused(place, mask, is_cut):
    with tempfile.TemporaryDirectory() as folder:
        adapterhub.write(some_pack(), f"{folder}/a", "a")
        path = pathlib.Path(folder, "a", "adapter.safetensors")
        content = bytearray(path.read_bytes())
        place %= len(content)
        content[place] ^= mask
        path.write_bytes(content[:place] if is_cut else content)
        read_or_refuse(f"{folder}/a")
