"""pack.json: what a pack says of itself, and whether it can be true (docs/pack_format.md)."""
import dataclasses
import hashlib
import json
import math
import re

import adapter_layers
import modeling
from adapter_bert.heads import HEADS
from adapter_bert.network import Model, trained_shapes

FORMAT, SCHEMA_VERSION = "adapter-bert pack", 1
DTYPES = {"float32": 4, "bfloat16": 2}
# No BERT is larger, and no head; a pack that says so is not worth the memory to find out.
MOST = {"num_hidden_layers": 128, "hidden_size": 16384, "adapter size": 65536, "labels": 10_000}
HEADER_LIMIT = 1 << 20   # bytes of a safetensors file beside its values
TEXT_LIMIT = 10_000


@dataclasses.dataclass(frozen=True)
class Base:
    """The BERT that a pack was trained on.

    name: what its folder is called; for people.
    fingerprint: hex sha256 of its encoder, see adapter_bert.base.fingerprint_of.
    vocab: hex sha256 of its vocab.txt.
    config: its sizes.
    """

    name: str
    fingerprint: str
    vocab: str
    config: modeling.BertConfig


@dataclasses.dataclass(frozen=True)
class Weights:
    """The file of a pack's weights: type of the values, size and hex sha256 of the file."""

    dtype: str
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a pack.json says, checked.

    Attributes:
      task: name of the task.
      head: key of heads.HEADS.
      labels: names of the classes in the order of their ids; () for a regression.
      pair: whether its examples are pairs of texts; None where nobody knows.
      tuning: what trained, see adapter_layers.tuning_rules.
      adapter: AdapterConfig; None in a tuning mode without adapters.
      base: Base.
      do_lower_case: whether texts are put in lower case.
      max_seq_length: the most word pieces of an example.
      metrics: {name: number} on the dev set of `data`.
      data: {split: {"examples": count, "sha256": fingerprint}}.
      versions: {package: version} of what trained it.
      license, description: free text.
      weights: Weights; None until they are written.
    """

    task: str
    head: str
    labels: tuple[str, ...]
    pair: bool | None
    tuning: str
    adapter: adapter_layers.AdapterConfig | None
    base: Base
    do_lower_case: bool
    max_seq_length: int
    metrics: dict[str, float]
    data: dict[str, dict]
    versions: dict[str, str]
    license: str = ""
    description: str = ""
    weights: Weights | None = None

    def model(self, precision="float32"):
        """The network.Model that the pack is for."""
        return Model(self.base.config, self.head, len(self.labels) or 1, self.tuning, self.adapter,
                     precision)

    def shapes(self):
        """{name: shape tuple} of the pack's weights."""
        return trained_shapes(self.model())

    def to_bytes(self):
        """The one text of a pack.json that says this."""
        values = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **dataclasses.asdict(self),
                  "adapter": self.adapter and self.adapter.to_dict()}
        checksum = hashlib.sha256(_dump(values)).hexdigest()
        return _dump({**values, "checksum": checksum})


def parse(text):
    """The Manifest of the bytes of a pack.json.

    Raises:
      ValueError: it is damaged, of another version, or says what cannot be.
    """
    try:
        values = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("brackets within brackets, too deep") from error
    except ValueError as error:
        raise ValueError(f"not readable as JSON ({error})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"not a pack: its format is not {FORMAT!r}")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"schema_version {values.get('schema_version')!r}: this program reads "
                         f"{SCHEMA_VERSION}; update adapter-bert")
    manifest = _manifest(values)
    if manifest.to_bytes() != text:
        raise ValueError("damaged or changed by hand: its checksum is another; fetch it again, or "
                         "change it with adapter-bert pack describe")
    return manifest


def _manifest(values):
    names = {field.name for field in dataclasses.fields(Manifest)}
    differing = names.symmetric_difference(values.keys() - {"format", "schema_version", "checksum"})
    if differing:
        raise ValueError(f"keys missing or unknown: {', '.join(sorted(differing))}")
    for name, (is_right, words) in _CHECKS.items():
        if not is_right(values[name]):
            raise ValueError(f"{name} is {_short(values[name])}, not {words}")
    fields = {name: values[name] for name in names}
    adapter = values["adapter"]
    manifest = Manifest(**{
        **fields, "labels": tuple(values["labels"]), "base": _base(values["base"]),
        "weights": _part(Weights, values["weights"], "weights", _WEIGHTS_CHECKS),
        "adapter": adapter and adapter_layers.AdapterConfig.from_dict(adapter)})
    check(manifest)
    return manifest


