"""Packs on disk: what is written is read back, and nothing else is ever read."""
import dataclasses
import hashlib
import io
import json
import os
import stat
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from packs import tiny_pack
from safetensors.numpy import save

from adapter_bert.bert import adapters, checkpoint_io, modeling
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest, store

many = hypothesis.settings(max_examples=300, deadline=None, suppress_health_check=[
    hypothesis.HealthCheck.function_scoped_fixture])


SPANS = {"head": "spans", "labels": (), "pair": True,
         "spans": manifest.Spans(64, 128, 20, 30, 0.0)}


META = {"meta": manifest.Meta("fomaml", "adam", 1e-3, 10, ("books", "music"))}


@pytest.mark.parametrize("form", ["pack", "pack.zip"])
@pytest.mark.parametrize("changes", [
    {}, {"head": "regression", "labels": (), "pair": None}, {"labels": ("neutral", "no", "oui é")},
    {"tuning": "adapters_only"}, {"tuning": "adapters_pooler"}, {"tuning": "adapters_norms_pooler"},
    {"tuning": "bias", "adapter": None}, {"tuning": "top_layers=1", "adapter": None},
    {"metrics": {}, "description": '"\\\n\u2028'}, SPANS, META])
def test_round_trip(tmp_path, form, changes):
    pack, path = tiny_pack(**changes), str(tmp_path / form)
    written, found = store.write(path, pack), store.read(path)
    assert found.manifest == written.manifest
    assert dataclasses.replace(found.manifest, weights=None) == pack.manifest
    assert found.weights.keys() == pack.weights.keys()
    assert all(np.array_equal(found.weights[name], value) for name, value in pack.weights.items())


def test_bfloat16_is_half_the_bytes_and_near(tmp_path):
    pack = tiny_pack()
    whole = store.write(str(tmp_path / "a"), pack).manifest.weights.bytes
    half = store.write(str(tmp_path / "b"), pack, "bfloat16")
    parameters = sum(value.size for value in pack.weights.values())
    assert whole - half.manifest.weights.bytes == pytest.approx(2 * parameters, abs=200)
    for name, value in pack.weights.items():
        assert np.abs(half.weights[name] - value).max() <= np.abs(value).max() * 2.0**-8
        assert half.weights[name].dtype == np.float32


def test_size_for_bert_base(record_property):
    """The promise of the format: 2.3 % of the base's bytes, 1.2 % in bfloat16."""
    config = modeling.BertConfig(30522, type_vocab_size=2)
    whole = 4 * sum(
        np.prod(shape) for shape in checkpoint_io.variable_shapes(config.to_dict()).values()
    )
    pack = tiny_pack(base=manifest.Base("bert-base", "0" * 64, "1" * 64, config),
                     adapter=adapters.AdapterConfig(size=64))
    for dtype, most in (("float32", 0.023), ("bfloat16", 0.012)):
        share = len(store.to_zip("", pack, dtype)) / whole
        record_property(dtype, float(share))
        assert share <= most


def test_one_zip_for_one_content(tmp_path):
    """Byte for byte, so that a hub knows what it has; and as it was when packs were first made."""
    content = store.to_zip("", tiny_pack())
    assert content == store.to_zip("", tiny_pack())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["pack.json", "weights.safetensors"]
    text, frame = b"text", store._zip(b"text", b"weights")
    assert len(frame) == 30 + 9 + len(text) + 30 + 19 + len(b"weights") + 46 + 9 + 46 + 19 + 22
    assert hashlib.sha256(frame).hexdigest() == (
        "b35afa76e981a50cf363466df836bf24e0667acb997a05889f06c39d31e4b1b2")


@pytest.fixture(name="zip_bytes", scope="module")
def fixture_zip_bytes():
    return store.to_zip("", tiny_pack())


