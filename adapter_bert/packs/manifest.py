"""pack.json: what a pack says of itself, and whether it can be true (docs/pack_format.md)."""
import dataclasses
import hashlib
import json
import math

from adapter_bert.bert import adapters, modeling, tuning_modes
from adapter_bert.errors import InputError
from adapter_bert.kinds.heads import HEADS, width
from adapter_bert.network import Model, trained_shapes
from adapter_bert.packs import checks

FORMAT, SCHEMA_VERSION = "adapter-bert pack", 1
DTYPES = {"float32": 4, "bfloat16": 2}
# No BERT is larger, and no head; a pack that says so is not worth the memory to find out.
MOST = {"num_hidden_layers": 128, "hidden_size": 16_384, "intermediate_size": 131_072,
        "vocab_size": 4_000_000, "max_position_embeddings": checks.MOST_POSITIONS,
        "type_vocab_size": 1024}
MOST_OF_ADAPTER = {"size": checks.MOST_ADAPTER_SIZE, "scale": 1e6, "init_stddev": 1e3}
MOST_LABELS = 10_000
MOST_OVERLAPPING = 64   # windows over a word of a context; with more, one question takes seconds
OPTIONAL = ("spans", "meta", "warning")   # keys that pack.json lacks where they are empty
HEADER_LIMIT = 1 << 20   # bytes of a safetensors file beside its values


@dataclasses.dataclass(frozen=True)
class Base:
    """The BERT that a pack was trained on.

    name: what its folder is called; for people.
    fingerprint: hex sha256 of its encoder, see adapter_bert.bert.checkpoint_io.fingerprint_of.
    vocab: hex sha256 of its vocab.txt.
    config: its sizes.
    """

    name: str = dataclasses.field(compare=False)
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
class Spans:
    """How a task of the head "spans" cuts contexts into windows and finds answers in them.

    Attributes:
      max_query_length, doc_stride: see kinds.windows.featurize.
      n_best_size, max_answer_length: see kinds.span_decoding.predict.
      null_threshold: likewise; None where every question has an answer.
    """

    max_query_length: int
    doc_stride: int
    n_best_size: int
    max_answer_length: int
    null_threshold: float | None


@dataclasses.dataclass(frozen=True)
class Meta:
    """How a pack was meta-trained, so that a few examples teach a new domain.

    Attributes:
      algorithm: key of research.meta.meta_training.ALGORITHMS.
      inner_optimizer: key of research.meta.learner.UPDATES.
      inner_update_lr: its learning rate.
      inner_update_step: passes over the examples of a task.
      domains: names of those that it was trained on.
    """

    algorithm: str
    inner_optimizer: str
    inner_update_lr: float
    inner_update_step: int
    domains: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a pack.json says, checked.

    Attributes:
      task: name of the task.
      head: key of heads.HEADS.
      labels: names of the classes in the order of their ids; () for a head without classes.
      pair: whether its examples are pairs of texts; None where nobody knows.
      tuning: what trained, see tuning_modes.tuning_rules.
      adapter: AdapterConfig; None in a tuning mode without adapters.
      base: Base.
      do_lower_case: whether texts are put in lower case.
      max_seq_length: the most word pieces of an example.
      metrics: {name: number} on the dev set of `data`.
      data: {split: {"examples": count, "sha256": fingerprint}}.
      versions: {package: version} of what trained it.
      license, description: free text.
      spans: Spans of the head "spans"; None for another.
      meta: Meta of a pack that was meta-trained; None for another.
      warning: why its predictions are not to be trusted, such as a training that learned nothing;
        "" for no warning, which pack.json then does not contain.
      weights: Weights; None until they are written.
    """

    task: str
    head: str
    labels: tuple[str, ...]
    pair: bool | None
    tuning: str
    adapter: adapters.AdapterConfig | None
    base: Base
    do_lower_case: bool
    max_seq_length: int
    metrics: dict[str, float]
    data: dict[str, dict]
    versions: dict[str, str]
    license: str = ""
    description: str = ""
    spans: Spans | None = None
    meta: Meta | None = None
    warning: str = ""
    weights: Weights | None = None

    def model(self, precision="float32"):
        """The network.Model that the pack is for."""
        return Model(self.base.config, self.head, width(self.head, self.labels), self.tuning,
                     self.adapter, precision)

    def shapes(self):
        """{name: shape tuple} of the pack's weights."""
        return trained_shapes(self.model())

    def to_bytes(self):
        """The one text of a pack.json that says this."""
        values = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **dataclasses.asdict(self),
                  "adapter": self.adapter and self.adapter.to_dict()}
        for name in OPTIONAL:
            if not values[name]:
                del values[name]
        checksum = hashlib.sha256(_dump(values)).hexdigest()
        return _dump({**values, "checksum": checksum})


