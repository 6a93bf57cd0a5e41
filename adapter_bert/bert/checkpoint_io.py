"""The base: a BERT folder in Google's form, its checkpoint, and the fingerprint of its encoder.

Letters of the shapes: D hidden, F feed-forward, V vocabulary, P positions, S segment types.
"""
import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping

import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert import files, paths
from adapter_bert.bert import fingerprints
from adapter_bert.errors import InputError

VOCAB_FILE = "vocab.txt"
CONFIG_FILE = "bert_config.json"
CHECKPOINT = "bert_model.ckpt"
# Beside a converted checkpoint: whether its pooler was trained, and what was left out of it.
INFO_FILE = "base_info.json"
_POOLER_BIAS = "bert/pooler/dense/bias"
# The variable in a run's checkpoint that says which base it stands on: `fingerprint_as_int64`.
FINGERPRINT_VARIABLE = "base_fingerprint"
# What a run's folder holds: what it says of itself, and the folder of its best checkpoint.
RUN_FILE, BEST_FOLDER = "run.json", "best"
RUN_KEYS = ("flags", "labels", "train_data", "base")


@dataclasses.dataclass(frozen=True)
class BertFiles:
    """The paths of a BERT in Google's form, named as the flags that they fill."""
    vocab_file: str
    bert_config_file: str
    init_checkpoint: str


def locate(bert_dir):
    """The files of the base that a value of --bert_dir names.

    Args:
      bert_dir: folder with vocab.txt, bert_config.json and bert_model.ckpt.*; or a folder in
        Hugging Face's form, the name of a model on the Hugging Face Hub, or "demo", which are
        downloaded and converted into the cache at first use, see adapter_bert.bert.source.

    Returns:
      BertFiles.

    Raises:
      InputError: there is no such folder or model, or it lacks a file.
    """
    from adapter_bert.bert import source  # a conversion needs this module and the model's code
    bert_dir = source.folder_of(bert_dir)
    held = list_folder(bert_dir)
    missing = [name for name in (VOCAB_FILE, CONFIG_FILE) if name not in held]
    if CHECKPOINT not in held:   # the name of a checkpoint in the old format of a single file
        missing += [name for name in (f"{CHECKPOINT}.index",) if name not in held]
        if not any(name.startswith(f"{CHECKPOINT}.data-") for name in held):
            missing.append(f"{CHECKPOINT}.data-*")
    if missing:
        raise InputError(_what_is_missing(bert_dir, missing, held))
    vocab_file, config_file, checkpoint = (
        os.path.join(bert_dir, name) for name in (VOCAB_FILE, CONFIG_FILE, CHECKPOINT))
    return BertFiles(vocab_file, config_file, source.second_format(checkpoint))


def pooler_is_trained(path: str) -> bool | None:
    """Whether the pooler of a base was ever trained.

    Sentence encoders take the mean of the tokens and leave the pooler at its first values, so that
    a classifier on its output learns little. The conversion records what it knows in
    base_info.json. Otherwise the values tell: a bias of zeros only was never trained, since the
    first step of training changes all of them. (The demo's base, all-MiniLM-L6-v2: a bias of zeros,
    and weights of a normal distribution, excess kurtosis -0.02, where the trained weights of its
    layers have 0.2 to 1,600.)

    Args:
      path: folder of a base in Google's form, or prefix of its checkpoint.

    Returns:
      None where there is no pooler to look at.
    """
    prefix = path if paths.exists(f"{path}.index") else os.path.join(path, CHECKPOINT)
    info = os.path.join(os.path.dirname(prefix), INFO_FILE)
    if paths.exists(info):
        return files.read_object(info).get("pooler_trained")
    weights = Checkpoint(prefix)
    return has_trained_pooler(weights) if _POOLER_BIAS in weights else None


def has_trained_pooler(weights: Mapping) -> bool:
    """Whether the pooler's bias differs from its first values, which are zeros.

    Args:
      weights: mapping of Google's variable names to arrays.
    """
    return bool(np.any(weights[_POOLER_BIAS]))


def list_folder(folder: str) -> list[str]:
    """The names in a folder, sorted.

    Raises:
      InputError: there is no such folder, or its file system cannot be reached.
    """
    try:
        if not paths.is_folder(folder):
            kind = "a file, not a folder" if paths.exists(folder) else "no such folder"
            raise InputError(f"{folder}: {kind}; name the folder of a BERT")
        return sorted(paths.names_in(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); check the address and "
                         "your permissions") from error


def some_of(names, limit=10):
    """The first `limit` of `names` and the count of the others, for a message."""
    names = list(names)
    others = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + others


