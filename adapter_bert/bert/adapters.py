"""Bottleneck adapters (Houlsby et al., ICML 2019) and other methods: where each attaches to BERT.

A method is a function of a `modeling.Site` and an `AdapterConfig`; its result replaces the site's
output. Its variables are in the scope `adapters` of the site; the factors of a low-rank product are
`weights1` and `weights2`.

Letters: B batch, T tokens, D hidden, F feed-forward, A adapter width, P = A keys of a prefix,
L layers.
"""
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from adapter_bert.bert import modeling

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


def first_values(config):
    """The initializer of weights that do not start at 0."""
    return tf.truncated_normal_initializer(stddev=config.init_stddev)


def bottleneck_weights(width, size, down, up):
    """W1 [D, A], b1 [A], W2 [A, D] and b2 [D], biases zero at first.

    Args:
      width: D.
      size: A.
      down, up: initializers of W1 and W2.
    """
    zeros = tf.zeros_initializer()
    with tf.variable_scope("adapters"):
        weights1 = tf.get_variable("weights1", [width, size], initializer=down)
        biases1 = tf.get_variable("biases1", [1, size], initializer=zeros)
        weights2 = tf.get_variable("weights2", [size, width], initializer=up)
        biases2 = tf.get_variable("biases2", [1, width], initializer=zeros)
    return weights1, tf.squeeze(biases1, axis=-2), weights2, tf.squeeze(biases2, axis=-2)


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
    first = first_values(config)
    weights1, down, weights2, up = bottleneck_weights(
        x.shape[-1], config.size, first, first)
    hidden = formulas.linear(x, weights1, down, config.activation)     # [B, T, A]
    return formulas.linear(hidden, weights2, up, residual=residual)


def bottleneck(site, config):
    """`feedforward_adapter` at a site: it reads the output, or with `original_ln_before` what the
    site's LayerNorm makes of it.  modeling.Site, AdapterConfig -> float [B, T, D]."""
    x = site.normalized() if config.original_ln_before else site.output
    residual = site.output if config.residual_before_ln else x
    return feedforward_adapter(x, residual, config, site.formulas)


def parallel(site, config):
    """h + s (W2 f(W1 x + b1) + b2), where x is what the sublayer reads and h what it gives.

    The scaled parallel adapter of He et al., Towards a Unified View of Parameter-Efficient Transfer
    Learning (ICLR 2022), section 4; s is the config's scale, 4 in their summaries. W2 starts at 0.

    Args:
      site: modeling.Site of attention_output or output.
      config: AdapterConfig.

    Returns:
      Float [B, T, D], at first the site's output exactly.
    """
    weights1, down, weights2, up = bottleneck_weights(
        site.output.shape[-1], config.size, first_values(config), tf.zeros_initializer())
    hidden = site.formulas.linear(site.residual, weights1, down, config.activation)  # [B, T, A]
    return site.formulas.linear(config.scale * hidden, weights2, config.scale * up,
                                residual=site.output)


def lora(site, config):
    """h + s (x A) B, a change of rank r to the projection h = x W + b.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (ICLR 2022), section 4. A is
    `weights1`, B `weights2`, which starts at 0; r is the config's size, and its scale s is what
    they write as alpha / r. There is no dropout of x.

    Args:
      site: modeling.Site of a projection.
      config: AdapterConfig.

    Returns:
      Float [B, T, D], at first the site's output exactly.
    """
    width, size = site.output.shape[-1], config.size
    with tf.variable_scope("adapters"):
        weights1 = tf.get_variable("weights1", [site.input.shape[-1], size],
                                   initializer=first_values(config))
        weights2 = tf.get_variable("weights2", [size, width], initializer=tf.zeros_initializer())
    low = site.formulas.linear(site.input, weights1, tf.zeros([size]))     # [B, T, r]
    return site.formulas.linear(config.scale * low, weights2, tf.zeros([width]),
                                residual=site.output)


def merge_lora(config, weights, base):
    """The kernels of a base with a LoRA's change in them: W + s A B.

    Args:
      config: AdapterConfig of the weights.
      weights: {name: float32 array}, of which those of LoRAs are read.
      base: mapping of the base's variables.

    Returns:
      {name of a kernel: float32 array [D, D]}.
    """
    end = "/adapters/weights1"
    places = [name.removesuffix(end) for name in weights if name.endswith(end)]
    return {f"{place}/kernel": base[f"{place}/kernel"] + config.scale * (
        weights[f"{place}{end}"] @ weights[f"{place}/adapters/weights2"]) for place in places}


def ia3(site, config):
    """(1 + l) h, each feature of the output h times a learned factor.

    (IA)3 of Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
    In-Context Learning (NeurIPS 2022), section 3.3. Their vector is 1 + l here, so that what starts
    at 0 and is pulled there by weight decay is the base.

    Args:
      site: modeling.Site.
      config: AdapterConfig, of which nothing is read.

    Returns:
      Float, as the site's output, and at first that exactly.
    """
    del config
    with tf.variable_scope("adapters"):
        change = tf.get_variable("scale", [site.output.shape[-1]],
                                 initializer=tf.zeros_initializer())
    return site.output * tf.cast(1.0 + modeling.over_tokens(change), site.output.dtype)


def prefix(site, config):
    """P keys and values of each layer that every token attends to, besides the tokens.

    Li & Liang, Prefix-Tuning (ACL 2021), with the prefixes as they are when trained, not as the
    product of a network that is thrown away; He et al. (2022), section 2.2, write it so. A prefix
    has its share of the attention from the first step on, so that the model does not start as the
    base: the values are 0 at first, which makes the context smaller and leaves its direction.

    Args:
      site: modeling.Site of the prefix.
      config: AdapterConfig; its size is P.

    Returns:
      Keys and values, float32 [P, D] each.
    """
    shape = [config.size, site.input.shape[-1]]
    with tf.variable_scope("adapters"):
        return (tf.get_variable("keys", shape, initializer=first_values(config)),
                tf.get_variable("values", shape, initializer=tf.zeros_initializer()))


class Kind(NamedTuple):
    """A kind of adapter.

    build: function (modeling.Site, AdapterConfig) -> what stands in the place of the site's output.
    sites: names of the sites it attaches to; () for those of the config's placement.
    is_scaled: whether its last product, with weights2 and biases2, is multiplied by the config's
      scale.
    is_padded: whether zeros for values that it lacks change nothing, be it a wider adapter or one
      in a layer that has none; else a batch can hold those of one size and layers only.
    merge: function (AdapterConfig, weights, base) -> {name of a variable: array} of a base that
      computes the same without it, see merge_lora; None where there is none.
    """

    build: Callable
    sites: tuple[str, ...] = ()
    is_scaled: bool = False
    is_padded: bool = True
    merge: Callable | None = None


ADAPTERS = {
    "feedforward_adapter": Kind(bottleneck),
    "parallel_adapter": Kind(parallel, is_scaled=True),
    "lora": Kind(lora, ("query", "value"), is_scaled=True,
                 merge=merge_lora),
    "ia3": Kind(ia3, ("key", "value", "intermediate")),
    "prefix": Kind(prefix, ("prefix",), is_padded=False),
}

# Published methods: the fields of an AdapterConfig, and the tuning mode, see `tuning_modes`.
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
