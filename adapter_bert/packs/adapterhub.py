"""Packs as folders of AdapterHub's library `adapters`, read and written without it.

    adapter_config.json    adapter.safetensors     or pytorch_adapter.bin
    head_config.json       model_head.safetensors  or pytorch_model_head.bin
    layer_norms.safetensors   beside them: what that format does not carry

    bert/encoder/layer_3/output/adapters/weights1 [D, A]
        bert.encoder.layer.3.output.adapters.NAME.adapter_down.0.weight [A, D]
    output_weights [C, D]        heads.NAME.1.weight [C, D] of a head of one layer on the pooler,
                                 heads.NAME.4.weight of that library's default head
    bert/pooler/dense/kernel     heads.NAME.1.weight.T of the default head: a dense with tanh on the
                                 first token, which is what BERT's pooler is
    output_weights of tokens     heads.NAME.1.weight of a tagging head of one layer

Checked against adapters 1.3.0. Letters: A adapter width, C classes, D hidden.
"""
import contextlib
import json
import os
import re
from typing import NamedTuple

import numpy as np
import safetensors
from safetensors.numpy import save

from adapter_bert import files
from adapter_bert.bert import adapters, formats, torch_file
from adapter_bert.bert import checkpoint_io as bases
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest as manifests
from adapter_bert.packs import store
from adapter_bert.packs.answers import check_head

VERSION = "1.3.0"
LAYER_NORMS = "layer_norms.safetensors"
CONFIG_LIMIT = 1 << 20


class _Files(NamedTuple):
    """The files of one half of a folder."""

    config: str
    safetensors: str
    torch: str


ADAPTER = _Files("adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin")
HEAD = _Files("head_config.json", "model_head.safetensors", "pytorch_model_head.bin")

# Keys of an adapter's config with another value would compute what our adapters do not.
_FIXED = {"original_ln_after": True, "ln_before": False, "ln_after": False, "is_parallel": False,
          "scaling": 1.0, "use_gating": False, "inv_adapter": None, "cross_adapter": False,
          "phm_layer": False}
# These change nothing beside the fixed ones, or nothing at prediction.
_IRRELEVANT = {
    "adapter_residual_before_ln": False, "dropout": 0.0, "factorized_phm_W": True,
    "factorized_phm_rule": False, "hypercomplex_nonlinearity": "glorot-uniform",
    "init_weights": "bert", "init_weights_seed": None, "inv_adapter_reduction_factor": None,
    "learn_phm": True, "phm_bias": True, "phm_c_init": "normal", "phm_dim": 4,
    "phm_init_range": 0.0001, "phm_rank": 1, "shared_W_phm": False, "shared_phm_rule": True,
    "stochastic_depth": 0.0}
_REQUIRED = ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity")
_OPTIONAL = {"leave_out": [], "original_ln_before": False, "residual_before_ln": True}
_HEAD_KEYS = ("head_type", "num_labels", "layers", "activation_function", "use_pooler")
_HEAD_OPTIONAL = {"bias": True, "label2id": None, "dropout_prob": None}
_TAGGING_KEYS = ("head_type", "num_labels", "layers", "activation_function")
_TAGGING_OPTIONAL = {"label2id": None, "dropout_prob": None}
# (mh_adapter, output_adapter) -> placement
_PLACEMENTS = {(True, True): "both", (True, False): "attention", (False, True): "feed_forward"}
_ACTIVATIONS = {**formats.ACTIVATION_TO_GOOGLE, "swish": "swish", "silu": "swish"}
_ACTIVATIONS_BACK = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
_LEAVES = {**formats.LEAF_TO_HUGGING_FACE, "bias": "bias",
           "weights1": "adapter_down.0.weight", "biases1": "adapter_down.0.bias",
           "weights2": "adapter_up.weight", "biases2": "adapter_up.bias"}
