"""The two forms of a BERT folder, read into memory and written.

    Hugging Face                                   Google
    config.json                                    bert_config.json
    vocab.txt, or tokenizer.json                   vocab.txt
    added_tokens.json                              vocab.txt
    tokenizer_config.json                          tokenizer_config.json, for do_lower_case
    model.safetensors, or see tensor_files         bert_model.ckpt.*
      encoder.layer.3.output.dense.weight [D, F]     bert/encoder/layer_3/output/dense/kernel [F, D]
      embeddings.LayerNorm.weight [D]                bert/embeddings/LayerNorm/gamma [D]

Numbers are carried over bit by bit; half precision is widened to float32. What Google's form has no
place for is left out, and listed: heads of tasks, and added tokens that a text cannot contain as
one word. A model without a pooler gets a new one, and base_info.json beside the checkpoint says so.

Whether texts are lower-cased is what the tokenizer's settings say. Without settings, it is whether
the vocabulary lacks capital letters A to Z; special tokens such as [CLS], or <S> and <T> of
Google's Chinese BERT, do not count.
Letters of the shapes: D hidden, F feed-forward, V vocabulary.
"""
import dataclasses
import os
import re
import shutil

import numpy as np
from safetensors.numpy import save_file

from adapter_bert import files
from adapter_bert.bert import checkpoint_io, modeling, tensor_files
from adapter_bert.errors import InputError
from adapter_bert.kinds.heads import masked_lm

_ENCODER = re.compile(r"(embeddings|encoder|pooler)\.")
_KEYS = tuple(sorted(field.name for field in dataclasses.fields(modeling.BertConfig)))
# What Google's BERT always is, and a Hugging Face config may say otherwise.
_FIXED = {"model_type": "bert", "position_embedding_type": "absolute", "layer_norm_eps": 1e-12,
          "is_decoder": False, "add_cross_attention": False}
# Hugging Face's "gelu" is x * Phi(x) by erf; Google's "gelu" is the tanh form.
ACTIVATION_TO_GOOGLE = {"gelu": "gelu_erf", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu",
                         "relu": "relu", "tanh": "tanh", "linear": "linear"}
_ACTIVATION_TO_HUGGING_FACE = {"gelu_erf": "gelu", "gelu": "gelu_new", "relu": "relu",
                               "tanh": "tanh", "linear": "linear"}
LEAF_TO_HUGGING_FACE = {"kernel": "weight", "gamma": "weight", "beta": "bias",
                         "output_weights": "weight", "output_bias": "bias"}
_CAPITALS = re.compile(rb"^(?!\[.*\]$|<.*>$).*[A-Z]", re.MULTILINE)
# Files beside a model that sentence-transformers wrote: it takes the mean of the tokens, and leaves
# the pooler as it was, which is untrained in most of them.
_SENTENCE_ENCODER = ("modules.json", "sentence_bert_config.json", "1_Pooling")
# Copies in a Hugging Face file -> the tensor that they must equal.
_TIED = {"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
         "cls.predictions.decoder.bias": "cls.predictions.bias"}


@dataclasses.dataclass(frozen=True)
class Bert:
    """A BERT in memory, whichever form it came from.

    Attributes:
      config: dict with the keys of a bert_config.json.
      vocabulary: bytes of a vocab.txt.
      do_lower_case: whether its texts are put in lower case.
      weights: {Google's variable name: float32 array}.
      pooler_trained: whether its pooler was ever trained; None where nothing tells.
      left_out: names of what the files hold and Google's form has no place for.
    """
    config: dict
    vocabulary: bytes
    do_lower_case: bool
    weights: dict
    pooler_trained: bool | None = None
    left_out: tuple[str, ...] = ()


def read_hugging_face(folder):
    """The BERT of a Hugging Face folder.

    Args:
      folder: path with config.json, vocab.txt or tokenizer.json, and weights as in
        tensor_files. Tensor names may begin with `bert.`; the heads of pre-training come along
        where they are there.

    Returns:
      Bert.

    Raises:
      InputError: a file is missing or damaged, the model is no plain BERT, or names or shapes of
        its tensors do not fit its config.
    """
    held = checkpoint_io.list_folder(folder)
    path = os.path.join(folder, "config.json")
    config = _config_from_hugging_face(files.read_object(path), path)
    weights, left_out = _read_weights(folder, config)
    vocabulary, unmatched = _whole_vocabulary(folder, held, config)
    has_pooler = _POOLER[0] in weights
    if not has_pooler:
        weights |= _new_pooler(config)
    trained = has_pooler and checkpoint_io.has_trained_pooler(weights) and set(
        _SENTENCE_ENCODER).isdisjoint(name.rstrip("/") for name in held)
    return Bert(config, vocabulary, _do_lower_case(folder, held, vocabulary), weights, trained,
                (*left_out, *unmatched))