def parse(text):
    """The Manifest of the bytes of a pack.json.

    Raises:
      ValueError: it is damaged, of another version, or says what cannot be.
    """
    try:
        values = json.loads(text.decode("utf-8"), object_pairs_hook=checks.unique,
                            parse_constant=checks.refuse)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
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
    has_spans = values.get("head") == "spans"
    if not has_spans:
        names.remove("spans")
    names -= {"meta", "warning"} - values.keys()
    differing = names.symmetric_difference(values.keys() - {"format", "schema_version", "checksum"})
    if differing:
        raise ValueError(f"keys missing or unknown: {', '.join(sorted(differing))}")
    checks.check(values, {name: check for name, check in _CHECKS.items() if name in names})
    fields = {name: values[name] for name in names}
    adapter = values["adapter"]
    manifest = Manifest(**{
        **fields, "labels": tuple(values["labels"]), "base": _base(values["base"]),
        "weights": _part(Weights, values["weights"], "weights", _WEIGHTS_CHECKS),
        "spans": _part(Spans, values["spans"], "spans", _SPANS_CHECKS) if has_spans else None,
        "meta": _meta(values["meta"]) if "meta" in values else None,
        "adapter": adapter and adapters.AdapterConfig.from_dict(adapter)})
    check(manifest)
    return manifest


def check_texts(manifest):
    """ValueError where a text of a Manifest in memory is none that can be written."""
    for name in ("task", "license", "description", "warning"):
        is_right, words = _CHECKS[name]
        value = getattr(manifest, name)
        if not is_right(value) or "\ud800" <= max(value, default="") <= "\udfff":
            raise ValueError(f"{name} is {checks.short(value)}, not {words}")
    if not all(map(checks.is_text, manifest.labels)):
        raise ValueError(f"a label of more than {checks.TEXT_LIMIT} characters")


def check(manifest):
    """ValueError where the parts of a Manifest cannot be true together."""
    config = manifest.base.config
    _check_labels(manifest.head, manifest.labels)
    if not 5 <= manifest.max_seq_length <= config.max_position_embeddings:
        raise ValueError(f"max_seq_length {manifest.max_seq_length}: the base has "
                         f"{config.max_position_embeddings} positions")
    if manifest.spans and manifest.spans.doc_stride * MOST_OVERLAPPING < manifest.max_seq_length:
        raise ValueError(f"doc_stride {manifest.spans.doc_stride}: windows of "
                         f"{manifest.max_seq_length} need at least "
                         f"{-(-manifest.max_seq_length // MOST_OVERLAPPING)}")
    if bool(manifest.adapter) != tuning_modes.uses_adapters(manifest.tuning):
        raise ValueError(f"tuning {manifest.tuning!r} and the adapter contradict each other")
    for name, most in MOST.items():
        if getattr(config, name) > most:
            raise ValueError(f"a base with {name} {checks.short(getattr(config, name))}, more than "
                             f"{most}")
    if manifest.adapter:
        _check_adapter(manifest.adapter, config.num_hidden_layers)
    if manifest.tuning == "full":
        raise ValueError("full tuning changes the whole model: it makes a checkpoint, not a pack")
    parameters = sum(math.prod(shape) for shape in manifest.shapes().values())
    least = parameters * DTYPES[manifest.weights.dtype] if manifest.weights else 0
    if manifest.weights and not least < manifest.weights.bytes <= least + HEADER_LIMIT:
        raise ValueError(f"weights of {manifest.weights.bytes} bytes for {parameters} parameters")


