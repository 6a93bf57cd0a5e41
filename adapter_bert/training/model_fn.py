"""The function that TPUEstimator calls: BERT, adapters, head, loss and train op of a task."""
import dataclasses
import functools
import itertools

import numpy as np
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

    adapter is None for a model without adapters; kind is a key of heads.HEADS.
    """

    bert_config: modeling.BertConfig
    kind: str
    num_labels: int
    tuning: str
    adapter: adapter_layers.AdapterConfig | None

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


def network(model, features, is_training=False, dropout=None, use_tpu=False):
    """BERT with its adapters and head for one batch.

    Args:
      model: Model.
      features: {"input_ids", "input_mask", "segment_ids"} int32 [B, T]; label_ids [B] or none.
      is_training: bool.
      dropout: see modeling.BertModel.
      use_tpu: frozen variables go into checkpoints, embeddings are looked up by product.

    Returns:
      heads.Output and the list of the model's variables.
    """
    frozen = tf.GraphKeys.GLOBAL_VARIABLES if use_tpu else tf.GraphKeys.LOCAL_VARIABLES
    variables = []
    getter = adapter_layers.tuning_getter(model.rules, frozen, variables)
    methods = adapter_layers.attach(model.adapter, model.bert_config.num_hidden_layers)
    with tf.variable_scope(tf.get_variable_scope(), custom_getter=getter):
        bert = modeling.BertModel(
            model.bert_config, is_training, features["input_ids"], features["input_mask"],
            features["segment_ids"], use_one_hot_embeddings=use_tpu, methods=methods,
            dropout=dropout)
        pooled = bert.get_pooled_output()
        if is_training:
            pooled = (dropout or modeling.random_dropout)(pooled, heads.HEAD_DROPOUT)
        output = heads.HEADS[model.kind](pooled, model.num_labels, features.get("label_ids"))
    return output, variables


def build_model_fn(model, start, schedule=None, announce=lambda variables: None, use_tpu=False,
                   progress=None):
    """The model_fn of a task.

    Args:
      model: Model.
      start: checkpoints.Start, where first values come from.
      schedule: Schedule; None where nothing is trained.
      announce: called with the list of the model's variables when the graph is built.
      use_tpu: bool.
      progress: hooks.Progress that training reports to; None for none.
    """
    def model_fn(features, labels, mode, params):
        del labels, params
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        dropout = counted_dropout(schedule.seed) if is_training else None
        output, variables = network(model, features, is_training, dropout, use_tpu)
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


def counted_dropout(seed):
    """A dropout whose masks depend on the seed, the step and the place in the graph alone.

    So a run that goes on from a checkpoint drops what it would have dropped without the break.
    """
    step = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
    places = itertools.count()
    base = np.random.SeedSequence(seed).generate_state(1)[0] >> 1

    def dropout(x, rate):
        if not rate:
            return x
        place = np.int32((int(base) + next(places)) % 2**31)
        return tf.nn.experimental.stateless_dropout(
            x, rate=rate, seed=tf.stack([place, step]), rng_alg="philox")
    return dropout
