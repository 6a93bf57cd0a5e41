"""Hugging Face folders as they are published: heads, shards, pickles, padding, added tokens."""
import io
import json
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapter_bert.bert import checkpoint_io, formats, tensor_files, torch_file
from adapter_bert.bert.conversion import convert
from adapter_bert.errors import InputError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b"]
CONFIG = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
          "intermediate_size": 6, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
          "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 5,
          "type_vocab_size": 2, "initializer_range": 0.02}


def tensors(prefix="bert.", rows=9):
    """{Hugging Face's name: float32 array} of a BERT with `rows` word embeddings."""
    random = np.random.default_rng(0)
    shapes = checkpoint_io.variable_shapes(CONFIG | {"vocab_size": rows})
    return {prefix + formats.hugging_face_name(name): random.normal(
        size=shape[::-1] if name.endswith("/kernel") else shape).astype(np.float32)
        for name, shape in shapes.items()}


def write(folder, values=None, vocabulary=VOCABULARY, **config):
    """A Hugging Face folder; without weights where `values` is {}."""
    folder.mkdir(exist_ok=True)
    if values is None or values:
        save_file(tensors() if values is None else values, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    return str(folder)


def without_pooler(values):
    return {name: value for name, value in values.items() if "pooler" not in name}


def same(found, expected):
    return found.keys() == expected.keys() and all(
        (found[name] == expected[name]).all() for name in expected)


@pytest.fixture
def plain(tmp_path):
    """The weights of the tiny BERT under Google's names."""
    return formats.read_hugging_face(write(tmp_path / "plain")).weights


@pytest.mark.parametrize("heads", [
    ("classifier.weight", "classifier.bias"), ("qa_outputs.weight", "qa_outputs.bias"),
    ("cls.classifier.weight",), ("dropout.mask", "classifier.out_proj.weight")])
def test_heads_of_tasks_are_left_out_and_listed(tmp_path, plain, heads):
    more = {name: np.ones((2, 4), np.float32) for name in heads}
    folder = write(tmp_path / "source", tensors() | more)
    line = convert(folder, str(tmp_path / "google"))
    assert line.endswith("left out: " + ", ".join(sorted({h.partition(".")[0] for h in heads})))
    assert same(formats.read_google(str(tmp_path / "google")).weights, plain)


def test_a_model_without_pooler_gets_a_new_one_and_says_so(tmp_path, plain):
    for name in ("one", "other"):
        convert(write(tmp_path / f"source {name}", without_pooler(tensors())), str(tmp_path / name))
    one, other = (formats.read_google(str(tmp_path / name)).weights for name in ("one", "other"))
    assert same(one, other)   # so that packs made on one fit the other
    assert not one["bert/pooler/dense/bias"].any()
    assert 0 < np.abs(one["bert/pooler/dense/kernel"]).max() < 0.1
    for name in ("one", "other"):
        assert checkpoint_io.pooler_is_trained(str(tmp_path / name)) is False
    kept = without_pooler(one)
    assert same(kept, without_pooler(plain))


def test_half_a_pooler_is_refused(tmp_path):
    values = tensors()
    del values["bert.pooler.dense.bias"]
    with pytest.raises(InputError, match=r"pooler\.dense\.bias is missing"):
        convert(write(tmp_path / "source", values), str(tmp_path / "google"))


def test_an_untrained_pooler_is_known_by_its_bias_or_by_the_files_beside_it(tmp_path):
    zero = tensors() | {"bert.pooler.dense.bias": np.zeros(4, np.float32)}
    for name, values, file, trained in (
            ("trained", tensors(), "notes.md", True), ("zero", zero, "notes.md", False),
            ("sentences", tensors(), "modules.json", False)):
        folder = write(tmp_path / f"source {name}", values)
        (tmp_path / f"source {name}" / file).write_text("[]")
        convert(folder, str(tmp_path / name))
        assert checkpoint_io.pooler_is_trained(str(tmp_path / name)) is trained
        assert checkpoint_io.pooler_is_trained(str(tmp_path / name / "bert_model.ckpt")) is trained
    (tmp_path / "zero" / "base_info.json").unlink()   # as of a base that was not converted here
    assert checkpoint_io.pooler_is_trained(str(tmp_path / "zero")) is False
    (tmp_path / "trained" / "base_info.json").unlink()
    assert checkpoint_io.pooler_is_trained(str(tmp_path / "trained")) is True


def test_a_checkpoint_without_a_pooler_tells_nothing_of_it(tmp_path):
    checkpoint_io.write_checkpoint(
        str(tmp_path / "model.ckpt"), {"output_bias": np.zeros(2, np.float32)}
    )
    assert checkpoint_io.pooler_is_trained(str(tmp_path / "model.ckpt")) is None


def test_a_bias_of_the_masked_lm_that_only_its_copy_has(tmp_path):
    scope = "cls.predictions."
    head = {f"{scope}transform.dense.weight": (4, 4), f"{scope}transform.dense.bias": (4,),
            f"{scope}transform.LayerNorm.weight": (4,), f"{scope}transform.LayerNorm.bias": (4,),
            f"{scope}decoder.bias": (9,)}
    values = tensors() | {name: np.ones(shape, np.float32) for name, shape in head.items()}
    weights = formats.read_hugging_face(write(tmp_path / "source", values)).weights
    assert (weights["cls/predictions/output_bias"] == 1).all()


def test_shards_are_read_as_one(tmp_path, plain):
    values = tensors("")
    folder = write(tmp_path / "source", {})
    names = sorted(values)
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors"
              for number, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: values[name] for name in names if places[name] == file},
                  tmp_path / "source" / file)
    index = tmp_path / "source" / tensor_files.INDEX
    index.write_text(json.dumps({"weight_map": places}))
    assert same(formats.read_hugging_face(folder).weights, plain)
    index.write_text(json.dumps({"weight_map": places | {"more": places[names[0]]}}))
    with pytest.raises(InputError, match="lists more"):
        formats.read_hugging_face(folder)
    index.write_text(json.dumps({"weight_map": {"more": "../model.safetensors"}}))
    with pytest.raises(InputError, match="not a table of file names"):
        formats.read_hugging_face(folder)


