"""The BERT folder, the encoder's variables, and the fingerprint."""
import hashlib
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from adapter_bert.bert import checkpoint_io, conversion
from adapter_bert.errors import InputError
from adapter_bert.export import savedmodel

TINY = {"vocab_size": 11, "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 6, "max_position_embeddings": 5, "type_vocab_size": 2}
NOT_OF_THE_BASE = {
    "bert/encoder/layer_0/output/adapters/weights1": np.ones((4, 2), np.float32),
    "bert/pooler/dense/kernel/adam_m": np.ones((4, 4), np.float32),
    "cls/predictions/output_bias": np.ones(11, np.float32),
    "output_weights": np.ones((2, 4), np.float32),
    "global_step": np.int64(7)}


@pytest.fixture
def weights():
    """A BERT of TINY's sizes with random values."""
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32)
            for name, shape in checkpoint_io.variable_shapes(TINY).items()}


def _bert_folder(folder, weights):
    folder.mkdir()
    (folder / "vocab.txt").write_text("[PAD]\n")
    (folder / "bert_config.json").write_text("{}")
    checkpoint_io.write_checkpoint(str(folder / "bert_model.ckpt"), weights)
    return folder


def test_bert_base_has_its_109_million_parameters():
    shapes = checkpoint_io.variable_shapes({
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2})
    assert len(shapes) == 199
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 109_482_240
    assert shapes["bert/encoder/layer_11/intermediate/dense/kernel"] == (768, 3072)
    assert shapes["bert/encoder/layer_11/output/dense/kernel"] == (3072, 768)


def test_locate_gives_the_three_paths(tmp_path, weights):
    folder = _bert_folder(tmp_path / "bert", weights)
    found = checkpoint_io.locate(str(folder))
    assert found == checkpoint_io.BertFiles(*(str(folder / name) for name in (
        "vocab.txt", "bert_config.json", "bert_model.ckpt")))


def test_locate_names_what_is_missing_and_what_is_there(tmp_path, weights):
    folder = _bert_folder(tmp_path / "bert", weights)
    (folder / "vocab.txt").unlink()
    (folder / "bert_model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(InputError) as raised:
        checkpoint_io.locate(str(folder))
    message = str(raised.value)
    assert "lacks vocab.txt, bert_model.ckpt.data-*" in message
    assert "it holds bert_config.json, bert_model.ckpt.index" in message


@pytest.mark.parametrize("make, said", [(lambda path: None, "no such folder"),
                                        (lambda path: path.touch(), "a file, not a folder"),
                                        (lambda path: path.mkdir(), "it holds nothing")])
def test_locate_refuses_what_is_no_bert_folder(tmp_path, make, said):
    make(tmp_path / "bert")
    with pytest.raises(InputError, match=said):
        checkpoint_io.locate(str(tmp_path / "bert"))


def test_checkpoint_reads_what_was_written(tmp_path, weights):
    prefix = str(tmp_path / "model.ckpt")
    written = weights | {"global_step": np.int64(7)}
    checkpoint_io.write_checkpoint(prefix, written)
    checkpoint = checkpoint_io.Checkpoint(prefix)
    assert list(checkpoint) == sorted(written)
    for name, value in written.items():
        assert checkpoint[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint[name], value)
        assert checkpoint.shapes[name] == value.shape
    with pytest.raises(KeyError):
        checkpoint["bert/pooler"]


@pytest.mark.parametrize("suffix", ["data-00000-of-00001", "index"])
def test_a_truncated_checkpoint_is_named(tmp_path, weights, suffix):
    prefix = tmp_path / "model.ckpt"
    checkpoint_io.write_checkpoint(str(prefix), weights)
    file = tmp_path / f"model.ckpt.{suffix}"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match=r"model\.ckpt: a damaged or incomplete checkpoint"):
        checkpoint_io.fingerprint(str(prefix))


def test_a_missing_checkpoint_is_named(tmp_path):
    for prefix in (tmp_path / "model.ckpt", tmp_path):
        with pytest.raises(InputError, match="no checkpoint there"):
            checkpoint_io.Checkpoint(str(prefix))


def test_fingerprint_is_the_sha256_that_its_docstring_tells():
    weights = {"bert/pooler/dense/kernel": np.array([[1, 2], [3, 4]], np.float32),
               "bert/pooler/dense/bias": np.array([5, 6], np.float32)}
    told = (b"bert/pooler/dense/bias 2\n" + np.array([5, 6], "<f4").tobytes()
            + b"bert/pooler/dense/kernel 2x2\n" + np.array([1, 2, 3, 4], "<f4").tobytes())
    assert checkpoint_io.fingerprint_of(weights) == hashlib.sha256(told).hexdigest()


