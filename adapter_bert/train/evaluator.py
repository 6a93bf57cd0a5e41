"""A split's batches through the model of one checkpoint of a run after another."""
import tempfile

import tensorflow.compat.v1 as tf

from adapter_bert import network
from adapter_bert.bert import checkpoint_io
from adapter_bert.train.estimator import build_estimator
from adapter_bert.train.model_fn import build_model_fn


def by_estimator(run, start, input_fn, batch_size):
    """One pass of a TPUEstimator's own; arguments and what it yields as for Passes."""
    with tempfile.TemporaryDirectory() as empty:   # Estimator restores what it finds there
        estimator = build_estimator(run, start, empty, batch_size)
        yield from estimator.predict(input_fn, yield_single_examples=False)


class Passes:
    """Predicts the batches of an input_fn, each time with another checkpoint.

    The graph and its session stay from pass to pass, and only what trains is read anew. A TPU has
    room for one session: there each pass is a TPUEstimator's.

    Args:
      run: resolve.Run.
      input_fn: function (params with "batch_size") -> tf.data.Dataset, as TPUEstimator takes it.
      batch_size: examples a batch.
    """

    def __init__(self, run, input_fn, batch_size):
        self._run, self._input_fn, self._batch_size = run, input_fn, batch_size
        self._session = None

    def batches(self, start):
        """Yields {name: array [B, ...]} of each batch, see model_fn.prediction_columns.

        Args:
          start: initial_values.Start of a trained model, the same at each pass but for its `task`.
        """
        if self._run.settings.use_tpu:
            yield from by_estimator(self._run, start, self._input_fn, self._batch_size)
            return
        if self._session is None:
            self._open(start)
        elif start.task:
            checkpoint = checkpoint_io.Checkpoint(start.task)
            network.load(self._session, [(variable, checkpoint[variable.op.name])
                                         for variable in self._trained])
        self._session.run(self._rewind)
        while True:
            try:
                batch = self._session.run(self._columns)
            except tf.errors.OutOfRangeError:
                return
            yield batch

    def _open(self, start):
        """The graph, and a session in which every variable has its value."""
        run, variables = self._run, []
        with tf.Graph().as_default():
            tf.train.get_or_create_global_step()
            params = {"batch_size": self._batch_size}
            iterator = tf.data.make_initializable_iterator(self._input_fn(params))
            self._rewind = iterator.initializer
            spec = build_model_fn(run.model, start, run.engine, announce=variables.extend)(
                iterator.get_next(), None, tf.estimator.ModeKeys.PREDICT, params)
            self._columns = spec.predictions
            spec.scaffold_fn()
            held = checkpoint_io.Checkpoint(start.task).shapes if start.task else {}
            self._trained = [variable for variable in variables if variable.op.name in held]
            self._session = tf.Session(run.settings.master or "",
                                       config=run.engine.session_config())
            self._session.run([tf.global_variables_initializer(),
                               tf.local_variables_initializer()])