class Storage:
    """A stand-in for torch's, which a pickle names and does not contain."""

    def __init__(self, key, value):
        self.key, self.value = key, value


class Pickler(pickle._Pickler):
    """Writes arrays as torch writes tensors."""

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            kind = {"float32": "Float", "int64": "Long"}[obj.value.dtype.name]
            return "storage", Global(f"torch {kind}Storage"), obj.key, "cpu", obj.value.size, None
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(b"c" + "\n".join([*str.split(obj), ""]).encode())
        elif isinstance(obj, np.ndarray):
            self.save(Global("torch._utils _rebuild_tensor_v2"))
            strides = tuple(stride // obj.itemsize for stride in obj.strides)
            self.save((Storage(str(id(obj)), obj), 0, obj.shape, strides, False, {}))
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


class Global(str):
    """The name of a class or function of torch."""


def legacy(values):
    """The bytes that torch before 1.6 wrote of {name: array}."""
    stream = io.BytesIO()
    for head in (0x1950a86a20f9469cfc6c, 1001, {"little_endian": True}):
        pickle.dump(head, stream, protocol=2)
    Pickler(stream, protocol=2).dump(values)
    pickle.dump([str(id(value)) for value in values.values()], stream, protocol=2)
    for value in values.values():
        stream.write(struct.pack("<q", value.size) + value.tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("write_pickle", [torch_file.to_bytes, legacy])
def test_a_pickle_of_torch_is_read_as_safetensors_are(tmp_path, plain, write_pickle):
    folder = write(tmp_path / "source", {})
    values = {name: np.ascontiguousarray(value) for name, value in tensors().items()}
    if write_pickle is legacy:
        values["bert.embeddings.position_ids"] = np.arange(5)[None]
    (tmp_path / "source" / "pytorch_model.bin").write_bytes(write_pickle(values))
    assert same(formats.read_hugging_face(folder).weights, plain)


def test_a_damaged_old_pickle_is_read_or_refused(tmp_path):
    content = legacy({"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 2), np.float32)})
    path = tmp_path / "file"
    random = np.random.default_rng(0)
    path.write_bytes(content)
    assert (torch_file.read(str(path))["a"] == np.arange(6)).all()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(InputError):
            torch_file.read(str(path))
    for _ in range(150):
        changed = bytearray(content)
        changed[random.integers(16, len(content))] ^= random.integers(1, 256)
        path.write_bytes(bytes(changed))
        try:
            torch_file.read(str(path))
        except InputError as error:
            assert "\n" not in str(error)


def test_more_rows_than_tokens_get_names_that_no_text_has(tmp_path):
    folder = write(tmp_path / "source", tensors(rows=12), vocab_size=12)
    bert = formats.read_hugging_face(folder)
    assert bert.vocabulary.decode().split() == [*VOCABULARY, *(
        f"[padding{number}]" for number in (9, 10, 11))]
    assert bert.weights["bert/embeddings/word_embeddings"].shape == (12, 4)


def test_added_tokens_take_their_rows(tmp_path):
    folder = write(tmp_path / "source", tensors(rows=12), vocab_size=12)
    (tmp_path / "source" / "added_tokens.json").write_text('{"covid": 10, "<ent>": 9, "a": 5}')
    bert = formats.read_hugging_face(folder)
    assert bert.vocabulary.decode().split() == [*VOCABULARY, "<ent>", "covid", "[padding11]"]
    assert bert.left_out == ("the added token <ent>",)
    (tmp_path / "source" / "added_tokens.json").write_text('{"covid": 12}')
    with pytest.raises(InputError, match="has 9 tokens, its config says vocab_size 12"):
        formats.read_hugging_face(folder)
    (tmp_path / "source" / "added_tokens.json").write_text('{"covid": "ten"}')
    with pytest.raises(InputError, match="not a table of tokens"):
        formats.read_hugging_face(folder)


@pytest.mark.parametrize("tokens, lower", [
    (["<S>", "<T>"], True), (["[unused1]", "[CLS2]"], True), (["Haus"], False), (["##S"], False),
    (["É"], True), (["<s", "S>"], False)])
def test_capitals_of_special_tokens_tell_nothing_of_the_casing(tmp_path, tokens, lower):
    vocabulary = [*VOCABULARY[:9 - len(tokens)], *tokens]
    folder = write(tmp_path / "source", vocabulary=vocabulary)
    assert formats.read_hugging_face(folder).do_lower_case is lower
