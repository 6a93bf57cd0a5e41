"""Many tasks in one graph: every row of a batch has the adapters, LayerNorms and head of its own.

The weights of the tasks lie in slots, stacks [S, ...] of each variable that a task may bring. A row
is told its slot. A task without adapters has adapters there that add nothing.

Letters: A adapter width, B batch, C classes, D hidden, S slots, T tokens.
"""
import dataclasses
import functools
import re
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert import network
from adapter_bert.bert import adapters, checkpoint_io, modeling, tuning_modes
from adapter_bert.errors import InputError
from adapter_bert.kernels import ops, packing
from adapter_bert.kinds.heads import Output, best_classes, token_logits, width
from adapter_bert.packs.answers import check_head

LAST_PRODUCT = re.compile(r"/adapters/(weights2|biases2)$")
PAD_LOGIT = -1e9   # of the classes that a smaller head does not have
OF_TOKENS = ("spans", "tokens")   # heads that say something of every token
WITH_POOLER = ("adapters_pooler", "adapters_norms_pooler")   # tuning modes
TUNINGS = ("adapters", "adapters_drop", "adapters_only", *WITH_POOLER, "layer_norm", "head")


class Form(NamedTuple):
    """What must be alike in tasks of one graph; all else is padded or has a neutral value.

    adapter: AdapterConfig with the size, placement and layers of the slots.
    classes: C, the most classes of a head.
    pooler: whether tasks bring a pooler.
    of_tokens: whether heads say something of every token, not of the text.
    """

    adapter: adapters.AdapterConfig
    classes: int
    pooler: bool
    of_tokens: bool

    def model(self, config, precision="float32"):
        """The network.Model of a modeling.BertConfig whose weights the slots hold."""
        return network.Model(config, "tokens" if self.of_tokens else "classification",
                             self.classes, "adapters", self.adapter, precision)


def form_of(manifest, size, classes):
    """The Form of a pack's graph.

    Args:
      manifest: manifest.Manifest of the pack.
      size: A of the slots.
      classes: C of the slots.

    Raises:
      InputError: a tuning mode of which a batch cannot have one a row, a head that is not served,
        or a pack too large.
    """
    check_head(manifest)
    own = manifest.adapter or adapters.AdapterConfig()
    if manifest.tuning not in TUNINGS:
        raise InputError(f"{manifest.task}: its tuning mode is {manifest.tuning}; served together "
                         f"are {', '.join(TUNINGS)}")
    outputs = width(manifest.head, manifest.labels)
    if (manifest.adapter and own.size > size) or outputs > classes:
        raise InputError(f"{manifest.task}: adapters of size {own.size} and {outputs} labels, and "
                         f"there is room for {size} and {classes}; start with a higher "
                         "--max_adapter_size or --max_labels")
    adapter = dataclasses.replace(own, init_stddev=0.0, scale=1.0)   # `values_of` multiplies by it
    if adapters.ADAPTERS[own.adapter_fn].is_padded:
        adapter = dataclasses.replace(adapter, size=size)
    if adapters.zeros_are_none(own):
        adapter = dataclasses.replace(adapter, placement="both", layers=None)
    return Form(adapter, classes, manifest.tuning in WITH_POOLER,
                manifest.head in OF_TOKENS)


def shapes_of(form, config):
    """{name: shape tuple} of what a slot holds.

    Args:
      form: Form.
      config: modeling.BertConfig of the base.
    """
    shapes = dict(network.trained_shapes(form.model(config)))
    if form.pooler:
        shapes |= {
            name: shape
            for name, shape in checkpoint_io.variable_shapes(config.to_dict()).items()
            if name.startswith("bert/pooler/")
        }
    return shapes


def values_of(pack, shapes, base_values):
    """{name: float32 array} of a slot: padded, and the base's own where a task brings none.

    An adapter's scale is multiplied into its last product, so that it need not be the same for all
    tasks of a graph.

    Padding changes nothing: what a wider adapter computes beyond its width meets zeros in W2, and
    a class with the logit PAD_LOGIT has the probability 0.

    Args:
      pack: store.Pack.
      shapes: {name: shape tuple} of a slot.
      base_values: mapping of the base's variables.
    """
    values = {}
    for name, shape in shapes.items():
        value = own_value(pack, name) if name in pack.weights else base_values.get(name)
        values[name] = np.full(shape, PAD_LOGIT if name == "output_bias" else 0.0, np.float32)
        if value is not None:
            values[name][tuple(map(slice, value.shape))] = value
    return values


def own_value(pack, name):
    """A weight of a store.Pack, times the adapter's scale where it belongs to its last product."""
    adapter, value = pack.manifest.adapter, pack.weights[name]
    is_scaled = adapter and adapters.ADAPTERS[adapter.adapter_fn].is_scaled
    if is_scaled and adapter.scale != 1 and LAST_PRODUCT.search(name):
        return value * np.float32(adapter.scale)
    return value


