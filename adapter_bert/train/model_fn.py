"""The function that TPUEstimator calls: network, loss and train op of a task."""
import dataclasses
import functools

import tensorflow.compat.v1 as tf

from adapter_bert.bert import optimization
from adapter_bert.kinds import heads
from adapter_bert.network import towers
from adapter_bert.train import initial_values
from adapter_bert.train.distributed import allreduce
from adapter_bert.train.hooks import ProgressHook

# The features that say which example of a file a row is, the first before the second.
PLACE = ("index", "doc_start")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How it trains: the optimizer's numbers and the seed of dropout."""

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: int
    bias_correction: bool
    seed: int


def build_model_fn(model, start, engine, schedule=None, announce=lambda variables: None,
                   use_tpu=False, progress=None, observe=lambda loss, features: [], link=None):
    """The model_fn of a task.

    Args:
      model: Model.
      start: initial_values.Start, where first values come from.
      engine: compute.Engine, the formulas and the number of towers.
      schedule: Schedule; None where nothing is trained.
      announce: called with the list of the model's variables when the graph is built.
      use_tpu: bool.
      progress: hooks.Progress that training reports to; None for none.
      observe: function (loss, features) -> more SessionRunHooks of training, not on a TPU.
      link: allreduce.Link to the other workers; None for one alone.
    """
    def model_fn(features, labels, mode, params):
        del labels, params
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        formulas = engine.formulas(schedule.seed if is_training else 0, is_training)
        # A TPU's variables are made where no file can be read.
        encoder = {} if use_tpu else initial_values.encoder_values(start, model)
        output, variables = towers(model, features, engine.towers, is_training, formulas, use_tpu,
                                   encoder)
        variables = list(variables.values())
        announce(variables)
        may_lack = is_training or (heads.HEADS[model.kind].is_berts and not start.task)
        scaffold_fn = functools.partial(
            initial_values.scaffold, variables, start, may_lack, started=encoder.keys(),
            make=allreduce.OnceScaffold if link else (
                tf.train.Scaffold if use_tpu else initial_values.scaffold_without_checks))
        if not is_training:   # evaluation is prediction of examples with labels
            return tf.estimator.tpu.TPUEstimatorSpec(
                mode, predictions=prediction_columns(output, features), scaffold_fn=scaffold_fn)
        sums = link and allreduce.Sums(link)
        own_loss, loss = heads.shared_loss(output, sums)
        initial_values.fingerprint_variable(start.fingerprint)
        train_op = optimization.create_optimizer(
            own_loss, schedule.learning_rate, schedule.num_train_steps, schedule.num_warmup_steps,
            use_tpu, bias_correction=schedule.bias_correction, summed=sums)
        if link:
            train_op = tf.group(train_op, *sums.done)
        if not use_tpu:   # a TPU's graph holds no summaries
            tf.summary.scalar("learning_rate", optimization.learning_rate_schedule(
                tf.train.get_global_step(), schedule.learning_rate, schedule.num_train_steps,
                schedule.num_warmup_steps))
        return tf.estimator.tpu.TPUEstimatorSpec(
            mode, loss=loss, train_op=train_op, scaffold_fn=scaffold_fn,
            training_hooks=None if use_tpu or not progress else [
                ProgressHook(progress, loss), *observe(loss, features)])
    return model_fn


def prediction_columns(output, features):
    """The head's predictions with what tells each example apart, and its losses with labels."""
    columns = {name: features[name] for name in PLACE if name in features}
    losses = {f"{name}_{part}": column for name, loss in output.losses.items()
              for part, column in loss._asdict().items()}
    return {**output.predictions, **losses, **columns}