def refuses(path, content):
    """Whether the file `content` at `path` is refused in one line."""
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        store.read(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@many
@hypothesis.given(strategies.data())
def test_no_flipped_bit_passes(tmp_path, zip_bytes, data):
    place = data.draw(strategies.integers(0, 8 * len(zip_bytes) - 1))
    flipped = bytearray(zip_bytes)
    flipped[place // 8] ^= 1 << place % 8
    refuses(tmp_path / "p.zip", bytes(flipped))


@many
@hypothesis.given(strategies.data())
def test_no_truncated_or_longer_pack_passes(tmp_path, zip_bytes, data):
    keep = data.draw(strategies.integers(0, len(zip_bytes)))
    extra = data.draw(strategies.binary(min_size=keep == len(zip_bytes), max_size=50))
    hypothesis.assume(zip_bytes[:keep] + extra != zip_bytes)
    refuses(tmp_path / "p.zip", zip_bytes[:keep] + extra)


@many
@hypothesis.given(strategies.data())
def test_no_flipped_bit_in_a_folder_passes(tmp_path, data):
    folder = tmp_path / "pack"
    store.write(str(folder), tiny_pack())
    path = folder / data.draw(strategies.sampled_from(["pack.json", "weights.safetensors"]))
    content = bytearray(path.read_bytes())
    place = data.draw(strategies.integers(0, 8 * len(content) - 1))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    with pytest.raises(InputError, match="pack"):
        store.read(str(folder))


def forged(changes=None, weights=None, **fields):
    """A .zip whose checksums fit what it says, whether or not that can be true."""
    pack = tiny_pack(**fields)
    content = save(weights or pack.weights)
    values = json.loads(store.to_zip("", pack)[39:].split(b"PK\3\4")[0])
    values["weights"] = {"dtype": "float32", "bytes": len(content),
                         "sha256": hashlib.sha256(content).hexdigest()}
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        place[last] = value
    values.pop("checksum", None)
    checksum = hashlib.sha256(manifest._dump(values)).hexdigest()
    return store._zip(manifest._dump({**values, "checksum": checksum}), content)


def test_forged_is_sound_when_it_is_true(tmp_path):
    (tmp_path / "p.zip").write_bytes(forged())
    assert store.read(str(tmp_path / "p.zip")).manifest.task == "SST-2"


@pytest.mark.parametrize("changes,message", [
    ({"schema_version": 2}, "update adapter-bert"), ({"format": "other"}, "not a pack"),
    ({"task": "a\nb"}, "task"), ({"head": "tagging"}, "head"), ({"labels": ["0"]}, "1 labels"),
    ({"labels": ["0", "0"]}, "different"), ({"labels": []}, "0 labels"),
    ({"labels": ["0", "1", "2"]}, "shape"), ({"tuning": "full"}, "contradict"),
    ({"tuning": "magic"}, "tuning"), ({"adapter.size": 5}, "shape|bytes"),
    ({"adapter.size": 10**9}, "size"), ({"adapter.layers": [7]}, "layers"),
    ({"adapter.width": 1}, "width"), ({"adapter": None}, "contradict"),
    ({"base.fingerprint": "x"}, "fingerprint"), ({"base.config.hidden_size": 32}, "shape|bytes"),
    ({"base.config.num_hidden_layers": 10**9}, "num_hidden_layers"),
    ({"base.config.hidden_size": "16"}, "hidden_size"), ({"max_seq_length": 4000}, "positions"),
    ({"max_seq_length": True}, "max_seq_length"), ({"metrics": {"a": "b"}}, "metrics"),
    ({"metrics": {"a": 10**400}}, "metrics"), ({"data": {"train": 3}}, "data"),
    ({"description": "x" * 20_000}, "description"), ({"surplus": 1}, "surplus"),
    ({"weights.bytes": 10**12}, "bytes"), ({"weights.dtype": "float64"}, "dtype"),
    ({"weights.dtype": "bfloat16"}, "bytes|type")])
def test_what_cannot_be_is_refused(tmp_path, changes, message):
    (tmp_path / "p.zip").write_bytes(forged(changes))
    with pytest.raises(InputError, match=message):
        store.read(str(tmp_path / "p.zip"))


@pytest.mark.parametrize("changes,message", [
    ({"spans": None}, "spans is None"), ({"spans": {"doc_stride": 1}}, "spans has the keys"),
    ({"spans.more": 1}, "spans has the keys"), ({"spans.doc_stride": 0}, "spans.doc_stride is 0"),
    ({"spans.max_query_length": -1}, "max_query_length is -1"),
    ({"spans.max_query_length": False}, "max_query_length is False"),
    ({"spans.n_best_size": 2.0}, "n_best_size"), ({"spans.max_answer_length": "30"}, "is '30'"),
    ({"spans.null_threshold": 0}, "null_threshold is 0, not a number with a point, or null"),
    ({"spans.null_threshold": 1e301}, "null_threshold"), ({"labels": ["0", "1"]}, "2 labels"),
    ({"head": "regression"}, "unknown: spans"), ({"head": ["spans"]}, "unknown: spans")])
def test_what_spans_cannot_be_is_refused(tmp_path, changes, message):
    (tmp_path / "p.zip").write_bytes(forged(changes, **SPANS))
    with pytest.raises(InputError, match=message):
        store.read(str(tmp_path / "p.zip"))


def test_spans_belong_to_their_head(tmp_path):
    for changes in ({**SPANS, "spans": None}, {"spans": SPANS["spans"]}):
        with pytest.raises(InputError, match="not written: keys missing or unknown: spans"):
            store.write(str(tmp_path / "p.zip"), tiny_pack(**changes))
    (tmp_path / "p.zip").write_bytes(forged({"spans": None}))
    with pytest.raises(InputError, match="unknown: spans"):
        store.read(str(tmp_path / "p.zip"))
    assert b"spans" not in tiny_pack().manifest.to_bytes()


@pytest.mark.parametrize("changes,message", [
    ({"meta": None}, "meta is None"), ({"meta": {"algorithm": "fomaml"}}, "meta has the keys"),
    ({"meta.more": 1}, "meta has the keys"), ({"meta.algorithm": 1}, "meta.algorithm is 1"),
    ({"meta.inner_update_lr": 1}, "inner_update_lr is 1, not a number with a point"),
    ({"meta.inner_update_step": 0}, "inner_update_step is 0"),
    ({"meta.domains": "books"}, "meta.domains is 'books'")])
def test_what_meta_training_cannot_be_is_refused(tmp_path, changes, message):
    (tmp_path / "p.zip").write_bytes(forged(changes, **META))
    with pytest.raises(InputError, match=message):
        store.read(str(tmp_path / "p.zip"))


def test_meta_is_of_meta_trained_packs_alone():
    assert b'"meta"' in tiny_pack(**META).manifest.to_bytes()
    assert b'"meta"' not in tiny_pack().manifest.to_bytes()


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
    | strategies.text(max_size=8), lambda inner: strategies.lists(inner, max_size=3)
    | strategies.dictionaries(strategies.text(max_size=5), inner, max_size=3), max_leaves=6)
KEYS = ["task", "head", "labels", "pair", "tuning", "adapter", "base", "do_lower_case", "weights",
        "max_seq_length", "metrics", "data", "versions", "license", "description",
        "adapter.size", "adapter.placement", "adapter.layers", "adapter.activation",
        "adapter.init_stddev", "adapter.adapter_fn", "adapter.original_ln_before",
        "base.name", "base.fingerprint", "base.vocab", "base.config", "base.config.hidden_size",
        "base.config.hidden_act", "base.config.vocab_size", "weights.bytes", "weights.sha256"]


@many
@hypothesis.given(strategies.sampled_from(KEYS), JSON)
def test_any_value_anywhere_loads_or_is_refused_in_a_line(tmp_path, key, value):
    (tmp_path / "p.zip").write_bytes(forged({key: value}))
    try:
        store.read(str(tmp_path / "p.zip"))
    except InputError as error:
        assert str(tmp_path) in str(error)


@hypothesis.settings(many, max_examples=60)
@hypothesis.given(strategies.sampled_from(["spans", "head", "labels", *(
    f"spans.{field.name}" for field in dataclasses.fields(manifest.Spans))]), JSON)
def test_any_value_of_spans_loads_or_is_refused_in_a_line(tmp_path, key, value):
    (tmp_path / "p.zip").write_bytes(forged({key: value}, **SPANS))
    try:
        store.read(str(tmp_path / "p.zip"))
    except InputError as error:
        assert str(tmp_path) in str(error)


@pytest.mark.parametrize("text", [
    b"", b"null", b"[" * 100_000, b'{"format": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe",
    b'{"format": "adapter-bert pack", "schema_version": 1}', b'{"a": "\\ud800"}'])
def test_no_manifest_at_all(tmp_path, text):
    refuses(tmp_path / "p.zip", store._zip(text, b""))


def with_weights(change):
    """The tiny pack's weights after `change` did something to the dict."""
    weights = dict(tiny_pack().weights)
    change(weights)
    return weights


ADAPTER = "bert/encoder/layer_0/output/adapters/weights1"


@pytest.mark.parametrize("change,message", [
    (lambda w: w.pop("output_bias"), "output_bias missing"),
    (lambda w: w.update(surplus=np.zeros(1, np.float32)), "surplus"),
    (lambda w: w.update({"../../etc": w.pop("output_bias")}), "output_bias"),
    (lambda w: w.update({ADAPTER: w[ADAPTER].T.copy()}), "weights1"),
    (lambda w: w.update({ADAPTER: w[ADAPTER].astype(np.float64)}), "weights1|bytes"),
    (lambda w: w.update(output_bias=np.array([np.nan, 0], np.float32)), "finite.*output_bias"),
    (lambda w: w.update(output_bias=np.array([np.inf, 0], np.float32)), "finite.*output_bias")])
def test_weights_that_are_not_the_models(tmp_path, change, message):
    (tmp_path / "p.zip").write_bytes(forged(weights=with_weights(change)))
    with pytest.raises(InputError, match=message):
        store.read(str(tmp_path / "p.zip"))


@pytest.mark.parametrize("member", ["../pack.json", "/pack.json", "pack.json/", "weights"])
def test_zips_of_others_are_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, b"\0" * (1 << 24))   # a bomb: 16 MB in 16 kB
    with pytest.raises(InputError, match="zip"):
        store.read(str(tmp_path / "p.zip"))