def write_hugging_face(bert, folder):
    """Writes `bert` into `folder` in Hugging Face's form, named as `transformers` names its class.

    Tensor names begin with `bert.` where a head of pre-training stands beside the encoder.
    """
    heads = [name for name in bert.weights if name.startswith("cls/")]
    config, weights = (os.path.join(folder, name) for name in ("config.json", "model.safetensors"))
    files.write_json(config, {
        "architectures": [_architecture(heads)], **_FIXED,
        **{key: bert.config[key] for key in _KEYS},
        "hidden_act": _ACTIVATION_TO_HUGGING_FACE[bert.config["hidden_act"]]})
    _write_safetensors(bert.weights, weights, prefix="bert." if heads else "")
    shutil.copymode(config, weights)  # save_file lets nobody but the owner read
    _write_tokenizer(bert, folder)


def read_google(folder):
    """The BERT of a folder in Google's form; optimizer slots and the step are left out.

    Raises:
      InputError: a file is missing or damaged, or names or shapes of the checkpoint's variables do
        not fit bert_config.json.
    """
    paths = checkpoint_io.locate(folder)
    config = files.read_object(paths.bert_config_file)
    _check_config(config, paths.bert_config_file, _ACTIVATION_TO_HUGGING_FACE)
    checkpoint = checkpoint_io.Checkpoint(paths.init_checkpoint)
    shapes = {name: checkpoint.shapes[name] for name in without_training_state(checkpoint)}
    expected = _shapes_with_heads(config, shapes.__contains__)
    _check_shapes(checkpoint.prefix, shapes, expected)
    vocabulary = _read_bytes(paths.vocab_file)
    _check_vocabulary(folder, vocabulary, config)
    return Bert(config, vocabulary,
                _do_lower_case(folder, checkpoint_io.list_folder(folder), vocabulary),
                {name: checkpoint[name].astype(np.float32, copy=False) for name in expected})


def write_google(bert, folder):
    """Writes `bert` into `folder` in Google's form, with base_info.json beside it."""
    files.write_json(os.path.join(folder, checkpoint_io.INFO_FILE), {
        "pooler_trained": bert.pooler_trained, "left_out": list(bert.left_out)})
    files.write_json(os.path.join(folder, checkpoint_io.CONFIG_FILE), bert.config)
    checkpoint_io.write_checkpoint(os.path.join(folder, checkpoint_io.CHECKPOINT), bert.weights)
    _write_tokenizer(bert, folder)


def _write_tokenizer(bert, folder):
    with open(os.path.join(folder, checkpoint_io.VOCAB_FILE), "wb") as file:
        file.write(bert.vocabulary)
    files.write_json(os.path.join(folder, "tokenizer_config.json"),
                     {"do_lower_case": bert.do_lower_case})


def hugging_face_name(name):
    """Hugging Face's name, without its optional prefix `bert.`, of Google's variable `name`.

    bert/encoder/layer_3/output/dense/kernel -> encoder.layer.3.output.dense.weight
    """
    *scopes, leaf = re.sub(r"/layer_(\d+)/", r"/layer/\1/", name).removeprefix("bert/").split("/")
    if leaf.endswith("_embeddings"):
        return ".".join([*scopes, leaf, "weight"])
    return ".".join([*scopes, LEAF_TO_HUGGING_FACE.get(leaf, leaf)])


def without_training_state(variables):
    """The names of `variables` without those of the training."""
    return [name for name in variables if not checkpoint_io.is_training_state(name)]


def _config_from_hugging_face(config, path):
    for key, fixed in _FIXED.items():
        if config.get(key, fixed) != fixed:
            raise InputError(f"{path}: {key} is {config[key]!r}; a BERT of Google's form always "
                             f"has {fixed!r}, so this model cannot be converted")
    _check_config(config, path, ACTIVATION_TO_GOOGLE)
    return {key: config[key] for key in _KEYS} | {
        "hidden_act": ACTIVATION_TO_GOOGLE[config["hidden_act"]]}


def _check_config(config, path, activations):
    """InputError where a key is missing, a value cannot be, or the activation is not known."""
    missing = [key for key in _KEYS if key not in config]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; give the config of a BERT")
    if config["hidden_act"] not in list(activations):
        raise InputError(f"{path}: hidden_act is {config['hidden_act']!r}; "
                         f"known here: {', '.join(activations)}")
    try:
        modeling.BertConfig(**{key: config[key] for key in _KEYS if key != "hidden_act"})
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _shapes_with_heads(config, is_there):
    """Shapes of the encoder and of each pre-training head of which a variable is there."""
    shapes = checkpoint_io.variable_shapes(config)
    of_heads = masked_lm.shapes(config["hidden_size"], config["vocab_size"])
    for scope in (masked_lm.WORDS, masked_lm.NEXT):
        head = {name: shape for name, shape in of_heads.items() if name.startswith(f"{scope}/")}
        if any(map(is_there, head)):
            shapes |= head
    return shapes


