"""Bottleneck adapters (Houlsby et al., ICML 2019) and their kin, and which variables train.

Letters: B batch, T tokens, D hidden, A adapter width, L layers.
"""
import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

import adapter_methods
import modeling

# The scope of each site in a layer, and the sites of each placement.
SCOPES = {"query": "attention/self/query", "key": "attention/self/key",
          "value": "attention/self/value", "prefix": "attention/self",
          "attention_output": "attention/output", "intermediate": "intermediate",
          "output": "output"}
PLACEMENTS = {
    "both": ("attention_output", "output"),
    "attention": ("attention_output",),
    "feed_forward": ("output",),
}


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Size and place of the adapters, and what they are.

    Args:
      size: width A of the bottleneck, at least 1; the rank of a LoRA, the keys of a prefix.
      placement: "both" (after attention and after feed-forward, as in the paper), "attention" or
        "feed_forward"; of no account to a method with sites of its own.
      layers: 0-based layers that get adapters; None for all.
      activation: a key of `modeling.ACTIVATIONS`; "gelu" is the tanh form, as in the reference.
      init_stddev: standard deviation of the initial weights (the paper says 1e-2, its code 1e-3).
      adapter_fn: a key of `ADAPTERS`.
      original_ln_before: the adapter reads LayerNorm(output + residual) in the place of the output,
        and the same LayerNorm follows once more (Pfeiffer et al., 2021, as AdapterHub's library
        computes it).
      residual_before_ln: what is added to the adapter's result is the output of the projection;
        False adds what the adapter reads.
      scale: what a method that has one multiplies its result by: He's s, LoRA's alpha / r.

    Raises:
      ValueError: a value that no adapter can have.
    """

    size: int = 64
    placement: str = "both"
    layers: tuple[int, ...] | None = None
    activation: str = "gelu"
    init_stddev: float = dataclasses.field(default=1e-3, compare=False)   # no part of what it is
    adapter_fn: str = "feedforward_adapter"
    original_ln_before: bool = False
    residual_before_ln: bool = True
    scale: float = 1.0

    def __post_init__(self):
        if self.layers is not None:
            object.__setattr__(self, "layers", as_layers(self.layers))
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"adapter size {self.size!r}: must be a whole number of at least 1")
        if type(self.init_stddev) not in (int, float) or not 0 <= self.init_stddev < math.inf:
            raise ValueError(f"adapter init_stddev {self.init_stddev!r}: must be a number from 0")
        if type(self.scale) not in (int, float) or not 0 < abs(self.scale) < math.inf:
            raise ValueError(f"adapter scale {self.scale!r}: must be a number other than 0")
        for key, known in (("placement", PLACEMENTS), ("activation", modeling.ACTIVATIONS),
                           ("adapter_fn", ADAPTERS)):
            value = getattr(self, key)
            if not isinstance(value, str) or value not in known:
                raise ValueError(f"adapter {key} {value!r}: not one of {sorted(known)}")
        for key in ("original_ln_before", "residual_before_ln"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"adapter {key} {getattr(self, key)!r}: must be true or false")

    @classmethod
    def from_dict(cls, values):
        """The config of a dict; ValueError for an unknown key."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown adapter keys {unknown}")
        return cls(**values)

    def to_dict(self):
        """The config as a dict of JSON values; a scale of 1, which packs may lack, is left out."""
        values = dataclasses.asdict(self)
        if self.scale == 1:
            del values["scale"]
        return {**values, "layers": None if self.layers is None else list(self.layers)}


def as_layers(values):
    """Numbers of layers as a tuple; ValueError where they are none, or not rising from 0."""
    is_list = isinstance(values, (list, tuple))
    if not is_list or any(type(value) is not int or value < 0 for value in values) or sorted(
            set(values)) != list(values):
        raise ValueError(f"adapter layers {values!r}: must be whole numbers in rising order")
    return tuple(values)


def feedforward_adapter(x, residual, config, formulas):
    """h + W2 f(W1 x + b1) + b2, the bottleneck of the paper's figure 2, where x is h.

    Args:
      x: float [B, T, D], the output of a projection after its dropout.
      residual: float [B, T, D], what is added: h.
      config: AdapterConfig.
      formulas: modeling.Formulas.

    Returns:
      Float [B, T, D]. With `init_stddev` 0 it starts as `residual` exactly.
    """
    first = adapter_methods.first_values(config)
    weights1, down, weights2, up = adapter_methods.bottleneck_weights(
        x.shape[-1], config.size, first, first)
    hidden = formulas.linear(x, weights1, down, config.activation)     # [B, T, A]
    return formulas.linear(hidden, weights2, up, residual=residual)