@pytest.mark.parametrize("name", ["pack.json", "weights.safetensors"])
@pytest.mark.parametrize("place", ["link", "fifo", "folder", "nothing", "device"])
def test_only_plain_files_are_opened(tmp_path, name, place):
    folder = tmp_path / "pack"
    store.write(str(folder), tiny_pack())
    os.rename(folder / name, tmp_path / "real")
    make = {"link": lambda path: os.symlink(tmp_path / "real", path), "fifo": os.mkfifo,
            "folder": os.mkdir, "nothing": lambda path: None,
            "device": lambda path: os.symlink("/dev/zero", path)}[place]
    make(folder / name)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        store.read(str(folder))


def test_writing_leaves_others_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="other things"):
        store.write(str(tmp_path / "mine"), tiny_pack())
    (tmp_path / "there.zip").mkdir()
    with pytest.raises(InputError, match="other things"):
        store.write(str(tmp_path / "there.zip"), tiny_pack())
    nan = tiny_pack()
    nan.weights["output_bias"][0] = np.nan
    with pytest.raises(InputError, match="not written.*finite"):
        store.write(str(tmp_path / "nan.zip"), nan)
    assert sorted(os.listdir(tmp_path)) == ["mine", "there.zip"]
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]


def test_a_pack_is_replaced_whole(tmp_path):
    path = str(tmp_path / "p.zip")
    store.write(path, tiny_pack(0))
    store.write(path, tiny_pack(1))
    assert np.array_equal(store.read(path).weights[ADAPTER], tiny_pack(1).weights[ADAPTER])
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o444 == 0o444