def variable_shapes(config):
    """Names and shapes of the encoder's variables, as Google's BERT names them.

    Args:
      config: dict with the keys of a bert_config.json.

    Returns:
      {name: shape tuple} in the order of the graph.
    """
    hidden, feed_forward = config["hidden_size"], config["intermediate_size"]
    embeddings = "bert/embeddings"
    shapes = {
        f"{embeddings}/word_embeddings": (config["vocab_size"], hidden),  # [V, D]
        f"{embeddings}/token_type_embeddings": (config["type_vocab_size"], hidden),  # [S, D]
        f"{embeddings}/position_embeddings": (config["max_position_embeddings"], hidden),  # [P, D]
        **_layer_norm(embeddings, hidden)}
    for layer in range(config["num_hidden_layers"]):
        scope = f"bert/encoder/layer_{layer}"
        for projection in ("self/query", "self/key", "self/value", "output/dense"):
            shapes |= _dense(f"{scope}/attention/{projection}", hidden, hidden)
        shapes |= _layer_norm(f"{scope}/attention/output", hidden)
        shapes |= _dense(f"{scope}/intermediate/dense", hidden, feed_forward)
        shapes |= _dense(f"{scope}/output/dense", feed_forward, hidden)
        shapes |= _layer_norm(f"{scope}/output", hidden)
    return shapes | _dense("bert/pooler/dense", hidden, hidden)


def _dense(scope, inputs, outputs):
    return {f"{scope}/kernel": (inputs, outputs), f"{scope}/bias": (outputs,)}


def _layer_norm(scope, width):
    return {f"{scope}/LayerNorm/beta": (width,), f"{scope}/LayerNorm/gamma": (width,)}


def is_training_state(name):
    """Whether `name` is of the training, not of the model: a slot, the step, the fingerprint."""
    return name.endswith(("/adam_m", "/adam_v")) or name in ("global_step", FINGERPRINT_VARIABLE)


_ONE_LAYER = frozenset(variable_shapes({
    "num_hidden_layers": 1, "hidden_size": 1, "intermediate_size": 1, "vocab_size": 1,
    "type_vocab_size": 1, "max_position_embeddings": 1}))


class Checkpoint(Mapping):
    """The variables of a TensorFlow checkpoint: name -> array, each read when it is asked for.

    Args:
      prefix: path without `.index` and `.data-*`, such as `bert_model.ckpt`.

    Attributes:
      prefix: the argument.
      shapes: {name: shape tuple}.
      dtypes: {name: tf.DType}.

    Raises:
      InputError: there is no such checkpoint, or it is damaged (while opening or reading).
    """

    def __init__(self, prefix):
        paths.refuse_patterns(prefix)
        self.prefix = prefix
        if re.search(r"\.(index|meta|data-\d+-of-\d+)$", prefix):
            raise InputError(f"{prefix}: one file of a checkpoint; name the checkpoint, "
                             f"{re.sub(r'[.](index|meta|data-[^.]*)$', '', prefix)}")
        if not paths.exists(f"{prefix}.index") and (
                not paths.exists(prefix) or paths.is_folder(prefix)):
            raise InputError(f"{prefix}: no checkpoint there; name its path without "
                             "`.index` and `.data-*`")
        with _naming_damage(prefix):
            self._reader = tf.train.NewCheckpointReader(prefix)
        self.shapes = {name: tuple(shape) for name, shape
                       in self._reader.get_variable_to_shape_map().items()}
        self.dtypes = self._reader.get_variable_to_dtype_map()

    def __getitem__(self, name):
        if name not in self.shapes:
            raise KeyError(name)
        with _naming_damage(self.prefix):
            return self._reader.get_tensor(name)

    def __iter__(self):
        return iter(sorted(self.shapes))

    def __len__(self):
        return len(self.shapes)


@contextlib.contextmanager
def _naming_damage(prefix):
    try:
        yield
    except (tf.errors.OpError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{prefix}: a damaged or incomplete checkpoint ({reason}); "
                         "fetch or make it again") from error


def write_checkpoint(prefix, variables):
    """Writes `variables` as a V2 checkpoint: `prefix.index` and `prefix.data-00000-of-00001`.

    Args:
      prefix: path of the checkpoint; its folder exists.
      variables: {name: array}.

    Raises:
      InputError: the files cannot be written.
    """
    paths.refuse_patterns(prefix)
    cpu_only = tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.Session(config=cpu_only) as session:
        feed = {tf.placeholder(value.dtype, value.shape): value for value in variables.values()}
        save = tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=list(variables), tensors=list(feed),
            shape_and_slices=[""] * len(variables))
        try:
            session.run(save, feed)
        except tf.errors.OpError as error:
            reason = [line for line in error.message.splitlines() if prefix in line] or ["?"]
            raise InputError(f"{prefix}: cannot be written ({reason[0]}); is the disk full? make "
                             "room or name another place") from error


