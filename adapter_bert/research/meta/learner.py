"""One BERT with a copy of what trains for each of several tasks, which learn side by side.

Letters: B batch, C classes, K tasks, T tokens.

A task's inner loop starts at the meta-parameters and takes steps on its own examples; the frozen
weights exist once. Every task is a part of one graph, so one run of it is a step of all tasks. A
task without a batch is left out of the run, and so is as it was.
"""
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert import network
from adapter_bert.bert import tuning_modes
from adapter_bert.data import padding
from adapter_bert.kinds import heads
from adapter_bert.train import initial_values

BETAS, EPSILON = (0.9, 0.999), 1e-8
ROWS_AT_ONCE = 32   # of a task, where no batch size is asked for
PARTS = 2   # of a batch: rows of like length, cut to their own longest, that run side by side


class Inner(NamedTuple):
    """How a task learns: a key of UPDATES, and its learning rate."""

    optimizer: str
    learning_rate: float


class Row(NamedTuple):
    """An example as word pieces, int [tokens] each, and the id of its label."""

    input_ids: np.ndarray
    segment_ids: np.ndarray
    label: int


class Copy(NamedTuple):
    """A task's own weights and what is done with them.

    inputs: {name: placeholder} of its batch.
    variables: {name: variable} of what trains.
    slots: variables of its optimizer.
    rates: placeholder float32 [2], the step's size and Adam's epsilon.
    loss: float32 scalar, the mean over the batch with dropout.
    gradients: {name: tensor} of the loss.
    step: op that takes a step.
    probabilities: float32 [B, C] without dropout.
    """

    inputs: dict[str, tf.Tensor]
    variables: dict[str, tf.Variable]
    slots: list[tf.Variable]
    rates: tf.Tensor
    loss: tf.Tensor
    gradients: dict[str, tf.Tensor]
    step: tf.Operation
    probabilities: tf.Tensor