def bottleneck(site, config):
    """`feedforward_adapter` at a site: it reads the output, or with `original_ln_before` what the
    site's LayerNorm makes of it.  modeling.Site, AdapterConfig -> float [B, T, D]."""
    x = site.normalized() if config.original_ln_before else site.output
    residual = site.output if config.residual_before_ln else x
    return feedforward_adapter(x, residual, config, site.formulas)


class Kind(NamedTuple):
    """A kind of adapter.

    build: function (modeling.Site, AdapterConfig) -> what stands in the place of the site's output.
    sites: names of the sites it attaches to; () for those of the config's placement.
    is_scaled: whether its last product, with weights2 and biases2, is multiplied by the config's
      scale.
    is_padded: whether zeros for values that it lacks change nothing, be it a wider adapter or one
      in a layer that has none; else a batch can hold those of one size and layers only.
    merge: function (AdapterConfig, weights, base) -> {name of a variable: array} of a base that
      computes the same without it, see adapter_methods.merge_lora; None where there is none.
    """

    build: Callable
    sites: tuple[str, ...] = ()
    is_scaled: bool = False
    is_padded: bool = True
    merge: Callable | None = None


ADAPTERS = {
    "feedforward_adapter": Kind(bottleneck),
    "parallel_adapter": Kind(adapter_methods.parallel, is_scaled=True),
    "lora": Kind(adapter_methods.lora, ("query", "value"), is_scaled=True,
                 merge=adapter_methods.merge_lora),
    "ia3": Kind(adapter_methods.ia3, ("key", "value", "intermediate")),
    "prefix": Kind(adapter_methods.prefix, ("prefix",), is_padded=False),
}

# Published methods: the fields of an AdapterConfig, and what trains, see `tuning_rules`.
METHODS: dict[str, dict] = {
    "houlsby": {"adapter_fn": "feedforward_adapter", "placement": "both",
                "original_ln_before": False, "tuning": "adapters"},
    "pfeiffer": {"adapter_fn": "feedforward_adapter", "placement": "feed_forward",
                 "original_ln_before": True, "activation": "relu", "init_stddev": 2e-2,
                 "tuning": "adapters_only"},
    "parallel": {"adapter_fn": "parallel_adapter", "placement": "feed_forward", "scale": 4.0,
                 "activation": "relu", "init_stddev": 2e-2, "tuning": "adapters_only"},
    "lora": {"adapter_fn": "lora", "size": 8, "init_stddev": 2e-2, "tuning": "adapters_only"},
    "ia3": {"adapter_fn": "ia3", "size": 1, "tuning": "adapters_only"},
    "prefix": {"adapter_fn": "prefix", "size": 16, "init_stddev": 2e-2, "tuning": "adapters_only"},
}


def sites_of(config):
    """The names of the sites in a layer that an AdapterConfig's adapters attach to."""
    return ADAPTERS[config.adapter_fn].sites or PLACEMENTS[config.placement]


def zeros_are_none(config):
    """Whether adapters of zeros compute what a model without adapters does."""
    return config.residual_before_ln and ADAPTERS[config.adapter_fn].is_padded


def attach(config, num_layers):
    """The methods of `modeling.BertModel` that put adapters where `config` says.

    Args:
      config: AdapterConfig, or None for no adapters.
      num_layers: L of the model.

    Returns:
      {site name: modeling.Method}.

    Raises:
      ValueError: a layer that the model does not have.
    """
    if config is None:
        return {}
    outside = [layer for layer in config.layers or () if not 0 <= layer < num_layers]
    if outside:
        raise ValueError(f"adapter layers {outside}: the model has layers 0 to {num_layers - 1}")
    method = functools.partial(adapt, config)
    return {site: method for site in sites_of(config)}


def adapt(config, site):
    """The output of a `modeling.Site` after its adapter, or as it is in a layer without one."""
    if config.layers is not None and site.layer not in config.layers:
        return site.output
    return ADAPTERS[config.adapter_fn].build(site, config)


