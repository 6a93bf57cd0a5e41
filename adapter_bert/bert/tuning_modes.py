"""Tuning modes: which variables train, and where the others are kept.

Letters: L layers.
"""
import re

import tensorflow.compat.v1 as tf

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
