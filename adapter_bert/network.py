"""The network of a task: BERT, what is attached to it, and the head, for one batch.

Letters: B batch, T tokens.
"""
import dataclasses
import functools
import itertools

import tensorflow.compat.v1 as tf

from adapter_bert import files, kernels
from adapter_bert.bert import adapters, checkpoint_io, modeling, tuning_modes
from adapter_bert.errors import InputError
from adapter_bert.kinds import heads


@dataclasses.dataclass(frozen=True)
class Model:
    """What is built: the base, what is attached, what trains, and the head.

    kind: key of heads.HEADS.
    num_outputs: the count of the head's outputs, see heads.width.
    adapter: None for a model without adapters.
    precision: type of products and activations.
    """

    bert_config: modeling.BertConfig
    kind: str
    num_outputs: int
    tuning: str
    adapter: adapters.AdapterConfig | None
    precision: str = "float32"

    @property
    def rules(self):
        """What trains, see tuning_modes.tuning_rules."""
        return tuning_modes.tuning_rules(self.tuning, self.bert_config.num_hidden_layers,
                                           self.adapter)


def read_config(path):
    """The BertConfig of a file; InputError where it is not one."""
    values = files.read_object(path)
    try:
        return modeling.BertConfig.from_dict(values)
    except ValueError as error:
        raise InputError(f"{path}: not a BERT's config: {error}") from error


def network(model, features, is_training, formulas, use_tpu, getter, head=None):
    """BERT with its adapters and head for one batch.

    Args:
      model: Model.
      features: {"input_ids", "input_mask", "segment_ids"} int32 [B, T]; what the head reads.
      is_training: bool.
      formulas: modeling.Formulas.
      use_tpu: embeddings are looked up by product.
      getter: custom_getter of the variables.
      head: function as kinds.heads.Head.build, in the place of that of model.kind.

    Returns:
      heads.Output.
    """
    kind = heads.HEADS[model.kind]
    methods = adapters.attach(model.adapter, model.bert_config.num_hidden_layers)
    with tf.variable_scope(tf.get_variable_scope(), custom_getter=getter):
        bert = modeling.BertModel(
            model.bert_config, is_training, features["input_ids"], features["input_mask"],
            features["segment_ids"], use_one_hot_embeddings=use_tpu, methods=methods,
            formulas=formulas, dtype=tf.as_dtype(model.precision),
            only_pooled=kind.only_pooled and not head)
        return (head or kind.build)(bert, features, model.num_outputs,
                                    formulas.dropout if is_training else undropped)


def undropped(x, rate):
    """Dropout where nothing is trained: x."""
    del rate
    return x


def towers(model, features, count, is_training, formulas, use_tpu=False, first_values=None):
    """The network of a batch that is cut into `count` parts, which run side by side.

    A part a core, each on one thread, leaves no core waiting at the end of every operation.

    Args:
      model, features, is_training, formulas, use_tpu: as for `network`.
      count: parts; 1 for the whole batch at once.
      first_values: see tuning_modes.tuning_getter.

    Returns:
      heads.Output of the whole batch, and {name: variable}.
    """
    variables = {}
    frozen = tf.GraphKeys.GLOBAL_VARIABLES if use_tpu else tf.GraphKeys.LOCAL_VARIABLES
    getter = tuning_modes.tuning_getter(model.rules, frozen, variables,
                                          tf.as_dtype(model.precision), first_values)
    outputs = []
    for part in split(features, count):
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            outputs.append(network(model, part, is_training, formulas, use_tpu, getter))
    return joined(outputs), variables


def split(features, count):
    """The rows of a batch as `count` batches, the sizes of which differ by 1 at most."""
    if count == 1:
        return [features]
    rows = tf.shape(features["input_ids"])[0]
    ends = [rows * part // count for part in range(count + 1)]
    return [{name: column[start:end] for name, column in features.items()}
            for start, end in itertools.pairwise(ends)]


def joined(outputs):
    """One heads.Output of those of the parts of a batch."""
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *outputs)


@functools.lru_cache
def trained_shapes(model):
    """{name: shape tuple} of the variables of a Model that train."""
    config = model.bert_config
    shapes = checkpoint_io.variable_shapes(config.to_dict()) | heads.HEADS[
        model.kind].variable_shapes(config, model.num_outputs)
    if model.adapter:
        shapes |= adapters.variable_shapes(model.adapter, config)
    return {name: shape for name, shape in shapes.items()
            if tuning_modes.group_of(name, model.rules) != tuning_modes.FROZEN}


def load(session, values):
    """Gives variables other values, all in one run, which is not slowed by the size of the graph.

    Args:
      session: tf.Session.
      values: iterable of (tf.Variable, array).
    """
    feeds = [(variable.initializer, value) for variable, value in values]
    session.run([initializer for initializer, _ in feeds],
                {initializer.inputs[1]: value for initializer, value in feeds})


def start_from(prefix, variables, is_new=lambda variable: True):
    """Makes variables, and the packed copies of them, start with the values of a checkpoint.

    Args:
      prefix: str, of a checkpoint that has float32 values of these names and shapes.
      variables: {name: tf.Variable}, of any type of float.
      is_new: function of a variable or copy -> whether it starts; the others have their values.
    """
    copies = [(name, turned, copy) for name, turned, copy in kernels.copies()
              if name in variables and is_new(copy)]
    starting = [name for name, variable in variables.items() if is_new(variable)]
    shapes = {name: variables[name].shape for name in (*starting, *(name for name, *_ in copies))}
    values = restored(prefix, shapes, lambda name: variables[name].trainable)
    for name in starting:
        start_with(variables[name], values[name])
    for name, turned, copy in copies:
        start_with(copy, kernels.pack(tf.cast(values[name], copy.dtype.base_dtype), turned))


def restored(prefix, shapes, trains=lambda name: False):
    """The values of a checkpoint, read by one operation for what trains and one for the rest.

    Sessions initialize the two at different times. An operation per variable, as
    tf.train.init_from_checkpoint makes them, takes longer to build.

    Args:
      prefix: str, of the checkpoint.
      shapes: {name: shape} of its variables, which the tensors get.
      trains: function of a name -> whether that variable trains.

    Returns:
      {name: float32 tensor}.
    """
    values = {}
    for some in (list(filter(trains, shapes)), list(itertools.filterfalse(trains, shapes))):
        if some:
            values |= zip(some, tf.raw_ops.RestoreV2(
                prefix=prefix, tensor_names=some, shape_and_slices=[""] * len(some),
                dtypes=[tf.float32] * len(some)), strict=True)
    for name, value in values.items():
        value.set_shape(shapes[name])
    return values


def start_with(variable, values):
    """Makes a variable start with these values, a tensor or what becomes one."""
    values = tf.cast(values, variable.dtype.base_dtype)
    variable._initializer_op = variable.assign(values, read_value=False)