def fingerprint(checkpoint):
    """The fingerprint of the base whose checkpoint has the prefix `checkpoint`.

    One that was computed before and kept is taken, see adapter_bert.bert.fingerprints.

    Raises:
      InputError: there is no such checkpoint, it is damaged, or it holds no BERT encoder.
    """
    return fingerprints.remembered(checkpoint, lambda: fingerprint_of(Checkpoint(checkpoint)))


def fingerprint_of(weights):
    """Names a base by its encoder: sha256 over name, shape and values of each variable.

    For the encoder's variables (`bert/...` of BERT as published; no adapter, optimizer slot or
    head) in the order of their names, this is hashed:

        "<name> <shape joined by x>\\n" + the values as float32, little-endian, row by row

    Every value counts: a checkpoint's reader reads whole tensors, so hashing a sample of them
    would not save much, and would let a changed weight pass.

    Args:
      weights: mapping of Google's variable names to arrays; each encoder variable is read once.

    Returns:
      64 hexadecimal digits, the same for a model in Google's and in Hugging Face's form.

    Raises:
      InputError: `weights` holds no BERT encoder.
    """
    names = sorted(filter(is_encoder_variable, weights))
    if not names:
        raise InputError(f"{getattr(weights, 'prefix', 'weights')}: holds no BERT encoder; its "
                         f"variables are {some_of(weights) or 'none'}")
    digest = hashlib.sha256()
    for name in names:
        values = np.ascontiguousarray(weights[name], dtype="<f4")
        digest.update(f"{name} {'x'.join(map(str, values.shape))}\n".encode())
        digest.update(values)
    return digest.hexdigest()


def is_encoder_variable(name):
    """Whether `name` is a variable of BERT's encoder as published (not an adapter or a slot)."""
    return re.sub(r"/layer_\d+/", "/layer_0/", name) in _ONE_LAYER


def fingerprint_as_int64(hex_digits):
    """A fingerprint as a checkpoint holds it: int64 [4], big-endian words of the sha256."""
    return np.frombuffer(bytes.fromhex(hex_digits), ">i8").astype(np.int64)


def fingerprint_from_int64(words):
    """The 64 hexadecimal digits that `fingerprint_as_int64` made into int64 [4]."""
    return np.asarray(words).astype(">i8").tobytes().hex()


def name_of(checkpoint):
    """What people call the base whose checkpoint has that prefix: the name of its folder."""
    return os.path.basename(os.path.dirname(paths.absolute(checkpoint)))


def recorded_run(checkpoint):
    """What the run that wrote a checkpoint says of itself in run.json; {} where there is none.

    Args:
      checkpoint: prefix of the run's checkpoint; its best one has a folder of its own. None for no
        checkpoint.

    Raises:
      InputError: run.json is there and is not what a run writes.
    """
    if not checkpoint:
        return {}
    folder = os.path.dirname(paths.absolute(checkpoint))
    if os.path.basename(folder) == BEST_FOLDER:
        folder = os.path.dirname(folder)
    path = os.path.join(folder, RUN_FILE)
    return files.read_object(path, *RUN_KEYS) if paths.exists(path) else {}


def base_of_run(checkpoint, given=None):
    """Prefix of the base that a run was trained on.

    Args:
      checkpoint: prefix of the run's checkpoint.
      given: where the base is said to be; None for where the run found it.

    Raises:
      InputError: there is no base there, or nobody says where it is.
    """
    prefix = given or recorded_run(checkpoint).get("base", {}).get("init_checkpoint")
    if not prefix or not paths.exists(f"{prefix}.index"):
        place = f"is not at {prefix}" if prefix else "is named by no run.json beside it"
        raise InputError(f"{checkpoint}: holds only what was trained, and its base {place}; name "
                         "the base's folder with --bert_dir (--base of adapter-bert convert)")
    return prefix


def check_base_of_run(trained, original):
    """The base's fingerprint, which must be the one that a run's checkpoint was trained on.

    Args:
      trained: Checkpoint of a run.
      original: Checkpoint of the base.

    Raises:
      InputError: the run was trained on another base.
    """
    wanted = fingerprint_from_int64(trained[FINGERPRINT_VARIABLE])
    found = fingerprints.remembered(original.prefix, lambda: fingerprint_of(original))
    if found != wanted:
        name = recorded_run(trained.prefix).get("base", {}).get("name", "unnamed")
        raise InputError(
            f"{original.prefix}: {name_of(original.prefix)} (fingerprint {found}) is another base "
            f"than that of {trained.prefix}, {name} (fingerprint {wanted}); give that one")
    return found


def _what_is_missing(bert_dir, missing, held):
    return (f"{bert_dir}: lacks {', '.join(missing)}; it holds {some_of(held) or 'nothing'}. "
            "Name the folder of an unpacked BERT")