_TURNED, _ROWS = ("weights1", "weights2", "kernel"), ("biases1", "biases2")   # [A, D]; [1, A]
# A torch.nn.ModuleDict, which holds adapters by name there, has these names for itself.
_TAKEN = re.compile("""
    (get|named|register|set)_\\w+|add_module|apply|bfloat16|buffers|call_super_init|children|clear|
    compile|cpu|cuda|double|dump_patches|eval|extra_repr|float|forward|half|ipu|items|keys|
    load_state_dict|modules|mtia|parameters|pop|requires_grad_|share_memory|state_dict|to|to_empty|
    train|training|type|update|values|xpu|zero_grad|T_destination""", re.VERBOSE)
_SAVE_AGAIN = "save both with save_adapter(folder, name, with_head=True) of adapters " + VERSION
_SAFETENSORS = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(store.BFLOAT16)}


def read(folder, base, task=None, do_lower_case=True, max_seq_length=None):
    """The pack of a folder that the library `adapters` saved an adapter and its head into.

    The folder names its base by words only: whether `base` is the one, nobody can check.

    Args:
      folder: path; its .safetensors are taken before its .bin.
      base: manifest.Base that the adapter stands on.
      task: name of the task; None for the adapter's.
      do_lower_case: whether texts are put in lower case.
      max_seq_length: the most word pieces of an example; None for 128, or all that `base` has.

    Returns:
      store.Pack: tuning "adapters_only", or "adapters_pooler" where the head is that library's
      default one, or "adapters" where LayerNorms lie beside.

    Raises:
      InputError: a file is missing or damaged, or the adapter computes what ours do not.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; name one that the library `adapters` saved")
    adapter, head = (_read_config(os.path.join(folder, kind.config), base.config.hidden_size)
                     for kind in (ADAPTER, HEAD))
    with _naming(os.path.join(folder, HEAD.config)):
        kind, tuning, labels = _head(head["config"])
    with _naming(os.path.join(folder, ADAPTER.config)):
        config = _adapter(adapter["config"], base.config)
    if os.path.lexists(os.path.join(folder, LAYER_NORMS)):
        tuning = _with_layer_norms(tuning, folder)
    found = manifests.Manifest(
        task=task or adapter["name"], head=kind, labels=labels,
        pair=False if kind == "tokens" else None, tuning=tuning, adapter=config, base=base,
        do_lower_case=do_lower_case,
        max_seq_length=max_seq_length or min(128, base.config.max_position_embeddings),
        metrics={}, data={}, versions={"adapters": adapter["version"].removeprefix("adapters.")},
        description=_description(adapter.get("model_name")))
    with _naming(folder):
        manifests.check(found)
    places = _places(found, adapter["name"], head["name"])
    return store.Pack(found, _read_weights(folder, found, places, head["config"].get("bias", True)))


def write(pack, folder, name, layer_norms_beside=False):
    """Writes a pack as a folder that the library `adapters` loads, by .bin and by .safetensors.

    Args:
      pack: store.Pack of tuning "adapters_only" or "adapters_pooler", or "adapters" with
        `layer_norms_beside`.
      folder: path of a folder that is not there, or empty; it stands whole or not at all.
      name: of the adapter and its head there.
      layer_norms_beside: trained LayerNorms, which that library does not know, are written beside
        as layer_norms.safetensors under Hugging Face's names. Without them the adapter there
        computes something else.

    Raises:
      InputError: that format cannot carry the pack, or something lies at `folder`.
    """
    found = store.to_bytes(folder, pack, "float32")[0].manifest
    _check_carried(found, name, layer_norms_beside)
    tensors = _their_tensors(found, pack.weights, name)
    about = {"hidden_size": found.base.config.hidden_size, "model_class": "BertAdapterModel",
             "model_name": found.base.name, "model_type": "bert", "name": name,
             "version": f"adapters.{VERSION}"}
    with files.new_folder(folder) as place:
        for kind, config in ((ADAPTER, _adapter_values(found)), (HEAD, _head_values(found))):
            files.write_json(os.path.join(place, kind.config), {**about, "config": config})
            files.write_bytes(os.path.join(place, kind.torch),
                             torch_file.to_bytes(tensors[kind.safetensors]))
        for file, values in tensors.items():
            files.write_bytes(os.path.join(place, file), save(values, {"format": "pt"}))


def _their_tensors(found, weights, name):
    """{file: {that library's name: float32 array}} of a pack."""
    tensors = {}
    for ours, (file, theirs) in _places(found, name, name).items():
        value = weights[ours].astype("<f4")
        turned = np.ascontiguousarray(value.T if _leaf(ours) in _TURNED else value)
        tensors.setdefault(file, {})[theirs] = turned.reshape(_their_shape(ours, value.shape))
    return tensors


@contextlib.contextmanager
def _naming(path):
    """Puts the path before the words of a ValueError."""
    try:
        yield
    except InputError:
        raise
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error


def _read_config(path, hidden_size):
    """The dict of an adapter_config.json or head_config.json for a BERT of this width."""
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file; {_SAVE_AGAIN}")
    with files.open_plain(path, CONFIG_LIMIT) as file, _naming(path):
        try:
            values = json.loads(file.read().decode("utf-8"))
        except (RecursionError, ValueError) as error:
            raise ValueError(f"not readable as JSON ({error})") from error
        _check_about(values, hidden_size)
    return values


def _check_about(values, hidden_size):
    """ValueError where the keys around a config are not those of this library and this BERT."""
    if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
        raise ValueError("holds no config of an adapter, or of a head of an AdapterModel (heads "
                         f"of transformers have none); {_SAVE_AGAIN}")
    for key in ("name", "version"):
        if not values.get(key) or not _is_words(values[key]):
            raise ValueError(f"{key} is {_short(values.get(key))}, not some words; {_SAVE_AGAIN}")
    for key, wanted in (("model_type", "bert"), ("hidden_size", hidden_size)):
        if values.get(key) != wanted:
            raise ValueError(f"{key} is {_short(values.get(key))}, and the base has {wanted!r}")


def _adapter(values, config):
    """The AdapterConfig of an adapter's config on a BERT; ValueError where ours is none."""
    architecture = values.get("architecture")
    if architecture is not None:
        raise ValueError(f"the method {_short(architecture)}; only bottleneck adapters can be read")
    _check_keys(values, _REQUIRED, {**_FIXED, **_OPTIONAL, **_IRRELEVANT, "architecture": None})
    for key, fixed in _FIXED.items():
        _expect(values, key, (fixed,), fixed)
    for key in ("mh_adapter", "output_adapter", "original_ln_before", "residual_before_ln"):
        _expect(values, key, (True, False), _OPTIONAL.get(key))
    activation, layers = values["non_linearity"], _layers(values, config.num_hidden_layers)
    if not isinstance(activation, str) or activation.lower() not in _ACTIVATIONS:
        raise ValueError(f"non_linearity {_short(activation)}; known here: "
                         f"{', '.join(_ACTIVATIONS)}")
    places = (values["mh_adapter"], values["output_adapter"])
    if places not in _PLACEMENTS or not layers:
        raise ValueError("an adapter at no place of any layer")
    widths = {_width(config.hidden_size, values["reduction_factor"], layer) for layer in layers}
    if len(widths) != 1:
        raise ValueError(f"reduction_factor gives layers different widths: {sorted(widths)}")
    return adapters.AdapterConfig(
        size=widths.pop(), placement=_PLACEMENTS[places],
        layers=None if len(layers) == config.num_hidden_layers else layers,
        activation=_ACTIVATIONS[activation.lower()],
        original_ln_before=values.get("original_ln_before", False),
        residual_before_ln=values.get("residual_before_ln", True))


def _check_keys(values, required, optional):
    missing = [key for key in required if key not in values]
    unknown = sorted(values.keys() - {*required, *optional})
    if missing or unknown:
        raise ValueError(f"its config lacks {', '.join(missing) or 'nothing'} and has the unknown "
                         f"{bases.some_of(map(_short, unknown)) or 'nothing'}")


def _expect(values, key, wanted, default):
    """ValueError unless a value is one of `wanted`; 1 and 1.0 are one number, true is another."""
    value = values.get(key, default)
    if not any(_is_kind(value) is _is_kind(one) and value == one for one in wanted):
        words = " or ".join(json.dumps(one) for one in wanted)
        raise ValueError(f"{key} is {_short(value)}: only {words} can be read, another value "
                         "computes what adapters here do not")


def _is_kind(value):
    """The type of a value in JSON, where 1 and 1.0 are numbers."""
    return float if type(value) is int else type(value)


def _is_whole(value):
    """Whether it is a whole number, written as 1 or as 1.0."""
    return type(value) is int or (type(value) is float and value.is_integer())


def _layers(values, count):
    left_out = values.get("leave_out", [])
    if not isinstance(left_out, list) or not all(map(_is_whole, left_out)):
        raise ValueError(f"leave_out is {_short(left_out)}, not a list of layers")
    return tuple(sorted(set(range(count)).difference(left_out)))


def _width(hidden, factor, layer):
    """int(hidden // factor), but at least 1: the width of a layer's adapter in that library."""
    if isinstance(factor, dict):
        factor = factor.get(str(layer), factor.get("default"))
    if type(factor) not in (int, float) or not 1e-6 < factor < 1e9:
        raise ValueError(f"reduction_factor {_short(factor)} of layer {layer} is no number above 0")
    return max(1, int(hidden // factor))


def _head(values):
    """(kind, tuning, labels) of a head's config; ValueError where our heads are none like it."""
    if values.get("head_type") == "tagging":
        _check_keys(values, _TAGGING_KEYS, _TAGGING_OPTIONAL)
        _expect(values, "layers", (1,), 1)
        return "tokens", "adapters_only", _labels(values)
    if values.get("head_type") != "classification":
        raise ValueError(f"a head of the type {_short(values.get('head_type'))}; only "
                         "classification and tagging can be read")
    _check_keys(values, _HEAD_KEYS, _HEAD_OPTIONAL)
    _expect(values, "bias", (True, False), True)
    labels, layers, pooler = _labels(values), values["layers"], values["use_pooler"]
    kind = "classification" if labels else "regression"
    if not _is_whole(layers) or type(pooler) is not bool:
        raise ValueError("layers and use_pooler are not a number and true or false")
    if (layers, pooler) == (1, True):   # whatever the activation: it stands between two layers
        return kind, "adapters_only", labels
    activation = values["activation_function"]
    if (layers, pooler) == (2, False) and str(activation).lower() == "tanh":
        return kind, "adapters_pooler", labels
    raise ValueError(f"a head of {layers} layers with activation {_short(activation)} and "
                     f"use_pooler {pooler}; heads of one layer with use_pooler and of two layers "
                     "with tanh and no pooler can be read")


def _labels(values):
    """Names of the classes in the order of their ids; () for one number."""
    count, ids = values["num_labels"], values.get("label2id")
    if not _is_whole(count) or not 1 <= count <= manifests.MOST_LABELS:
        raise ValueError(f"num_labels is {_short(count)}, not a number from 1 to "
                         f"{manifests.MOST_LABELS}")
    count = int(count)
    if count == 1:
        return ()
    if ids is None:
        return tuple(str(index) for index in range(count))
    numbers = list(ids.values()) if isinstance(ids, dict) and all(map(_is_words, ids)) else []
    if not all(map(_is_whole, numbers)) or sorted(numbers) != list(range(count)):
        raise ValueError(f"label2id does not give each of {count} classes a name of its own")
    return tuple(sorted(ids, key=ids.get))


def _description(model_name):
    trained = f", trained on {model_name}" if model_name and _is_words(model_name) else ""
    return f"An adapter of AdapterHub's format{trained}"


def _with_layer_norms(tuning, folder):
    if tuning != "adapters_only":
        raise InputError(f"{folder}: {LAYER_NORMS} beside a head of two layers; adapters with "
                         "LayerNorms and pooler trained have no tuning mode here")
    return "adapters"


def _places(found, adapter, head):
    """{our name: (file, that library's name)} of every weight of a Manifest's pack.

    Args:
      found: Manifest.
      adapter, head: their names there.
    """
    output = 4 if found.tuning == "adapters_pooler" else 1
    return {name: _place(name, adapter, head, output) for name in found.shapes()}


def _place(name, adapter, head, output):
    *scopes, leaf = re.sub(r"/layer_(\d+)/", r"/layer/\1/", name).split("/")
    if "adapters" in scopes:
        return ADAPTER.safetensors, ".".join([*scopes, adapter, _LEAVES[leaf]])
    if "LayerNorm" in scopes:
        return LAYER_NORMS, ".".join([*scopes, _LEAVES[leaf]])
    return HEAD.safetensors, f"heads.{head}.{1 if 'pooler' in scopes else output}.{_LEAVES[leaf]}"


def _leaf(name):
    return name.rpartition("/")[2]


def _their_shape(name, shape):
    """The shape there of our variable `name`: kernels turned, biases without their row."""
    if _leaf(name) in _TURNED:
        return shape[::-1]
    return shape[-1:] if _leaf(name) in _ROWS else shape


def _read_weights(folder, found, places, has_bias):
    """{our name: float32 array} of a folder's weights, which are exactly those of a Manifest."""
    shapes, weights = found.shapes(), {}
    if not has_bias:
        del places["output_bias"]
        weights["output_bias"] = np.zeros(shapes["output_bias"], np.float32)
    for kind in (ADAPTER, HEAD, _Files("", LAYER_NORMS, "")):
        ours = {theirs: name for name, (file, theirs) in places.items() if file == kind.safetensors}
        if not ours:
            continue
        path, tensors = _read_tensors(folder, kind)
        with _naming(path):
            _check_tensors(tensors, {theirs: _their_shape(name, shapes[name])
                                     for theirs, name in ours.items()})
        for theirs, name in ours.items():
            value = tensors[theirs].astype(np.float32)
            turned = value.T if _leaf(name) in _TURNED else value
            weights[name] = np.ascontiguousarray(turned).reshape(shapes[name])
    return {name: weights[name] for name in shapes}


def _read_tensors(folder, kind):
    """The path of a file of weights and its {name: array}."""
    path = os.path.join(folder, kind.safetensors)
    if not os.path.lexists(path) and kind.torch:
        path = os.path.join(folder, kind.torch)
        if not os.path.lexists(path):
            raise InputError(f"{folder}: lacks {kind.safetensors} and {kind.torch}; {_SAVE_AGAIN}")
        tensors = torch_file.read(path)
    else:
        tensors = _read_safetensors(path)
    with _naming(path):
        named = {}
        for name, value in tensors.items():
            full = f"bert.{name}" if name.startswith("encoder.") else name   # of a bare BertModel
            if named.setdefault(full, value) is not value:
                raise ValueError(f"two tensors for {full!r:.200}")
    return path, named


def _read_safetensors(path):
    with files.open_plain(path, store.WEIGHTS_LIMIT) as file, _naming(path):
        try:
            tensors = safetensors.deserialize(file.read())
        except safetensors.SafetensorError as error:
            raise ValueError(f"damaged, or no safetensors file ({error})") from error
        strange = sorted({value["dtype"] for _, value in tensors} - _SAFETENSORS.keys())
        if strange:
            raise ValueError(f"numbers of the type {', '.join(strange)}, not "
                             f"{', '.join(_SAFETENSORS)}")
        return {name: np.frombuffer(value["data"], _SAFETENSORS[value["dtype"]]).reshape(
            value["shape"]) for name, value in tensors}


def _check_tensors(tensors, wanted):
    """ValueError unless the tensors are finite and of exactly these names and shapes."""
    held = {name: value.shape for name, value in tensors.items()}
    differing = sorted(name for name in wanted.keys() | held.keys()
                       if wanted.get(name) != held.get(name))
    if differing:
        raise ValueError("tensors missing, extra or of another shape: " + bases.some_of(
            f"{name!r:.200} {held.get(name, 'missing')}, not {wanted.get(name, 'there')}"
            for name in differing))
    bad = sorted(name for name, value in tensors.items() if not np.isfinite(value).all())
    if bad:
        raise ValueError(f"values that are no finite numbers in {bases.some_of(bad)}")


def _check_carried(found, name, layer_norms_beside):
    """InputError where that library's format cannot carry a pack."""
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", name) or _TAKEN.fullmatch(name):
        raise InputError(f"{name!r}: no name for an adapter there; take letters, digits, - and _, "
                         "and no word that torch's modules have for themselves")
    check_head(found)
    if found.tuning == "adapters" and not layer_norms_beside:
        raise InputError(f"{found.task}: its LayerNorms trained too, and AdapterHub's format does "
                         "not carry them; train with --tuning=adapters_only, or have them written "
                         "beside and load them yourself")
    if found.tuning not in ("adapters", "adapters_only", "adapters_pooler"):
        raise InputError(f"{found.task}: tuning {found.tuning}; AdapterHub's format carries "
                         "adapters and their head only")
    if found.head == "tokens" and found.tuning == "adapters_pooler":
        raise InputError(f"{found.task}: its pooler trained, which a tagging head there does not "
                         "have; train with --tuning=adapters_only")
    if found.head == "spans":
        raise InputError(f"{found.task}: a head for spans, which is not written in AdapterHub's "
                         "format yet")
    if found.adapter.adapter_fn != "feedforward_adapter":
        raise InputError(f"{found.task}: adapters of {found.adapter.adapter_fn}; AdapterHub's "
                         "format carries feedforward_adapter only")


def _adapter_values(found):
    """The config of the adapter of a Manifest."""
    config, adapter = found.base.config, found.adapter
    places = next(key for key, value in _PLACEMENTS.items() if value == adapter.placement)
    kept = range(config.num_hidden_layers) if adapter.layers is None else adapter.layers
    return {**_FIXED, **_IRRELEVANT, "mh_adapter": places[0], "output_adapter": places[1],
            "reduction_factor": reduction_factor(config.hidden_size, adapter.size),
            "non_linearity": _ACTIVATIONS_BACK[adapter.activation],
            "leave_out": sorted(set(range(config.num_hidden_layers)).difference(kept)),
            "original_ln_before": adapter.original_ln_before,
            "residual_before_ln": adapter.residual_before_ln}


def reduction_factor(hidden, size):
    """A number for which int(hidden // number) is `size`, whatever is rounded on the way."""
    return hidden // size if hidden % size == 0 else hidden / (size + 0.5)


def _head_values(found):
    """The config of the head of a Manifest."""
    is_default = found.tuning == "adapters_pooler"
    labels = {label: index for index, label in enumerate(found.labels)}
    if found.head == "tokens":
        return {"activation_function": None, "dropout_prob": None, "head_type": "tagging",
                "label2id": labels, "layers": 1, "num_labels": len(labels)}
    return {"activation_function": "tanh" if is_default else None, "bias": True,
            "dropout_prob": None, "head_type": "classification", "label2id": labels or None,
            "layers": 2 if is_default else 1, "num_labels": len(found.labels) or 1,
            "use_pooler": not is_default}


def _is_words(value):
    return isinstance(value, str) and value.isprintable() and len(value) <= 200


def _short(value):
    return repr(value)[:60]