class Slots:
    """The stacks of a graph, and the weights that each row of a batch has from them.

    Args:
      shapes: {name: shape tuple} of a slot.
      count: S.
      fused: whether products with a weight a row are computed by our kernel, from packed weights.
      dtype: of the weights of products.
      changes: whether slots get other weights between batches.

    Attributes:
      stacks: {name: variable [S, ...]}.
      packed: {name: shape tuple} of the weights that the kernel reads where a row's task has them,
        so that no slot holds them.
    """

    def __init__(self, shapes, count, fused, dtype, changes=True):
        self._sources, self._dtype = {}, dtype
        self.packed = {name: shape for name, shape in shapes.items() if fused and is_factor(name)
                       and packing.can_pack(list(shape), dtype)}
        # No resources: one that was scattered to is copied whenever it is read.
        self.stacks = {name: tf.get_variable(
            name, [count, *shape], dtype if is_factor(name) else tf.float32,
            tf.zeros_initializer(), trainable=False, use_resource=not changes)
            for name, shape in shapes.items() if name not in self.packed}

    def as_stored(self, values):
        """{name: contiguous array} of a task, as its stack holds it or the kernel reads it."""
        cast = {name: value.astype((self._dtype if is_factor(name) else tf.float32).as_numpy_dtype)
                for name, value in values.items()}
        return {name: packing.packed_array(value) if name in self.packed
                else np.ascontiguousarray(value) for name, value in cast.items()}

    def getter(self, features, otherwise):
        """A custom_getter that hands in the weights of a batch's rows.

        Args:
          features: {"slots": int32 [B], the slot of each row}, and where some are packed
            {"addresses": int64 [B, packed], where these are of each row, in the order of `packed`}.
          otherwise: custom_getter of the variables that no slot holds.
        """
        places = {name: place for place, name in enumerate(self.packed)}

        def get(getter, name, *args, **options):
            if name in places:   # `linear` reads what is at the addresses in the place of this
                stand_in = tf.zeros([0, *self.packed[name]], self._dtype)
                self._sources[stand_in.name] = features["addresses"][:, places[name]]
                return stand_in
            if name in self.stacks:
                return tf.gather(self.stacks[name], features["slots"])
            return otherwise(getter, name, *args, **options)
        return get

    def linear(self, otherwise, x, kernel, bias, activation="linear", rate=0.0, residual=None):
        """See modeling.linear; `otherwise` computes what is not a product with packed weights."""
        addresses = self._sources.get(kernel.name)
        if addresses is None:
            return otherwise(x, kernel, bias, activation, rate, residual)
        bias = tf.broadcast_to(bias, [tf.shape(x)[0], bias.shape[-1]])   # of LoRAs one for all rows
        if activation in ops.FORMS:
            return ops.linear_rows(x, addresses, bias, residual, activation)
        y = ops.linear_rows(x, addresses, tf.zeros_like(bias), None, "linear")
        y = modeling.activate(y, bias, activation)
        return y if residual is None else y + residual


def is_factor(name):
    """Whether a weight is a factor of an adapter's product, which packs and lower types pay for."""
    return bool(tuning_modes.PRODUCT_WEIGHT.search(name)) and "/adapters/" in name


def build(form, config, slots, features, formulas, count, otherwise, precision):
    """What the tasks in the slots make of a batch.

    Args:
      form: Form.
      config: modeling.BertConfig of the base.
      slots: Slots.
      features: {"input_ids", "input_mask", "segment_ids"} int32 [B, T]; what Slots.getter reads.
      formulas: modeling.Formulas for prediction.
      count: parts that the batch is cut into, one a core.
      otherwise: custom_getter of the base's variables.
      precision: type of products and activations.

    Returns:
      {"logits", "probabilities"} float32 [B, C]; of tokens {"label_ids": int32 [B, T],
      "probabilities", "start_logits", "end_logits": float32 [B, T]}.
    """
    model = form.model(config, precision)
    formulas = formulas._replace(linear=functools.partial(slots.linear, formulas.linear))
    outputs = []
    for part in network.split(features, count):
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            outputs.append(network.network(
                model, part, False, formulas, False, slots.getter(part, otherwise),
                _of_every_token if form.of_tokens else None))
    return network.joined(outputs).predictions


def _of_every_token(bert, features, width, dropout):
    """What all kinds of head in OF_TOKENS make of a batch, see kinds.heads.Head.build."""
    logits = token_logits(bert, features, width, dropout).predictions["logits"]   # [B, T, C]
    return Output({**best_classes(logits), "start_logits": logits[:, :, 0],
                   "end_logits": logits[:, :, 1]}, {})