class Learner:
    """The graph and session of K tasks.

    Args:
      model: network.Model of a classification.
      start: initial_values.Start, where first values come from.
      engine: compute.Engine.
      inner: Inner.
      tasks: K.
      seed: int, of first values and of dropout.

    Attributes:
      values: {name: float32 array}, the meta-parameters.
      variables: {name: variable} of one task and its frozen weights.
    """

    def __init__(self, model, start, engine, inner, tasks=1, seed=0):
        self._inner = inner
        with tf.Graph().as_default():
            tf.set_random_seed(seed)
            self._now = tf.placeholder_with_default(np.int64(0), [])
            tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, self._now)   # dropout depends on it
            formulas = engine.formulas(seed)
            made = [{} for _ in range(tasks)]
            parts = PARTS, PARTS if tasks == 1 else 1
            self._copies = [build(model, formulas, inner.optimizer, task, parts, made[task])
                            for task in range(tasks)]
            self.variables = made[0]
            self._placed, self._reset = resetting(self._copies)
            initial_values.scaffold(list(self.variables.values()), start, fresh_allowed=True)
            self._session = tf.Session(config=session_config(engine))
            self._session.run([tf.global_variables_initializer(),
                               tf.local_variables_initializer()])
        self.values = self.adapted(0)
        self.reset()

    def load(self, values):
        """Takes other meta-parameters, {name: float32 array}, and resets every task to them.

        Raises:
          ValueError: names or shapes are not those of what trains.
        """
        shapes, given = ({name: value.shape for name, value in one.items()}
                         for one in (self.values, values))
        if shapes != given:
            raise ValueError("other names or shapes than those of the meta-parameters")
        self.values = dict(values)
        self.reset()

    def reset(self, now=0):
        """Every task starts anew: weights at the meta-parameters, the optimizer at nothing.

        Args:
          now: int below 2^31; dropout depends on it, and on the count of runs since then.
        """
        self._session.run(self._reset, {
            self._placed[name]: value for name, value in self.values.items()})
        self._clock, self._taken = now, [0] * len(self._copies)

    def adapt(self, batches):
        """Steps of the tasks, each on batches of its own, with dropout.

        Args:
          batches: for each step K lists of Row; an empty list leaves its task as it is.

        Returns:
          The tasks' losses before each step: float32 [steps, K], NaN where a task has no batch.
        """
        losses = np.full([len(batches), len(self._copies)], np.nan, np.float32)
        for number, rows in enumerate(batches):
            present = self._present(rows)
            done = self._run([(self._copies[task].loss, self._copies[task].step)
                              for task in present], {**self._feeds(rows), **self._rates(present)})
            losses[number, present] = [loss for loss, _ in done]
        return losses

    def query_gradient(self, queries):
        """The gradient of the tasks' losses at their weights, the mean over the tasks.

        The loss of a task is the mean over its rows, with dropout, as in its steps.

        Args:
          queries: K lists of Row; a task without rows does not count.

        Returns:
          {name: float32 array}, and the loss of each task, float32 [K], 0 without rows.
        """
        count = len(self._present(queries))
        total = {name: np.zeros_like(value) for name, value in self.values.items()}
        losses = np.zeros(len(self._copies), np.float32)
        for chunk in in_chunks(queries):
            present = self._present(chunk)
            found = self._run([(self._copies[task].loss, self._copies[task].gradients)
                               for task in present], self._feeds(chunk))
            for task, (loss, gradients) in zip(present, found, strict=True):
                share = len(chunk[task]) / len(queries[task])
                losses[task] += share * loss
                for name, gradient in gradients.items():
                    total[name] += np.float32(share / count) * gradient
        return total, losses

    def adapted(self, task):
        """{name: float32 array}: the weights of a task as they are."""
        return self._session.run(self._copies[task].variables)

    def predict(self, rows):
        """The classes of rows at the weights of their tasks, without dropout.

        Args:
          rows: K lists of Row.

        Returns:
          K arrays of probabilities, float32 [rows, C].
        """
        found, orders = [[] for _ in rows], list(map(in_order, rows))
        for chunk in in_chunks([[own[place] for place in order]
                                for own, order in zip(rows, orders, strict=True)]):
            present = self._present(chunk)
            outputs = self._session.run([self._copies[task].probabilities for task in present],
                                        self._feeds(chunk))
            for task, output in zip(present, outputs, strict=True):
                found[task].append(output)
        return [np.concatenate(parts)[np.argsort(order)] if parts else np.zeros([0, 0], np.float32)
                for parts, order in zip(found, orders, strict=True)]

    def close(self):
        """Ends the session and frees its memory."""
        self._session.close()

    def _run(self, wanted, feeds):
        self._clock += 1
        return self._session.run(wanted, {**feeds, self._now: self._clock})

    def _present(self, rows):
        if len(rows) != len(self._copies):
            raise ValueError(f"rows of {len(rows)} tasks, and there are {len(self._copies)}")
        return [task for task, own in enumerate(rows) if own]

    def _feeds(self, rows):
        return {self._copies[task].inputs[name]: value for task in self._present(rows)
                for name, value in batch_of(rows[task]).items()}

    def _rates(self, present):
        feeds = {}
        for task in present:
            self._taken[task] += 1
            feeds[self._copies[task].rates] = rates(self._inner, self._taken[task])
        return feeds


def session_config(engine):
    """The ConfigProto of an compute.Engine, without the rewriting of graphs: there is one for every
    set of tasks that is run, and it takes longer than it saves."""
    config = engine.session_config() or tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def build(model, formulas, optimizer, task, parts, made):
    """The Copy of a task.

    Args:
      model: network.Model.
      formulas: modeling.Formulas, the same for all tasks: they share what is packed.
      optimizer: key of UPDATES.
      task: its number.
      parts: into how many its batches are cut, in training and in prediction.
      made: a dict that takes the variables of the task, and the frozen ones, under their names.
    """
    inputs = {name: tf.placeholder(tf.int32, [None, None])
              for name in ("input_ids", "input_mask", "segment_ids")}
    inputs["label_ids"] = tf.placeholder(tf.int32, [None])
    getter = getter_of(model, task, made)
    outputs = [in_parts(model, inputs, formulas, getter, is_training, count)
               for is_training, count in zip((True, False), parts, strict=True)]
    variables = {name: made[name] for name in network.trained_shapes(model)}
    loss = heads.batch_loss(outputs[0])
    gradients = dict(zip(variables, map(tf.convert_to_tensor, tf.gradients(
        loss, list(variables.values()))), strict=True))
    slots = [tf.Variable(tf.zeros(variable.shape), trainable=False, use_resource=True)
             for variable in variables.values() for _ in BETAS if optimizer == "adam"]
    placed = tf.placeholder(tf.float32, [2])
    with tf.control_dependencies([gradient.op for gradient in gradients.values()]):
        step = tf.group(UPDATES[optimizer](
            list(variables.values()), slots, list(gradients.values()), placed))
    return Copy(inputs, variables, slots, placed, loss, gradients, step,
                outputs[1].predictions["probabilities"])


