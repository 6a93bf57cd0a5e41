"""Conversion between the two forms of a BERT folder, and full checkpoints of runs."""
import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapter_bert import __main__
from adapter_bert.bert import checkpoint_io, formats
from adapter_bert.bert.conversion import convert
from adapter_bert.errors import InputError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b"]
CONFIG = {"model_type": "bert", "vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 2,
          "num_attention_heads": 2, "intermediate_size": 6, "hidden_act": "gelu",
          "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2,
          "max_position_embeddings": 5, "type_vocab_size": 2, "initializer_range": 0.02,
          "layer_norm_eps": 1e-12}


def _shapes(prefix="", heads=False):
    """Shapes of a Hugging Face BERT of CONFIG's sizes, written out without the code under test."""
    shapes = {"embeddings.word_embeddings.weight": (9, 4),
              "embeddings.position_embeddings.weight": (5, 4),
              "embeddings.token_type_embeddings.weight": (2, 4),
              "embeddings.LayerNorm.weight": (4,), "embeddings.LayerNorm.bias": (4,),
              "pooler.dense.weight": (4, 4), "pooler.dense.bias": (4,)}
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for dense, shape in (
                ("attention.self.query", (4, 4)), ("attention.self.key", (4, 4)),
                ("attention.self.value", (4, 4)), ("attention.output.dense", (4, 4)),
                ("intermediate.dense", (6, 4)), ("output.dense", (4, 6))):
            shapes[f"{layer}.{dense}.weight"] = shape
            shapes[f"{layer}.{dense}.bias"] = shape[:1]
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{norm}.weight": (4,), f"{layer}.{norm}.bias": (4,)}
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    if heads:
        transform = "cls.predictions.transform"
        shapes |= {f"{transform}.dense.weight": (4, 4), f"{transform}.dense.bias": (4,),
                   f"{transform}.LayerNorm.weight": (4,), f"{transform}.LayerNorm.bias": (4,),
                   "cls.predictions.bias": (9,),
                   "cls.seq_relationship.weight": (2, 4), "cls.seq_relationship.bias": (2,)}
    return shapes


def _tensors(prefix="", heads=False):
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32)
            for name, shape in _shapes(prefix, heads).items()}