def check(manifest):
    """ValueError where the parts of a Manifest cannot be true together."""
    config, labels = manifest.base.config, manifest.labels
    if (manifest.head == "regression") != (not labels) or len(labels) == 1:
        raise ValueError(f"a head for {manifest.head} with {len(labels)} labels")
    if len(set(labels)) != len(labels) or len(labels) > MOST["labels"]:
        raise ValueError("labels that are not all different, or too many")
    if not 5 <= manifest.max_seq_length <= config.max_position_embeddings:
        raise ValueError(f"max_seq_length {manifest.max_seq_length}: the base has "
                         f"{config.max_position_embeddings} positions")
    if bool(manifest.adapter) != adapter_layers.uses_adapters(manifest.tuning):
        raise ValueError(f"tuning {manifest.tuning!r} and the adapter contradict each other")
    for name in ("num_hidden_layers", "hidden_size"):
        if getattr(config, name) > MOST[name]:
            raise ValueError(f"a base with {name} {getattr(config, name)}")
    adapter_layers.attach(manifest.adapter, config.num_hidden_layers)   # its layers exist
    if manifest.adapter and manifest.adapter.size > MOST["adapter size"]:
        raise ValueError(f"an adapter of size {manifest.adapter.size}")
    if manifest.tuning == "full":
        raise ValueError("full tuning changes the whole model: it makes a checkpoint, not a pack")
    parameters = sum(math.prod(shape) for shape in manifest.shapes().values())
    least = parameters * DTYPES[manifest.weights.dtype] if manifest.weights else 0
    if manifest.weights and not least < manifest.weights.bytes <= least + HEADER_LIMIT:
        raise ValueError(f"weights of {manifest.weights.bytes} bytes for {parameters} parameters")


def _base(values):
    base = _part(Base, values, "base", _BASE_CHECKS)
    return dataclasses.replace(base, config=modeling.BertConfig.from_dict(base.config))


def _part(kind, values, name, checks):
    """A dataclass of one object in a pack.json."""
    if values.keys() != checks.keys():
        raise ValueError(f"{name} has the keys {', '.join(values)}, not {', '.join(checks)}")
    for key, (is_right, words) in checks.items():
        if not is_right(values[key]):
            raise ValueError(f"{name}.{key} is {_short(values[key])}, not {words}")
    return kind(**values)


def _dump(values):
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _unique(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _refuse(constant):
    raise ValueError(f"{constant} is no number")


def _short(value):
    return repr(value)[:60]


def _is_text(value):
    return isinstance(value, str) and len(value) <= TEXT_LIMIT


def _is_bool(value):
    return isinstance(value, bool)


def _is_count(value):
    return type(value) is int and 0 < value < 1 << 40


def _is_hash(value):
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def _is_number(value):
    return type(value) in (int, float) and abs(value) < 1e300   # NaN is not


def _is_dict_of(is_right, most=1000):
    return lambda value: (isinstance(value, dict) and len(value) <= most
                          and all(map(_is_text, value)) and all(map(is_right, value.values())))


def _is_split(value):
    return (isinstance(value, dict) and value.keys() == {"examples", "sha256"}
            and _is_count(value["examples"]) and _is_hash(value["sha256"]))


def _is_dict(value):
    return isinstance(value, dict)


_NUMBERS = (_is_dict_of(_is_number), "numbers by name")
_TEXT = (_is_text, f"a text of at most {TEXT_LIMIT} characters")
_HASH = (_is_hash, "a sha256 of 64 hexadecimal digits")
_CHECKS = {
    "task": (lambda value: _is_text(value) and value.isprintable() and value, "a name"),
    "head": (lambda value: isinstance(value, str) and value in HEADS, f"one of {sorted(HEADS)}"),
    "labels": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "names"),
    "pair": (lambda value: value is None or _is_bool(value), "true, false or null"),
    "tuning": (_is_text, "a tuning mode"),
    "adapter": (lambda value: value is None or _is_dict(value), "the keys of an adapter"),
    "base": (_is_dict, "the keys of a base"),
    "do_lower_case": (_is_bool, "true or false"),
    "max_seq_length": (_is_count, "a positive whole number"),
    "metrics": _NUMBERS,
    "data": (_is_dict_of(_is_split), "splits with examples and sha256"),
    "versions": (_is_dict_of(_is_text), "versions by name"),
    "license": _TEXT,
    "description": _TEXT,
    "weights": (_is_dict, "the keys of the weights"),
}
_BASE_CHECKS = {"name": _TEXT, "fingerprint": _HASH, "vocab": _HASH,
                "config": (_is_dict, "the keys of a bert_config.json")}
_WEIGHTS_CHECKS = {"dtype": (lambda value: isinstance(value, str) and value in DTYPES,
                             f"one of {sorted(DTYPES)}"),
                   "bytes": (_is_count, "a count of bytes"), "sha256": _HASH}