def variable_shapes(config, bert_config):
    """{name: shape tuple} of the adapters of a model.

    Args:
      config: AdapterConfig.
      bert_config: modeling.BertConfig of the model.
    """
    layers = range(bert_config.num_hidden_layers) if config.layers is None else config.layers
    kind, shapes = ADAPTERS[config.adapter_fn], {}
    for site in sites_of(config):
        with tf.Graph().as_default():
            kind.build(stand_in(site, bert_config), config)
            shapes |= {f"{SCOPES[site]}/{variable.op.name}": tuple(variable.shape.as_list())
                       for variable in tf.global_variables()}
    return {f"bert/encoder/layer_{layer}/{name}": shape for layer in layers
            for name, shape in shapes.items()}


def stand_in(name, bert_config):
    """A modeling.Site with the widths of a model and no model around it."""
    x = tf.zeros([1, 1, bert_config.hidden_size])
    wide = tf.zeros([1, 1, bert_config.intermediate_size])
    output = {"intermediate": wide, "prefix": None}.get(name, x)
    return modeling.Site(name, 0, wide if name == "output" else x, output, x,
                         modeling.plain_formulas(), lambda: x)


FROZEN = "frozen"
ADAPTER = (r"/adapters/", "adapters")
LAYER_NORM = (r"^bert/.*/LayerNorm/", "layer_norm")
POOLER = (r"^bert/pooler/", "pooler")
HEAD = (r"^(?!bert/)", "head")
REST_FROZEN = (r"", FROZEN)

# {tuning mode that leaves the pooler frozen: the mode that trains it as well}
POOLER_MODES = {"adapters": "adapters_norms_pooler", "adapters_only": "adapters_pooler",
                "adapters_drop": "adapters_drop_pooler", "layer_norm": "layer_norm_pooler",
                "bias": "bias_pooler", "head": "head_pooler"}


def tuning_rules(tuning, num_layers, adapter=None):
    """What trains in a tuning mode: [(pattern, group or FROZEN)], the first match wins.

    | tuning                | trained besides the head                                             |
    |-----------------------|----------------------------------------------------------------------|
    | adapters              | adapters and every LayerNorm, the embeddings' too (Houlsby et al.,   |
    |                       | 2019)                                                                |
    | adapters_drop         | adapters, and the LayerNorms of their first layer and above:         |
    |                       | AdapterDrop (Rücklé et al., 2021); the layers below need no backward |
    |                       | pass                                                                 |
    | adapters_only         | adapters: what AdapterHub's format can carry                         |
    | adapters_pooler       | adapters and the pooler, AdapterHub's head of two layers             |
    | adapters_norms_pooler | adapters, every LayerNorm and the pooler: for a base whose own was   |
    |                       | not trained, as of sentence encoders                                 |
    | full                  | everything                                                           |
    | top_layers=K          | the last K layers and the pooler (the paper's "variable fine-        |
    |                       | tuning")                                                             |
    | layer_norm            | every LayerNorm                                                      |
    | bias                  | every bias, LayerNorm's beta among them (BitFit, Ben Zaken et al.,   |
    |                       | 2022)                                                                |
    | head                  | nothing                                                              |

    Each mode that leaves the pooler frozen has a twin that trains it, see `with_pooler`.

    Args:
      tuning: str.
      num_layers: L of the model.
      adapter: AdapterConfig; None in a mode without adapters.

    Raises:
      ValueError: an unknown mode, or K outside 1..L.
    """
    modes = {
        "adapters": [ADAPTER, LAYER_NORM, HEAD, REST_FROZEN],
        "adapters_drop": [ADAPTER, layer_norms_above(adapter, num_layers), HEAD, REST_FROZEN],
        "adapters_only": [ADAPTER, HEAD, REST_FROZEN],
        "adapters_pooler": [ADAPTER, POOLER, HEAD, REST_FROZEN],
        "adapters_norms_pooler": [ADAPTER, LAYER_NORM, POOLER, HEAD, REST_FROZEN],
        "full": [(r"^bert/embeddings/", "embeddings"), (r"^bert/encoder/", "encoder"), POOLER,
                 HEAD],
        "layer_norm": [LAYER_NORM, HEAD, REST_FROZEN],
        "bias": [(r"^bert/.*/(bias|beta)$", "bias"), HEAD, REST_FROZEN],
        "head": [HEAD, REST_FROZEN],
    }
    modes |= {twin: [POOLER, *modes[mode]] for mode, twin in POOLER_MODES.items()
              if twin not in modes}
    if tuning in modes:
        return modes[tuning]
    match = re.fullmatch(r"top_layers=(\d+)", tuning)
    if not match:
        raise ValueError(f"tuning {tuning!r}: not one of {sorted(modes)} or top_layers=K")
    return top_layers_rules(int(match[1]), num_layers)