def _check_shapes(where, found, expected):
    """Raises with the names that do not fit, unless `found` is `expected`."""
    misfits = [f"{name} is missing" for name in expected if name not in found]
    misfits += [f"{name} has shape {list(shape)}, not {list(expected[name])}"
                for name, shape in found.items() if shape != expected.get(name, shape)]
    misfits += [f"{name} is unknown" for name in found if name not in expected]
    if misfits:
        raise InputError(f"{where}: not the BERT that its config describes; names that do not fit "
                         f"({len(misfits)}): {checkpoint_io.some_of(misfits)}")


_POOLER = ("bert/pooler/dense/kernel", "bert/pooler/dense/bias")


def _read_weights(folder, config):
    """{Google's name: float32 array} of a folder, checked name by name, and the heads left out.

    A pooler is in the result where it is in the folder.
    """
    with tensor_files.opened(folder) as (path, tensors):
        plain = _plain_names(path, tensors)
        expected = _shapes_with_heads(config, lambda name: hugging_face_name(name) in plain)
        wanted = {hugging_face_name(name): _swapped(name, shape)
                  for name, shape in expected.items()}
        if not {hugging_face_name(name) for name in _POOLER} & plain.keys():
            for name in _POOLER:
                del expected[name], wanted[hugging_face_name(name)]
        heads = [name for name in plain if name not in wanted and not _ENCODER.match(name)]
        if any(_ENCODER.match(name) for name in plain):
            plain = {name: tensor for name, tensor in plain.items() if name not in heads}
        _check_shapes(path, {name: tensor.shape for name, tensor in plain.items()}, wanted)
        return {name: _read_tensor(path, plain[hugging_face_name(name)], name)
                for name in expected}, sorted({name.partition(".")[0] for name in heads})


def _new_pooler(config):
    """First values of a pooler, as BERT's: normal weights and no bias; always the same."""
    hidden, random = config["hidden_size"], np.random.default_rng(0)
    kernel = random.normal(0.0, config["initializer_range"], (hidden, hidden))
    return {_POOLER[0]: kernel.astype(np.float32), _POOLER[1]: np.zeros(hidden, np.float32)}


def _write_safetensors(weights, path, prefix):
    tensors = {}
    for name, value in weights.items():
        scope = prefix if name.startswith("bert/") else ""
        axes = _swapped(name, range(value.ndim))
        tensors[scope + hugging_face_name(name)] = np.ascontiguousarray(value.transpose(axes))
    save_file(tensors, path, metadata={"format": "pt"})


def _plain_names(path, tensors):
    """{name as `hugging_face_name` spells it: Tensor}, without copies and buffers."""
    plain = {}
    for key, tensor in tensors.items():
        *scopes, leaf = key.removeprefix("bert.").split(".")
        name = ".".join([*scopes, LEAF_TO_HUGGING_FACE.get(leaf, leaf)])  # old files say gamma
        if plain.setdefault(name, tensor) is not tensor:
            raise InputError(
                f"{path}: {key} and {plain[name].key} are two tensors for one variable")
    for buffer in ("embeddings.position_ids", "embeddings.token_type_ids"):
        plain.pop(buffer, None)
    for copy, owner in _TIED.items():
        if copy in plain and owner in plain:
            _check_tied(path, plain.pop(copy), plain[owner])
        elif copy in plain:
            plain[owner] = plain.pop(copy)   # the one of the two that was written
    return plain


def _check_tied(path, copy, owner):
    if copy.read().tobytes() != owner.read().tobytes():
        raise InputError(f"{path}: {copy.key} differs from {owner.key}; BERT ties the two, so this "
                         "model cannot be converted")


def _read_tensor(path, tensor, name):
    if tensor.dtype not in ("F32", "F16", "BF16"):
        raise InputError(f"{path}: {tensor.key} is {tensor.dtype}; weights of F32, F16 or BF16 are "
                         "expected")
    value = tensor.read().astype(np.float32, copy=False)
    return value.transpose(_swapped(name, range(value.ndim)))


def _swapped(name, shape):
    """`shape` as the other form has it: the two axes of a kernel trade places."""
    return shape[::-1] if name.endswith("/kernel") else shape


def _architecture(heads):
    """The class of `transformers` that has exactly these variables beside the encoder."""
    has_masked_lm = "cls/predictions/output_bias" in heads
    has_next_sentence = "cls/seq_relationship/output_bias" in heads
    return {(False, False): "BertModel", (True, False): "BertForMaskedLM",
            (False, True): "BertForNextSentencePrediction",
            (True, True): "BertForPreTraining"}[has_masked_lm, has_next_sentence]