def _hugging_face_folder(folder, tensors=None, config=CONFIG, vocabulary=VOCABULARY):
    folder.mkdir()
    save_file(_tensors() if tensors is None else tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    return str(folder)


def _assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name


@pytest.fixture
def source(tmp_path):
    return _hugging_face_folder(tmp_path / "hugging_face")


@pytest.fixture
def google(tmp_path, source):
    convert(source, str(tmp_path / "google"))
    return str(tmp_path / "google")


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_there_and_back_gives_every_bit(tmp_path, prefix, heads):
    source = _hugging_face_folder(tmp_path / "source", _tensors(prefix, heads))
    google, back = str(tmp_path / "google"), tmp_path / "back"
    convert(source, google)
    convert(google, str(back))
    _assert_same_bits(load_file(back / "model.safetensors"),
                      _tensors("bert." if heads else "", heads))
    assert (back / "vocab.txt").read_text().split() == VOCABULARY
    config = json.loads((back / "config.json").read_text())
    assert CONFIG.items() <= config.items()
    assert config["architectures"] == ["BertForPreTraining" if heads else "BertModel"]
    assert checkpoint_io.fingerprint(
        checkpoint_io.locate(google).init_checkpoint
    ) == checkpoint_io.fingerprint_of(formats.read_hugging_face(source).weights)


def test_names_and_axes_are_googles(google):
    tensors, checkpoint = (
        _tensors(),
        checkpoint_io.Checkpoint(checkpoint_io.locate(google).init_checkpoint),
    )
    assert checkpoint.shapes == checkpoint_io.variable_shapes(CONFIG)
    for name, expected in {
            "bert/encoder/layer_1/output/dense/kernel":
                tensors["encoder.layer.1.output.dense.weight"].T,
            "bert/encoder/layer_0/attention/self/query/kernel":
                tensors["encoder.layer.0.attention.self.query.weight"].T,
            "bert/embeddings/LayerNorm/gamma": tensors["embeddings.LayerNorm.weight"],
            "bert/embeddings/LayerNorm/beta": tensors["embeddings.LayerNorm.bias"],
            "bert/embeddings/position_embeddings": tensors["embeddings.position_embeddings.weight"],
    }.items():
        np.testing.assert_array_equal(checkpoint[name], expected)


def test_heads_of_pre_training_get_googles_names(tmp_path):
    tensors = _tensors("bert.", heads=True)
    convert(_hugging_face_folder(tmp_path / "source", tensors), str(tmp_path / "google"))
    checkpoint = checkpoint_io.Checkpoint(str(tmp_path / "google" / "bert_model.ckpt"))
    for name, expected in {
            "cls/predictions/transform/dense/kernel":
                tensors["cls.predictions.transform.dense.weight"].T,
            "cls/predictions/transform/LayerNorm/gamma":
                tensors["cls.predictions.transform.LayerNorm.weight"],
            "cls/predictions/output_bias": tensors["cls.predictions.bias"],
            "cls/seq_relationship/output_weights": tensors["cls.seq_relationship.weight"],
            "cls/seq_relationship/output_bias": tensors["cls.seq_relationship.bias"]}.items():
        np.testing.assert_array_equal(checkpoint[name], expected)


@pytest.mark.parametrize("hugging_face, google", [
    ("gelu", "gelu_erf"), ("gelu_new", "gelu"), ("gelu_pytorch_tanh", "gelu"), ("relu", "relu")])
def test_the_two_gelus_are_told_apart(tmp_path, hugging_face, google):
    folder = _hugging_face_folder(tmp_path / "source", config=CONFIG | {"hidden_act": hugging_face})
    convert(folder, str(tmp_path / "google"))
    convert(str(tmp_path / "google"), str(tmp_path / "back"))
    there = json.loads((tmp_path / "google" / "bert_config.json").read_text())
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert there["hidden_act"] == google
    assert back["hidden_act"] == hugging_face.replace("gelu_pytorch_tanh", "gelu_new")


def test_old_names_buffers_and_tied_copies_are_understood(tmp_path):
    tensors = _tensors("bert.", heads=True)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"): value for name, value in tensors.items()}
    old |= {"bert.embeddings.position_ids": np.arange(5)[None],
            "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
            "cls.predictions.decoder.bias": tensors["cls.predictions.bias"]}
    read = formats.read_hugging_face(_hugging_face_folder(tmp_path / "old", old)).weights
    new = formats.read_hugging_face(_hugging_face_folder(tmp_path / "new", tensors)).weights
    _assert_same_bits(read, new)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(tmp_path, dtype):
    half = {name: value.astype(dtype) for name, value in _tensors().items()}
    folder = _hugging_face_folder(tmp_path / "source", half)
    kernel = formats.read_hugging_face(folder).weights["bert/pooler/dense/kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, half["pooler.dense.weight"].astype(np.float32).T)


def _without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize("tensors, said", [
    (_without(_tensors(), "pooler.dense.bias"),
     r"do not fit \(1\): pooler\.dense\.bias is missing$"),
    (_tensors() | {"encoder.classifier.weight": np.ones((2, 4), np.float32)},
     r"encoder\.classifier\.weight is unknown$"),
    (_tensors() | {"encoder.layer.0.output.dense.weight": np.ones((6, 4), np.float32)},
     r"encoder\.layer\.0\.output\.dense\.weight has shape \[6, 4\], not \[4, 6\]$"),
    (_without(_tensors(heads=True), "cls.predictions.bias"), r"cls\.predictions\.bias is missing$"),
    (_tensors() | {"pooler.dense.bias": np.ones(4, np.int32)}, r"pooler\.dense\.bias is I32"),
    (_tensors() | {"bert.pooler.dense.bias": np.ones(4, np.float32)}, "two tensors for one"),
    (_tensors(heads=True) | {"cls.predictions.decoder.weight": np.ones((9, 4), np.float32)},
     r"decoder\.weight differs from embeddings\.word_embeddings\.weight"),
    ({"weight": np.ones(3, np.float32)}, r"do not fit \(38\): .* and 28 more$"),
])
def test_tensors_that_do_not_fit_are_named(tmp_path, tensors, said):
    folder = _hugging_face_folder(tmp_path / "source", tensors)
    with pytest.raises(InputError, match=said) as raised:
        convert(folder, str(tmp_path / "google"))
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("changed, said", [
    ({"model_type": "roberta"}, "model_type is 'roberta'"),
    ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ({"is_decoder": True}, "is_decoder is True"),
    ({"hidden_act": "silu"}, "hidden_act is 'silu'; known here: gelu, gelu_new"),
    ({"num_attention_heads": 3}, "hidden_size 4 is not a multiple of num_attention_heads 3"),
    ({"num_hidden_layers": 0}, "num_hidden_layers is 0, not a positive whole number"),
    ({"vocab_size": 8}, "word_embeddings.weight has shape"),
])
def test_a_config_of_another_model_is_refused(tmp_path, changed, said):
    folder = _hugging_face_folder(tmp_path / "source", config=CONFIG | changed)
    with pytest.raises(InputError, match=said):
        convert(folder, str(tmp_path / "google"))


def test_config_without_a_key_is_refused(tmp_path):
    folder = _hugging_face_folder(tmp_path / "source", config=_without(CONFIG, "hidden_size"))
    with pytest.raises(InputError, match=r"config\.json: lacks hidden_size"):
        convert(folder, str(tmp_path / "google"))


def test_a_longer_vocabulary_than_the_embeddings_is_refused(tmp_path):
    folder = _hugging_face_folder(tmp_path / "source", vocabulary=[*VOCABULARY, "c"])
    with pytest.raises(InputError, match="has 10 tokens, its config says vocab_size 9"):
        convert(folder, str(tmp_path / "google"))


def test_damaged_weights_are_refused(tmp_path, source):
    weights = tmp_path / "hugging_face" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged or no safetensors file"):
        convert(source, str(tmp_path / "google"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(InputError, match=r"pytorch_model\.bin: no \.zip as torch\.save"):
        convert(source, str(tmp_path / "google"))


def _tokenizer(kind="WordPiece", lowercase=True):
    return {"normalizer": {"type": "BertNormalizer", "lowercase": lowercase},
            "added_tokens": [{"content": "[CLS]", "id": 2}],
            "model": {"type": kind, "continuing_subword_prefix": "##",
                      "vocab": {token: VOCABULARY.index(token) for token in reversed(VOCABULARY)}}}


def test_vocabulary_comes_from_tokenizer_json_too(tmp_path, source):
    vocabulary = tmp_path / "hugging_face" / "vocab.txt"
    expected = vocabulary.read_bytes()
    vocabulary.unlink()
    tokenizer = tmp_path / "hugging_face" / "tokenizer.json"
    tokenizer.write_text(json.dumps(_tokenizer()))
    assert formats.read_hugging_face(source).vocabulary == expected
    tokenizer.write_text(json.dumps(_tokenizer("Unigram")))
    with pytest.raises(InputError, match=r"tokenizer\.json: a Unigram tokenizer"):
        formats.read_hugging_face(source)
    tokenizer.write_text(json.dumps(_tokenizer() | {"added_tokens": [{"content": "x", "id": 20}]}))
    with pytest.raises(InputError, match="its ids are not 0 to 9"):
        formats.read_hugging_face(source)


@pytest.mark.parametrize("settings, tokenizer, vocabulary, lower", [
    ({"do_lower_case": False}, _tokenizer(lowercase=True), VOCABULARY, False),
    (None, _tokenizer(lowercase=False), VOCABULARY, False),
    ({}, None, VOCABULARY, True),
    (None, None, [*VOCABULARY[:-1], "##B"], False)])
def test_casing_is_found_and_goes_along(tmp_path, settings, tokenizer, vocabulary, lower):
    folder = _hugging_face_folder(tmp_path / "source", vocabulary=vocabulary)
    for name, value in (("tokenizer_config", settings), ("tokenizer", tokenizer)):
        if value is not None:
            (tmp_path / "source" / f"{name}.json").write_text(json.dumps(value))
    convert(folder, str(tmp_path / "google"))
    convert(str(tmp_path / "google"), str(tmp_path / "back"))
    for name in ("google", "back"):
        written = json.loads((tmp_path / name / "tokenizer_config.json").read_text())
        assert written == {"do_lower_case": lower}


@pytest.mark.parametrize("settings", [{"do_lower_case": True, "strip_accents": False},
                                      {"tokenize_chinese_chars": False}])
def test_a_tokenizer_that_google_has_not_is_refused(tmp_path, source, settings):
    (tmp_path / "hugging_face" / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="|".join(settings)):
        convert(source, str(tmp_path / "google"))


def test_the_same_conversion_again_does_nothing(tmp_path, source, google):
    weights = tmp_path / "google" / "bert_model.ckpt.data-00000-of-00001"
    before = weights.stat().st_mtime_ns
    assert convert(source, google).endswith("nothing to do")
    assert weights.stat().st_mtime_ns == before


def test_a_result_that_changed_or_of_another_source_is_refused(tmp_path, source, google):
    other = _hugging_face_folder(tmp_path / "other", config=CONFIG | {"hidden_act": "relu"})
    with pytest.raises(InputError, match="was not made by this conversion"):
        convert(other, google)
    (tmp_path / "google" / "vocab.txt").write_text("changed")
    with pytest.raises(InputError, match=r"vocab\.txt changed since"):
        convert(source, google)


def test_a_folder_of_other_things_is_left_alone(tmp_path, source):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="was not made by this conversion"):
        convert(source, str(tmp_path))
    with pytest.raises(InputError, match="was not made by this conversion"):
        convert(source, str(tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_conversion_leaves_nothing(tmp_path, source, monkeypatch):
    def interrupt(prefix, variables):
        with open(f"{prefix}.data-00000-of-00001", "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt
    monkeypatch.setattr(checkpoint_io, "write_checkpoint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(source, str(tmp_path / "google"))
    assert [path.name for path in tmp_path.iterdir()] == ["hugging_face"]
    monkeypatch.undo()
    convert(source, str(tmp_path / "google"))
    assert checkpoint_io.locate(str(tmp_path / "google"))


def test_a_folder_of_both_forms_or_of_none_needs_a_word(tmp_path, source):
    with pytest.raises(InputError, match="neither a folder nor the prefix of a checkpoint"):
        convert(str(tmp_path / "nothing"), str(tmp_path / "google"))
    with pytest.raises(InputError, match="no BERT folder.*hugging_face"):
        convert(str(tmp_path), str(tmp_path / "google"))
    (tmp_path / "hugging_face" / "bert_config.json").write_text("{}")
    with pytest.raises(InputError, match="choose with --to=google or --to=huggingface"):
        convert(source, str(tmp_path / "google"))
    assert "2 layers" in convert(source, str(tmp_path / "google"), to="google")


def _change_checkpoint(folder, change):
    prefix = checkpoint_io.locate(folder).init_checkpoint
    checkpoint_io.write_checkpoint(prefix, change(dict(checkpoint_io.Checkpoint(prefix))))


def test_googles_training_state_is_dropped_and_adapters_are_refused(tmp_path, google):
    _change_checkpoint(google, lambda weights: weights | {
        "global_step": np.int64(3), "bert/pooler/dense/bias/adam_v": np.ones(4, np.float32)})
    convert(google, str(tmp_path / "back"))
    _assert_same_bits(load_file(tmp_path / "back" / "model.safetensors"), _tensors())
    adapter = "bert/encoder/layer_0/output/adapters/biases1"
    _change_checkpoint(google, lambda weights: weights | {adapter: np.ones((1, 2), np.float32)})
    with pytest.raises(InputError, match=f"{adapter} is unknown"):
        convert(google, str(tmp_path / "again"))


GAMMA = "bert/embeddings/LayerNorm/gamma"
ADAPTER = "bert/encoder/layer_0/output/adapters/biases1"


def _run(folder, base_prefix, **changed):
    """A checkpoint as an adapter run leaves it, with run.json beside; its prefix."""
    folder.mkdir()
    digits = checkpoint_io.fingerprint(base_prefix)
    (folder / "run.json").write_text(json.dumps(
        {"flags": {}, "labels": [], "train_data": "",
         "base": {"init_checkpoint": base_prefix, "fingerprint": digits}}))
    variables = {GAMMA: np.full(4, 2, np.float32), ADAPTER: np.full((1, 2), 3, np.float32),
                 "output_bias": np.full(2, 4, np.float32), "global_step": np.int64(573)}
    slots = {f"{name}/{slot}": np.zeros_like(value) for name, value in variables.items()
             for slot in ("adam_m", "adam_v")}
    prefix = str(folder / "model.ckpt-573")
    checkpoint_io.write_checkpoint(prefix, variables | slots | {
        checkpoint_io.FINGERPRINT_VARIABLE: checkpoint_io.fingerprint_as_int64(digits)} | changed)
    return prefix


@pytest.mark.parametrize("named_by", ["run.json", "folder", "prefix"])
def test_a_full_checkpoint_has_the_base_and_what_was_trained(tmp_path, google, named_by):
    _change_checkpoint(google, lambda weights: weights | {
        "global_step": np.int64(3), f"{GAMMA}/adam_m": np.ones(4, np.float32)})
    base_prefix = checkpoint_io.locate(google).init_checkpoint
    run = _run(tmp_path / "run", base_prefix)
    full = str(tmp_path / "full" / "bert_model.ckpt")
    base_path = {"run.json": None, "folder": google, "prefix": base_prefix}[named_by]
    convert(run, full, to="full", base_path=base_path)
    expected = _without(dict(checkpoint_io.Checkpoint(base_prefix)), f"{GAMMA}/adam_m") | {
        GAMMA: np.full(4, 2, np.float32), ADAPTER: np.full((1, 2), 3, np.float32),
        "output_bias": np.full(2, 4, np.float32), "global_step": np.array(573)}
    _assert_same_bits(dict(checkpoint_io.Checkpoint(full)), expected)
    assert convert(run, full, base_path=base_path).endswith("nothing to do")


def test_a_best_checkpoint_finds_run_json_above_it(tmp_path, google):
    run = _run(tmp_path / "run", checkpoint_io.locate(google).init_checkpoint)
    best = tmp_path / "run" / "best" / "model.ckpt-573"
    best.parent.mkdir()
    checkpoint_io.write_checkpoint(str(best), dict(checkpoint_io.Checkpoint(run)))
    assert convert(str(best), str(tmp_path / "full.ckpt")).startswith(str(tmp_path / "full.ckpt"))


def test_a_full_checkpoint_replaces_no_other(tmp_path, google):
    run = _run(tmp_path / "run", checkpoint_io.locate(google).init_checkpoint)
    before = dict(checkpoint_io.Checkpoint(run))
    with pytest.raises(InputError, match="a checkpoint of this name exists"):
        convert(run, run)
    _assert_same_bits(dict(checkpoint_io.Checkpoint(run)), before)


def test_another_base_is_refused_with_both_fingerprints(tmp_path, google):
    prefix = checkpoint_io.locate(google).init_checkpoint
    run, first = _run(tmp_path / "run", prefix), checkpoint_io.fingerprint(prefix)
    _change_checkpoint(google, lambda weights: weights | {GAMMA: weights[GAMMA] + 1})
    with pytest.raises(InputError) as raised:
        convert(run, str(tmp_path / "full.ckpt"))
    assert first in str(raised.value) and checkpoint_io.fingerprint(prefix) in str(raised.value)
    assert not list(tmp_path.glob("full*"))


def test_a_base_that_cannot_be_found_is_asked_for(tmp_path, google):
    run = _run(tmp_path / "run", checkpoint_io.locate(google).init_checkpoint)
    (tmp_path / "google").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"its base is not at .*google.*; name.*--base"):
        convert(run, str(tmp_path / "full.ckpt"))
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(InputError, match=r"is named by no run\.json beside it.*--base"):
        convert(run, str(tmp_path / "full.ckpt"))
    convert(run, str(tmp_path / "full.ckpt"), base_path=str(tmp_path / "moved"))


def test_full_needs_a_run_and_base_needs_full(tmp_path, google):
    with pytest.raises(InputError, match="holds no base_fingerprint"):
        convert(checkpoint_io.locate(google).init_checkpoint, str(tmp_path / "full.ckpt"))
    with pytest.raises(InputError, match="--base belongs to --to=full"):
        convert(google, str(tmp_path / "back"), base_path=google)


def test_the_command_prints_one_line_and_exits(tmp_path, source, capsys):
    __main__.main(["convert", source, str(tmp_path / "google")])
    assert capsys.readouterr().out.count("\n") == 1
    with pytest.raises(SystemExit) as left:
        __main__.main(["convert", str(tmp_path / "nothing"), str(tmp_path / "other")])
    assert left.value.code == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'nothing'}: neither a folder nor the prefix of a checkpoint\n")


def test_help_answers_without_tensorflow():
    code = ("import sys\nfrom adapter_bert.__main__ import main\n"
            "try:\n    main(['convert', '--help'])\n"
            "except SystemExit:\n    sys.exit('tensorflow' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--to" in done.stdout and "--base" in done.stdout
