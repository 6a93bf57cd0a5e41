"""What a program sees of a run while it trains: metrics.jsonl, and a profile of some steps."""
import json
import os
import resource
import time

import tensorflow.compat.v1 as tf
from tensorflow import profiler

from adapter_bert import files, paths
from adapter_bert.train.hooks import CountingHook

METRICS_FILE = "metrics.jsonl"
LEAST_POINTS = 20   # a shorter log says nothing about how the loss developed


def log_interval(total: int, most: int) -> int:
    """Steps between two logged losses: `most`, less in a short run so that it has 20 of them.

    Args:
      total: steps of the run.
      most: the interval of a long run, at least 1.

    Returns:
      int, at least 1.
    """
    return max(1, min(most, total // LEAST_POINTS))


class MetricsHook(CountingHook):
    """Writes a line of JSON every so many steps; a resumed run appends to the file.

    Args:
      output_dir: folder of the run.
      every: steps between two lines.
      loss: float scalar tensor.
      features: {name: tensor} of a batch, `input_mask` int32 [B, T] among them.
    """

    def __init__(self, output_dir, every, loss, features):
        self._path = os.path.join(output_dir, METRICS_FILE)
        self._every = every
        mask = features["input_mask"]
        with tf.control_dependencies([mask]):
            arrived = tf.timestamp()
        self._fetches = {"loss": loss, "examples": tf.shape(mask)[0],
                         "tokens": tf.reduce_sum(mask), "arrived": arrived}

    def after_create_session(self, session, coord):
        """Drops the lines of steps that are made again."""
        super().after_create_session(session, coord)
        files.write_text(self._path, "".join(kept_lines(self._path, self.step)))
        self._begin()

    def before_run(self, run_context):
        """Asks for what is counted beside the step's own work."""
        del run_context
        self._asked, self._clock = time.time(), time.monotonic()
        return tf.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context, run_values):
        """Counts, and writes the line of an interval."""
        super().after_run(run_context, run_values)
        found = run_values.results
        self._steps += 1
        self._seconds += time.monotonic() - self._clock
        self._examples += int(found["examples"])
        self._tokens += int(found["tokens"])
        self._losses += float(found["loss"])
        self._waited += max(0.0, float(found["arrived"]) - self._asked)
        if self.step % self._every == 0:
            paths.append(self._path, json.dumps(self._line(float(found["loss"]))) + "\n")
            self._begin()

    def _begin(self):
        self._steps = self._examples = self._tokens = 0
        self._seconds = self._waited = self._losses = 0.0

    def _line(self, loss):
        seconds = self._seconds
        return {"step": self.step, "time": round(time.time(), 3), "loss": loss,
                "mean_loss": self._losses / self._steps,   # of the steps since the last line
                "examples_per_second": round(self._examples / seconds, 3),
                "tokens_per_second": round(self._tokens / seconds, 3),
                "step_seconds": round(seconds / self._steps, 6),
                "data_wait": round(min(1.0, self._waited / seconds), 6),
                "memory_bytes": memory_bytes(), "peak_memory_bytes": peak_memory_bytes()}


class ProfileHook(CountingHook):
    """Writes a TensorFlow profile of some steps, which TensorBoard's profile page shows.

    Args:
      output_dir: folder of the run; the profile goes into its plugins/profile.
      first: number of the first step of it, from 1.
      last: number of its last step.
    """

    def __init__(self, output_dir, first, last):
        self._output_dir, self._first, self._last = output_dir, first, last
        self._is_open = False

    def before_run(self, run_context):
        """Begins before the first step."""
        del run_context
        if self.step + 1 == self._first:
            profiler.experimental.start(self._output_dir)
            self._is_open = True

    def after_run(self, run_context, run_values):
        """Ends after the last step."""
        super().after_run(run_context, run_values)
        if self.step == self._last:
            self.end(None)

    def end(self, session):
        """Ends it where training ends before."""
        del session
        if self._is_open:
            profiler.experimental.stop()
            self._is_open = False


def kept_lines(path, step):
    """The lines of metrics.jsonl up to a step; a line that a killed process left half goes."""
    if not paths.exists(path):
        return []
    with paths.open_file(path) as file:
        lines = file.read().decode("utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]


def memory_bytes():
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak_memory_bytes():
    """The most bytes of memory that this process held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