def top_layers_rules(count, num_layers):
    """The rules that train the last `count` layers, the pooler and the head."""
    if not 1 <= count <= num_layers:
        raise ValueError(f"tuning top_layers={count}: the model has {num_layers} layers")
    top = layers_from(num_layers - count, num_layers)
    return [(top, "top_layers"), POOLER, HEAD, REST_FROZEN]


def layers_from(first, num_layers):
    """The pattern of what lies in the layers from `first` on."""
    return rf"^bert/encoder/layer_({'|'.join(map(str, range(first, num_layers)))})/"


def layer_norms_above(adapter, num_layers):
    """The rule of the LayerNorms of the first layer with an adapter and of all above it."""
    first = min(adapter.layers, default=num_layers) if adapter and adapter.layers is not None else 0
    return (layers_from(first, num_layers) + r".*/LayerNorm/", "layer_norm")


def with_pooler(tuning):
    """The mode that trains the pooler besides what `tuning` trains; `tuning` where that does."""
    return POOLER_MODES.get(tuning, tuning)


def without_pooler(tuning):
    """The mode of which `tuning` is `with_pooler`; `tuning` where it is of none."""
    return next((mode for mode, twin in POOLER_MODES.items() if twin == tuning), tuning)


def uses_adapters(tuning):
    """Whether a model in this tuning mode has adapters."""
    return tuning.startswith("adapters")


def group_of(name, rules):
    """The group of the first rule that matches a variable's name; ValueError where none does."""
    for pattern, group in rules:
        if re.search(pattern, name):
            return group
    raise ValueError(f"no tuning rule covers the variable {name}")


PRODUCT_WEIGHT = re.compile(r"/(kernel|weights[12])$")


def tuning_getter(rules, frozen_collection=tf.GraphKeys.LOCAL_VARIABLES, made=None,
                  dtype=tf.float32, first_values=None):
    """A `custom_getter` for `tf.variable_scope` that makes each variable train or stay.

    A frozen variable has no gradient and no optimizer slot. In the LOCAL_VARIABLES collection it
    is also left out of checkpoints, and set from its initializer at every start of a session.

    Args:
      rules: what `tuning_rules` returns.
      frozen_collection: the collection of frozen variables; GLOBAL_VARIABLES puts them into
        checkpoints (what TPU needs).
      made: a dict that takes every variable under its name, in the order of their making.
      dtype: the type of the weights of matrix products. A frozen one is kept in it; one that trains
        is kept in float32, and what arrives is a cast copy, the same one wherever it is asked for.
      first_values: {name: float32 tensor} of the variables that do not start with what their
        initializer makes.
    """
    made, copies, first_values = {} if made is None else made, {}, first_values or {}

    def tune(getter, name, *args, **options):
        is_frozen, is_factor = group_of(name, rules) == FROZEN, PRODUCT_WEIGHT.search(name)
        if is_frozen:
            options.update(trainable=False, collections=[frozen_collection],
                           dtype=dtype if is_factor else tf.float32)
        if name in first_values:
            options["initializer"] = lambda shape, dtype: tf.cast(first_values[name], dtype)
        variable = getter(name, *args, **options)
        made.setdefault(name, variable)
        if is_frozen or not is_factor or dtype == tf.float32:
            return variable
        if name not in copies:
            copies[name] = tf.cast(variable, dtype)
        return copies[name]
    return tune


def count_parameters(variables, rules):
    """{group: {"variables": count, "parameters": count}} in the order of the rules."""
    counts = {group: {"variables": 0, "parameters": 0} for _, group in rules}
    for variable in variables:
        row = counts[group_of(variable.op.name, rules)]
        row["variables"] += 1
        row["parameters"] += variable.shape.num_elements()
    return {group: row for group, row in counts.items() if row["variables"]}