def getter_of(model, task, made):
    """A custom_getter of a task's own weights; those of task 0 have the names of checkpoints.

    Arguments as for `build`.
    """
    tune = tuning_modes.tuning_getter(model.rules, made=made,
                                        dtype=tf.as_dtype(model.precision))

    def get(getter, name, *args, **options):
        is_shared = not task or tuning_modes.group_of(name, model.rules) == tuning_modes.FROZEN
        own_name = name if is_shared else f"task_{task}/{name}"

        def get_own(_, *args, **options):
            return getter(own_name, *args, **options)
        return tune(get_own, name, *args, **options)
    return get


def in_parts(model, inputs, formulas, getter, is_training, count):
    """The heads.Output of a batch that is cut into `count` parts, each as long as its longest row.

    The other arguments as for network.network.
    """
    outputs = []
    for part in network.split(inputs, count):
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            outputs.append(network.network(
                model, without_padding(part), is_training, formulas, False, getter))
    return network.joined(outputs)


def without_padding(batch):
    """A batch [B, T] without the columns that no row needs; one is left where there is no row."""
    longest = tf.maximum(1, tf.reduce_max(tf.reduce_sum(batch["input_mask"], axis=1)))
    return {name: column[:, :longest] if column.shape.rank == 2 else column
            for name, column in batch.items()}


def adam(variables, slots, gradients, rates):
    """Ops of a step of Adam, see `rates`."""
    return [tf.raw_ops.ResourceApplyAdam(
        var=variable.handle, m=m.handle, v=v.handle, beta1_power=0.0, beta2_power=0.0, lr=rates[0],
        beta1=BETAS[0], beta2=BETAS[1], epsilon=rates[1], grad=gradient)
        for variable, m, v, gradient in zip(
            variables, slots[::2], slots[1::2], gradients, strict=True)]


def sgd(variables, slots, gradients, rates):
    """Ops of a step down the gradient."""
    del slots
    return [tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=rates[0], delta=gradient)
        for variable, gradient in zip(variables, gradients, strict=True)]


UPDATES = {"adam": adam, "sgd": sgd}


def rates(inner, taken):
    """The step's size and epsilon in Adam's t-th step (Kingma and Ba, 2015, end of section 2).

    m / c1 / (sqrt(v / c2) + epsilon) = sqrt(c2) / c1 * m / (sqrt(v) + sqrt(c2) epsilon)

    with c = 1 - beta^t. Of SGD the learning rate itself, and nothing.

    Args:
      inner: Inner.
      taken: t, from 1.

    Returns:
      Two floats.
    """
    if inner.optimizer == "sgd":
        return inner.learning_rate, 0.0
    first, second = (1 - beta ** taken for beta in BETAS)
    return inner.learning_rate * second ** 0.5 / first, EPSILON * second ** 0.5


def resetting(copies):
    """{name: placeholder} of meta-parameters, and the op that every task starts anew from them."""
    placed = {name: tf.placeholder(tf.float32, variable.shape)
              for name, variable in copies[0].variables.items()}
    return placed, tf.group(
        [variable.assign(placed[name]) for copy in copies
         for name, variable in copy.variables.items()],
        [slot.initializer for copy in copies for slot in copy.slots])


def batch_of(rows):
    """Rows from the shortest to the longest as one batch.

    Args:
      rows: list of Row, not empty.

    Returns:
      {"input_ids", "input_mask", "segment_ids": int32 [B, T], "label_ids": int32 [B]}.
    """
    rows = [rows[place] for place in in_order(rows)]
    return {**padding.padded([row[:2] for row in rows]),
            "label_ids": np.array([row.label for row in rows], np.int32)}


def in_order(rows):
    """The places of rows from the shortest to the longest, int [B]."""
    return np.argsort([len(row.input_ids) for row in rows], kind="stable")


def in_chunks(rows):
    """The rows of K tasks in chunks of at most ROWS_AT_ONCE of each: yields K lists of Row."""
    longest = max(map(len, rows), default=0)
    for first in range(0, longest, ROWS_AT_ONCE):
        yield [own[first:first + ROWS_AT_ONCE] for own in rows]
