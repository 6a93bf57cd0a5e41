"""The function that TPUEstimator calls: BERT, adapters, head, loss and train op of a task."""
import dataclasses
import functools
import itertools

import tensorflow.compat.v1 as tf

import adapter_layers
import modeling
import optimization
from adapter_bert import heads
from adapter_bert.training import checkpoints
from adapter_bert.training.hooks import ProgressHook


@dataclasses.dataclass(frozen=True)
class Model:
    """What is built: the base, what is attached, what trains, and the head.

    adapter is None for a model without adapters; kind is a key of heads.HEADS; precision is the
    type of products and activations.
    """

    bert_config: modeling.BertConfig
    kind: str
    num_labels: int
    tuning: str
    adapter: adapter_layers.AdapterConfig | None
    precision: str = "float32"

    @property
    def rules(self):
        """What trains, see adapter_layers.tuning_rules."""
        return adapter_layers.tuning_rules(self.tuning, self.bert_config.num_hidden_layers)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How it trains: the optimizer's numbers and the seed of dropout."""

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: int
    bias_correction: bool
    seed: int


def network(model, features, is_training, formulas, use_tpu, getter):
    """BERT with its adapters and head for one batch.

    Args:
      model: Model.
      features: {"input_ids", "input_mask", "segment_ids"} int32 [B, T]; label_ids [B] or none.
      is_training: bool.
      formulas: modeling.Formulas.
      use_tpu: embeddings are looked up by product.
      getter: custom_getter of the variables.

    Returns:
      heads.Output.
    """
    methods = adapter_layers.attach(model.adapter, model.bert_config.num_hidden_layers)
    with tf.variable_scope(tf.get_variable_scope(), custom_getter=getter):
        bert = modeling.BertModel(
            model.bert_config, is_training, features["input_ids"], features["input_mask"],
            features["segment_ids"], use_one_hot_embeddings=use_tpu, methods=methods,
            formulas=formulas, dtype=tf.as_dtype(model.precision))
        pooled = bert.get_pooled_output()
        if is_training:
            pooled = formulas.dropout(pooled, heads.HEAD_DROPOUT)
        return heads.HEADS[model.kind](pooled, model.num_labels, features.get("label_ids"))


def towers(model, features, count, is_training, formulas, use_tpu=False):
    """The network of a batch that is cut into `count` parts, which run side by side.

    A part a core, each on one thread, leaves no core waiting at the end of every operation.

    Args:
      model, features, is_training, formulas, use_tpu: as for `network`.
      count: parts; 1 for the whole batch at once.

    Returns:
      heads.Output of the whole batch, and {name: variable}.
    """
    variables = {}
    frozen = tf.GraphKeys.GLOBAL_VARIABLES if use_tpu else tf.GraphKeys.LOCAL_VARIABLES
    getter = adapter_layers.tuning_getter(model.rules, frozen, variables,
                                          tf.as_dtype(model.precision))
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
    if len(outputs) == 1:
        return outputs[0]
    predictions = {name: tf.concat([output.predictions[name] for output in outputs], axis=0)
                   for name in outputs[0].predictions}
    if outputs[0].losses is None:
        return heads.Output(predictions, None)
    return heads.Output(predictions, tf.concat([output.losses for output in outputs], axis=0))


def build_model_fn(model, start, engine, schedule=None, announce=lambda variables: None,
                   use_tpu=False, progress=None):
    """The model_fn of a task.

    Args:
      model: Model.
      start: checkpoints.Start, where first values come from.
      engine: engine.Engine, the formulas and the number of towers.
      schedule: Schedule; None where nothing is trained.
      announce: called with the list of the model's variables when the graph is built.
      use_tpu: bool.
      progress: hooks.Progress that training reports to; None for none.
    """
    def model_fn(features, labels, mode, params):
        del labels, params
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        formulas = engine.formulas(schedule.seed if is_training else 0, is_training)
        output, variables = towers(model, features, engine.towers, is_training, formulas, use_tpu)
        variables = list(variables.values())
        announce(variables)
        scaffold_fn = functools.partial(checkpoints.scaffold, variables, start, is_training)
        if not is_training:   # evaluation is prediction of examples with labels
            return tf.estimator.tpu.TPUEstimatorSpec(
                mode, predictions=prediction_columns(output, features), scaffold_fn=scaffold_fn)
        loss = tf.reduce_mean(output.losses)
        checkpoints.fingerprint_variable(start.fingerprint)
        train_op = optimization.create_optimizer(
            loss, schedule.learning_rate, schedule.num_train_steps, schedule.num_warmup_steps,
            use_tpu, bias_correction=schedule.bias_correction)
        if not use_tpu:   # a TPU's graph holds no summaries
            tf.summary.scalar("learning_rate", optimization.learning_rate_schedule(
                tf.train.get_global_step(), schedule.learning_rate, schedule.num_train_steps,
                schedule.num_warmup_steps))
        return tf.estimator.tpu.TPUEstimatorSpec(
            mode, loss=loss, train_op=train_op, scaffold_fn=scaffold_fn,
            training_hooks=None if use_tpu or not progress else [ProgressHook(progress, loss)])
    return model_fn


def prediction_columns(output, features):
    """The head's predictions with each example's `index`, and its loss where labels are there."""
    columns = {**output.predictions, "index": features["index"]}
    return columns if output.losses is None else {**columns, "losses": output.losses}
