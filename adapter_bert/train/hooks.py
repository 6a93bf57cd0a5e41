"""What a person sees of a run while it trains."""
import collections
import contextlib
import logging as standard_logging
import os
import sys
import time

import tensorflow.compat.v1 as tf
from absl import flags, logging
from tensorflow.python.util import module_wrapper
from tqdm import tqdm

from adapter_bert.plain_text import PlainFormatter

# Steps left out of the measured speed: the first ones set up memory and threads.
WARM_UP_STEPS = 10
SECONDS_BETWEEN_LINES = 10
# Steps over which the displayed loss is averaged: the loss of one batch says little.
LOSS_WINDOW = 100


def speak_plainly():
    """Our lines without prefix on stderr; what TensorFlow has to say comes as exceptions."""
    flags.FLAGS.mark_as_parsed()   # else absl notes that it logs before flags are parsed
    logging.use_absl_handler()   # only app.run would do it, and Python's own prefixes INFO:absl:
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(PlainFormatter("%(message)s"))
    tf.logging.set_verbosity(tf.logging.FATAL)
    # Otherwise TensorFlow reads the source of every caller to name it in notes that are not shown.
    module_wrapper._PER_MODULE_WARNING_LIMIT = 0


class AboveBar(standard_logging.Handler):
    """Passes log records to another handler, with every tqdm bar cleared while it writes.

    Args:
      handler: the logging.Handler that writes to stderr.
    """

    def __init__(self, handler: standard_logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def emit(self, record: standard_logging.LogRecord) -> None:
        """Writes a record above the bars and draws them again."""
        with tqdm.external_write_mode(file=sys.stderr):
            self._handler.handle(record)


def log_above_bar() -> contextlib.ExitStack:
    """Makes absl's log lines appear above progress bars until the returned stack is closed."""
    handler, restore = logging.get_absl_handler(), contextlib.ExitStack()
    wrapped = AboveBar(handler)
    for logger in (standard_logging.root, logging.get_absl_logger()):
        if handler in logger.handlers:
            logger.removeHandler(handler)
            logger.addHandler(wrapped)
            restore.callback(logger.addHandler, handler)
            restore.callback(logger.removeHandler, wrapped)
    return restore


class Progress:
    """Steps, running mean of the loss and speed: a bar on a terminal, else a line every 10 s.

    Args:
      total: steps of the whole run.
      batch_size: examples per step, a mean where steps differ.
    """

    def __init__(self, total, batch_size):
        self._total, self._batch_size = total, batch_size
        self._bar = None
        self._losses = collections.deque(maxlen=LOSS_WINDOW)
        self._log_above_bar = contextlib.ExitStack()
        self._seconds = 0.0
        self._steps = 0
        self._began = time.monotonic()
        self._line_time = self._previous = None

    def begin(self, step):
        """Training starts or resumes after `step`."""
        self._line_time = self._previous = self._began = time.monotonic()
        if self._bar is None and sys.stderr.isatty():
            self._bar = tqdm(total=self._total, initial=step, unit="step", desc="train")
            self._log_above_bar = log_above_bar()

    def update(self, step, loss):
        """Counts one more step.

        Args:
          step: number of steps since the start of the run.
          loss: float, of this step's batch.
        """
        now = time.monotonic()
        self._losses.append(loss)
        self._steps += 1
        if self._steps > WARM_UP_STEPS:
            self._seconds += now - self._previous
        self._previous = now
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {self.loss():.3f}{self._speed()}", refresh=False)
            self._bar.update(1)
        elif now - self._line_time >= SECONDS_BETWEEN_LINES or step == self._total:
            self._line_time = now
            left = f", {duration(self.seconds_left(step))} left" if self.rate() else ""
            logging.info("step %d of %d, loss %.3f (mean of %d steps)%s%s", step, self._total,
                         self.loss(), len(self._losses), self._speed(), left)

    def _speed(self):
        """The speed as the end of a line; "" before it is measured."""
        return f", {self.rate():.1f} examples/s" if self.rate() else ""

    def loss(self) -> float:
        """Mean loss of the last LOSS_WINDOW steps of this process; at least one step is done."""
        return sum(self._losses) / len(self._losses)

    def take_seconds(self):
        """Seconds since training began, or since the last call."""
        began, self._began = self._began, time.monotonic()
        return self._began - began

    @contextlib.contextmanager
    def paused(self):
        """For something else than training, the time of which does not count."""
        began = time.monotonic()
        yield
        gone = time.monotonic() - began
        self._began, self._previous = self._began + gone, self._previous + gone

    def close(self):
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._log_above_bar.close()

    def rate(self):
        """Examples a second, the first steps left out; 0 before there is a measurement."""
        measured = self._steps - WARM_UP_STEPS
        return measured * self._batch_size / self._seconds if measured > 0 else 0.0

    def seconds_left(self, step):
        """Seconds to the end at the speed so far."""
        return (self._total - step) * self._batch_size / self.rate() if self.rate() else 0.0


def duration(seconds):
    """Seconds as minutes and seconds, or hours and minutes."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{seconds:02d} min"


class CountingHook(tf.train.SessionRunHook):
    """Knows the step of the training, `step`, without asking the session each time."""

    def after_create_session(self, session, coord):
        """Learns the step that training goes on from."""
        del coord
        self.step = int(session.run(tf.train.get_global_step(session.graph)))

    def after_run(self, run_context, run_values):
        """Counts."""
        del run_context, run_values
        self.step += 1


class ProgressHook(CountingHook):
    """Tells a Progress of each step and its loss.

    Args:
      progress: Progress.
      loss: float scalar tensor.
    """

    def __init__(self, progress, loss):
        self._progress, self._loss = progress, loss

    def after_create_session(self, session, coord):
        """Training begins."""
        super().after_create_session(session, coord)
        self._progress.begin(self.step)

    def before_run(self, run_context):
        """Asks for the loss beside the step's own work."""
        del run_context
        return tf.train.SessionRunArgs(self._loss)

    def after_run(self, run_context, run_values):
        """Passes the step on."""
        super().after_run(run_context, run_values)
        self._progress.update(self.step, float(run_values.results))


class EvaluationHook(CountingHook):
    """Saves a checkpoint every so many steps and has it evaluated, and ends training if told so.

    Args:
      every: steps between two evaluations; the last step of the run is evaluated after it.
      output_dir: folder of the run's checkpoints.
      judge: function (step) -> whether training is over; it evaluates the newest checkpoint.
      progress: Progress, which does not count that time.
      stop_hook: preemption.StopHook, which a signal while evaluating ends at once.
    """

    def __init__(self, every, output_dir, judge, progress, stop_hook):
        self._every, self._judge, self._progress = every, judge, progress
        self._stop_hook = stop_hook
        self._prefix = os.path.join(output_dir, "model.ckpt")

    def after_run(self, run_context, run_values):
        """Evaluates where that is due."""
        super().after_run(run_context, run_values)
        if self.step % self._every:
            return
        with self._progress.paused():
            session = run_context.session
            saver = session.graph.get_collection(tf.GraphKeys.SAVERS)[0]
            saver.save(session, self._prefix, global_step=self.step, write_meta_graph=False)
            with self._stop_hook.saved():
                is_over = self._judge(self.step)
            if is_over:
                run_context.request_stop()