def _read_vocabulary(folder, held):
    for name, read in ((checkpoint_io.VOCAB_FILE, _read_bytes),
                       ("tokenizer.json", _vocabulary_of_tokenizer)):
        if name in held:
            return read(os.path.join(folder, name))
    raise InputError(f"{folder}: holds neither {checkpoint_io.VOCAB_FILE} nor tokenizer.json; "
                     "add the model's vocabulary")


def _whole_vocabulary(folder, held, config):
    """The bytes of a vocab.txt with a line for each row of the word embeddings.

    Rows beyond the vocabulary pad the table to a round size; they get names that no text contains.

    Returns:
      The bytes, and the added tokens that no text can contain as one word.
    """
    vocabulary = _read_vocabulary(folder, held)
    tokens, added = vocabulary.splitlines(), _added_tokens(folder, held)
    rows = config["vocab_size"]
    new = {number: token for token, number in added.items() if number >= len(tokens)}
    if len(tokens) >= rows or any(number >= rows for number in new):
        _check_vocabulary(folder, vocabulary, config)
        return vocabulary, []
    rest = [new.get(number, f"[padding{number}]") for number in range(len(tokens), rows)]
    whole = b"".join(token + b"\n" for token in tokens) + "".join(
        f"{token}\n" for token in rest).encode()
    return whole, [f"the added token {token}" for _, token in sorted(new.items())
                   if not re.fullmatch(r"\w+", token)]


def _added_tokens(folder, held):
    """{token: id} of added_tokens.json; {} where there is none."""
    if "added_tokens.json" not in held:
        return {}
    path = os.path.join(folder, "added_tokens.json")
    added = files.read_object(path)
    if not all(type(number) is int and number >= 0 and token == "".join(token.split())
               for token, number in added.items()):
        raise InputError(f"{path}: not a table of tokens and their ids; give the model's own")
    return added


def _read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def _vocabulary_of_tokenizer(path):
    """The bytes of a vocab.txt with the tokens of a WordPiece tokenizer.json, by their ids."""
    tokenizer = files.read_object(path, "model")
    model, added = tokenizer["model"], tokenizer.get("added_tokens") or []
    try:
        if model["type"] != "WordPiece" or model["continuing_subword_prefix"] != "##":
            raise InputError(f"{path}: a {model['type']} tokenizer; BERT's is WordPiece with ##")
        ids = model["vocab"] | {token["content"]: token["id"] for token in added}
        tokens = sorted(ids, key=ids.get)
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not what a WordPiece tokenizer's file holds; "
                         "give the model's own") from error
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise InputError(f"{path}: its ids are not 0 to {len(tokens) - 1}, one a token")
    return "".join(f"{token}\n" for token in tokens).encode()


def _check_vocabulary(folder, vocabulary, config):
    count = len(vocabulary.splitlines())
    if count != config["vocab_size"]:
        raise InputError(f"{folder}: its vocabulary has {count} tokens, its config says vocab_size "
                         f"{config['vocab_size']}; give the two of one model")


def _do_lower_case(folder, held, vocabulary):
    """What the tokenizer's settings say or, without them, whether the vocabulary has capitals."""
    settings = {}
    for name, read in (("tokenizer.json", _normalizer_settings),
                       ("tokenizer_config.json", files.read_object)):
        if name in held:
            settings |= read(os.path.join(folder, name))
    lower = settings.get("do_lower_case")
    if lower not in (None, False, True):
        raise InputError(f"{folder}: its tokenizer's do_lower_case is {lower!r}, "
                         "not true or false")
    if lower is None:
        lower = not _CAPITALS.search(vocabulary)
    if settings.get("strip_accents") not in (None, lower):
        raise InputError(f"{folder}: its tokenizer has do_lower_case={lower} but strip_accents="
                         f"{settings['strip_accents']}; Google's form always has the two equal")
    if not settings.get("tokenize_chinese_chars", True):
        raise InputError(f"{folder}: its tokenizer has tokenize_chinese_chars=False, and Google's "
                         "form always parts Chinese characters")
    return lower


def _normalizer_settings(path):
    """A BertNormalizer's settings in tokenizer.json, under the names of tokenizer_config.json."""
    normalizer = files.read_object(path).get("normalizer") or {}
    if not isinstance(normalizer, dict):
        raise InputError(f"{path}: its normalizer is no JSON object")
    names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents",
             "handle_chinese_chars": "tokenize_chinese_chars"}
    return {name: normalizer[key] for key, name in names.items() if key in normalizer}