def _check_adapter(adapter, layers):
    """ValueError where an AdapterConfig has a number that no trained one has."""
    for name, most in MOST_OF_ADAPTER.items():
        if abs(getattr(adapter, name)) > most:
            raise ValueError(f"an adapter with {name} {checks.short(getattr(adapter, name))}, more "
                             f"than {most:g}")
    adapters.attach(adapter, layers)   # its layers exist


def _check_labels(head, labels):
    """ValueError where a kind of head cannot have these labels."""
    if bool(labels) != (HEADS[head].width is None) or len(labels) == 1:
        raise ValueError(f"a head for {head} with {len(labels)} labels")
    if len(set(labels)) != len(labels) or len(labels) > MOST_LABELS:
        raise ValueError("labels that are not all different, or too many")


def check_pairs(manifest, is_pair):
    """InputError where pairs are asked of a task of single texts, or the other way."""
    if manifest.pair not in (None, is_pair):
        kinds = {True: "pairs of texts", False: "single texts"}
        raise InputError(f"the pack of {manifest.task} is for {kinds[manifest.pair]}, not for "
                         f"{kinds[is_pair]}")


def _base(values):
    base = _part(Base, values, "base", _BASE_CHECKS)
    return dataclasses.replace(base, config=modeling.BertConfig.from_dict(base.config))


def _meta(values):
    meta = _part(Meta, values, "meta", _META_CHECKS)
    return dataclasses.replace(meta, domains=tuple(meta.domains))


def _part(kind, values, name, wanted):
    """A dataclass of one object in a pack.json."""
    if values.keys() != wanted.keys():
        raise ValueError(f"{name} has the keys {', '.join(values)}, not {', '.join(wanted)}")
    checks.check(values, wanted, f"{name}.{{}}")
    return kind(**values)


def _dump(values):
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _is_split(value):
    return (isinstance(value, dict) and value.keys() == {"examples", "sha256"}
            and checks.is_count(value["examples"]) and checks.is_hash(value["sha256"]))


_CHECKS = {
    "task": (lambda value: checks.is_text(value) and value.isprintable() and value, "a name"),
    "head": (lambda value: isinstance(value, str) and value in HEADS, f"one of {sorted(HEADS)}"),
    "labels": (checks.is_texts, "names"),
    "pair": (lambda value: value is None or checks.is_bool(value), "true, false or null"),
    "tuning": (checks.is_text, "a tuning mode"),
    "adapter": (lambda value: value is None or value and checks.is_dict(value),
                "the keys of an adapter"),
    "base": (checks.is_dict, "the keys of a base"),
    "do_lower_case": checks.BOOL,
    "max_seq_length": checks.COUNT,
    "metrics": checks.NUMBERS,
    "data": (checks.is_dict_of(_is_split), "splits with examples and sha256"),
    "versions": (checks.is_dict_of(checks.is_text), "versions by name"),
    "license": checks.TEXT,
    "description": checks.TEXT,
    "spans": (checks.is_dict, "the keys of the spans"),
    "meta": (checks.is_dict, "the keys of the meta-training"),
    "warning": checks.TEXT,
    "weights": (checks.is_dict, "the keys of the weights"),
}
_BASE_CHECKS = {"name": checks.TEXT, "fingerprint": checks.HASH, "vocab": checks.HASH,
                "config": (checks.is_dict, "the keys of a bert_config.json")}
_WEIGHTS_CHECKS = {"dtype": (lambda value: isinstance(value, str) and value in DTYPES,
                             f"one of {sorted(DTYPES)}"),
                   "bytes": (checks.is_count, "a count of bytes"), "sha256": checks.HASH}
_SPANS_CHECKS = {
    "max_query_length": checks.whole(0, checks.MOST_POSITIONS),
    "doc_stride": checks.whole(1, checks.MOST_POSITIONS),
    "n_best_size": checks.whole(1, checks.MOST_N_BEST),
    "max_answer_length": checks.whole(1, checks.MOST_POSITIONS),
    "null_threshold": (lambda value: value is None or (
        type(value) is float and checks.is_number(value)), "a number with a point, or null")}
_META_CHECKS = {
    "algorithm": checks.TEXT, "inner_optimizer": checks.TEXT,
    "inner_update_lr": (lambda value: type(value) is float and checks.is_number(value),
                        "a number with a point"),
    "inner_update_step": checks.COUNT, "domains": (checks.is_texts, "names")}
