"""Bottleneck adapters (Houlsby et al., ICML 2019), and which variables of a model train.

Letters: B batch, T tokens, D hidden, A adapter width, L layers.
"""
import dataclasses
import functools
import math
import re
from collections.abc import Callable

import tensorflow.compat.v1 as tf

import modeling

# The scope of each site in a layer, and the sites of each placement.
SCOPES = {"attention_output": "attention/output", "output": "output"}
PLACEMENTS = {
    "both": ("attention_output", "output"),
    "attention": ("attention_output",),
    "feed_forward": ("output",),
}


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Size and place of the adapters.

    Args:
      size: width A of the bottleneck, at least 1.
      placement: "both" (after attention and after feed-forward, as in the paper), "attention" or
        "feed_forward".
      layers: 0-based layers that get adapters; None for all.
      activation: a key of `modeling.ACTIVATIONS`; "gelu" is the tanh form, as in the reference.
      init_stddev: standard deviation of the initial weights (the paper says 1e-2, its code 1e-3).
      adapter_fn: a key of `ADAPTERS`.
      original_ln_before: the adapter reads LayerNorm(output + residual) in the place of the output,
        and the same LayerNorm follows once more (Pfeiffer et al., 2021, as AdapterHub's library
        computes it).
      residual_before_ln: what is added to the adapter's result is the output of the projection;
        False adds what the adapter reads.

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

    def __post_init__(self):
        if self.layers is not None:
            object.__setattr__(self, "layers", as_layers(self.layers))
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"adapter size {self.size!r}: must be a whole number of at least 1")
        if type(self.init_stddev) not in (int, float) or not 0 <= self.init_stddev < math.inf:
            raise ValueError(f"adapter init_stddev {self.init_stddev!r}: must be a number from 0")
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
        """The config as a dict of JSON values."""
        values = dataclasses.asdict(self)
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
    width, size = x.shape[-1], config.size
    initializer = tf.truncated_normal_initializer(stddev=config.init_stddev)
    zeros = tf.zeros_initializer()
    with tf.variable_scope("adapters"):
        weights1 = tf.get_variable("weights1", [width, size], initializer=initializer)
        biases1 = tf.get_variable("biases1", [1, size], initializer=zeros)
        weights2 = tf.get_variable("weights2", [size, width], initializer=initializer)
        biases2 = tf.get_variable("biases2", [1, width], initializer=zeros)
    down, up = tf.squeeze(biases1, axis=-2), tf.squeeze(biases2, axis=-2)
    hidden = formulas.linear(x, weights1, down, config.activation)     # [B, T, A]
    return formulas.linear(hidden, weights2, up, residual=residual)


ADAPTERS: dict[str, Callable] = {"feedforward_adapter": feedforward_adapter}


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
    return {site: method for site in PLACEMENTS[config.placement]}


def adapt(config, site):
    """The output of a `modeling.Site` after its adapter, or as it is in a layer without one."""
    if config.layers is not None and site.layer not in config.layers:
        return site.output
    x = site.normalized() if config.original_ln_before else site.output
    residual = site.output if config.residual_before_ln else x
    return ADAPTERS[config.adapter_fn](x, residual, config, site.formulas)


def variable_shapes(config, width, num_layers):
    """{name: shape tuple} of the adapters of a model.

    Args:
      config: AdapterConfig.
      width: D of the model.
      num_layers: L of the model.
    """
    with tf.Graph().as_default():
        x = tf.zeros([1, 1, width])
        ADAPTERS[config.adapter_fn](x, x, config, modeling.plain_formulas())
        shapes = {variable.op.name: tuple(variable.shape.as_list())
                  for variable in tf.global_variables()}
    layers = range(num_layers) if config.layers is None else config.layers
    return {f"bert/encoder/layer_{layer}/{SCOPES[site]}/{name}": shape for layer in layers
            for site in PLACEMENTS[config.placement] for name, shape in shapes.items()}


FROZEN = "frozen"
ADAPTER = (r"/adapters/", "adapters")
LAYER_NORM = (r"^bert/.*/LayerNorm/", "layer_norm")
POOLER = (r"^bert/pooler/", "pooler")
HEAD = (r"^(?!bert/)", "head")
REST_FROZEN = (r"", FROZEN)


def tuning_rules(tuning, num_layers):
    """What trains in a tuning mode: [(pattern, group or FROZEN)], the first match wins.

    | tuning          | trained besides the head                                                 |
    |-----------------|--------------------------------------------------------------------------|
    | adapters        | adapters and every LayerNorm, the embeddings' too (Houlsby et al., 2019) |
    | adapters_only   | adapters: what AdapterHub's format can carry                             |
    | adapters_pooler | adapters and the pooler, AdapterHub's head of two layers                 |
    | full            | everything                                                               |
    | top_layers=K    | the last K layers and the pooler (the paper's "variable fine-tuning")    |
    | layer_norm      | every LayerNorm                                                          |
    | bias            | every bias, LayerNorm's beta among them (BitFit, Ben Zaken et al., 2022) |
    | head            | nothing                                                                  |

    Raises:
      ValueError: an unknown mode, or K outside 1..L.
    """
    modes = {
        "adapters": [ADAPTER, LAYER_NORM, HEAD, REST_FROZEN],
        "adapters_only": [ADAPTER, HEAD, REST_FROZEN],
        "adapters_pooler": [ADAPTER, POOLER, HEAD, REST_FROZEN],
        "full": [(r"^bert/embeddings/", "embeddings"), (r"^bert/encoder/", "encoder"), POOLER,
                 HEAD],
        "layer_norm": [LAYER_NORM, HEAD, REST_FROZEN],
        "bias": [(r"^bert/.*/(bias|beta)$", "bias"), HEAD, REST_FROZEN],
        "head": [HEAD, REST_FROZEN],
    }
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
    top = "|".join(str(layer) for layer in range(num_layers - count, num_layers))
    return [(rf"^bert/encoder/layer_({top})/", "top_layers"), POOLER, HEAD, REST_FROZEN]


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
                  dtype=tf.float32):
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
    """
    made, copies = {} if made is None else made, {}

    def tune(getter, name, *args, **options):
        is_frozen, is_factor = group_of(name, rules) == FROZEN, PRODUCT_WEIGHT.search(name)
        if is_frozen:
            options.update(trainable=False, collections=[frozen_collection],
                           dtype=dtype if is_factor else tf.float32)
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