def test_fingerprint_is_of_the_encoder_alone(tmp_path, weights):
    alone, among_others = str(tmp_path / "alone"), str(tmp_path / "among_others")
    checkpoint_io.write_checkpoint(alone, weights)
    checkpoint_io.write_checkpoint(among_others, NOT_OF_THE_BASE | dict(reversed(weights.items())))
    assert checkpoint_io.fingerprint(alone) == checkpoint_io.fingerprint(among_others)
    assert checkpoint_io.fingerprint(alone) == checkpoint_io.fingerprint_of(weights)


def test_fingerprint_changes_with_any_value_of_any_encoder_variable(weights):
    unchanged = checkpoint_io.fingerprint_of(weights)
    for name, value in weights.items():
        changed = value.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
        assert checkpoint_io.fingerprint_of(weights | {name: changed}) != unchanged, name


def test_fingerprint_changes_with_shape_and_with_name():
    value = np.arange(6, dtype=np.float32)
    prints = {
        checkpoint_io.fingerprint_of({f"bert/encoder/layer_{layer}/output/dense/kernel": reshaped})
        for layer in (0, 1)
        for reshaped in (value.reshape(2, 3), value.reshape(3, 2))
    }
    assert len(prints) == 4


def test_fingerprint_sees_values_not_memory_layout(weights):
    half = {name: value.astype(np.float16) for name, value in weights.items()}
    widened = {name: np.asfortranarray(value.astype(np.float32)) for name, value in half.items()}
    assert checkpoint_io.fingerprint_of(half) == checkpoint_io.fingerprint_of(widened)


def test_what_holds_no_encoder_has_no_fingerprint(tmp_path):
    checkpoint_io.write_checkpoint(str(tmp_path / "model.ckpt"), NOT_OF_THE_BASE)
    with pytest.raises(InputError, match=r"model\.ckpt: holds no BERT encoder.*output_weights"):
        checkpoint_io.fingerprint(str(tmp_path / "model.ckpt"))


@pytest.mark.parametrize("name", ["[a]", "a*", "a?", "a\\b"])
def test_paths_that_tensorflow_reads_as_patterns(tiny_dir, tmp_path, name):
    """Every command that reads a base, or writes one or a model, says what is wrong."""
    folder = str(tmp_path / name)
    shutil.copytree(tiny_dir, f"{folder}/bert")
    for function in (
        lambda: checkpoint_io.fingerprint(checkpoint_io.locate(f"{folder}/bert").init_checkpoint),
        lambda: checkpoint_io.write_checkpoint(f"{folder}/model.ckpt", {}),
        lambda: conversion.convert(f"{folder}/bert", f"{tmp_path}/[b]", "google"),
        lambda: savedmodel.export(tiny_dir, [], f"{folder}/model"),
    ):
        with pytest.raises(InputError, match=r"TensorFlow reads \* \? \[ \\ in paths"):
            function()
    assert sorted(os.listdir(tmp_path)) == [name] and os.listdir(folder) == ["bert"]


@pytest.mark.parametrize("folder,words", [
    ("gs://bucket/x", "cannot be read"), ("nowhere://x", "cannot be read"),
    ("ram://no/such", "no such folder")])
def test_a_base_that_cannot_be_reached_is_one_line(monkeypatch, folder, words):
    def fails(*_):
        raise tf.errors.FailedPreconditionError(None, None, "Error executing\n\t an HTTP request")
    if folder.startswith("gs"):   # without a word to the network
        for name in ("isdir", "exists"):
            monkeypatch.setattr(tf.io.gfile, name, fails)
    with pytest.raises(InputError, match=words) as error:
        checkpoint_io.locate(folder)
    assert folder in str(error.value) and "\n" not in str(error.value)


def test_fingerprint_goes_through_int64_and_back():
    digits = hashlib.sha256(b"a base").hexdigest()
    words = checkpoint_io.fingerprint_as_int64(digits)
    assert words.dtype == np.int64 and words.shape == (4,)
    assert [word % 2**64 for word in words.tolist()] == [
        int(digits[start:start + 16], 16) for start in range(0, 64, 16)]
    assert checkpoint_io.fingerprint_from_int64(words) == digits
