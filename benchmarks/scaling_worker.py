"""A worker of `scaling.py`: run_classifier.py with a meter, or sums and nothing else.

    python benchmarks/scaling_worker.py --meter=FILE [flags of run_classifier.py]
    python benchmarks/scaling_worker.py --meter=FILE --sums=COUNT_OF_NUMBERS
"""
import contextlib
import itertools
import os
import socket
import struct
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf

from adapter_bert import files
from adapter_bert.cli import run_command
from adapter_bert.train.distributed import allreduce, clusters
from adapter_bert.train.hooks import CountingHook
from adapter_bert.train.named_task import text_task
from adapter_bert.train.settings import Settings

WARM_UP_STEPS, SUMS = 5, 50
BYTES_SENT_AND_RECEIVED = 120   # their offset in Linux's struct tcp_info


def connected():
    """Bytes that this process has sent and received over the TCP connections that it has now."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):   # those of another kind, and those closed meanwhile
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as opened:
                    info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                    total += sum(struct.unpack_from("=QQ", info, BYTES_SENT_AND_RECEIVED))
    return total


class Meter(CountingHook):
    """Writes the seconds of each step of a stretch of training, and bytes a step, to a file."""

    def __init__(self, path):
        self._path, self._readings = path, []

    def after_create_session(self, session, coord):
        """Learns where the metered steps begin."""
        super().after_create_session(session, coord)
        self._first = self.step + WARM_UP_STEPS

    def after_run(self, run_context, run_values):
        """Reads the meter."""
        super().after_run(run_context, run_values)
        if self.step >= self._first:
            self._readings.append(reading())

    def end(self, session):
        """Writes what was read."""
        del session
        write(self._path, self._readings)


def reading():
    """The clock, and the bytes so far."""
    return time.perf_counter(), connected()


def write(path, readings):
    """Seconds of each step, and bytes of one, from the readings before, between and after them."""
    times, moved = zip(*readings, strict=True)
    files.write_json(path, {
        "seconds": [after - before for before, after in itertools.pairwise(times)],
        "step_bytes": (moved[-1] - moved[0]) / (len(moved) - 1)})


def only_sums(path, count):
    """Sums `count` numbers over the workers of TF_CONFIG, again and again."""
    settings = Settings(distribution="multi_worker", train_batch_size=64)
    link = allreduce.open_link(clusters.find(settings))
    link, _, _ = allreduce.meet(link, 0, 1, "0" * 64)
    with tf.Graph().as_default(), tf.device(link.device):
        summed = allreduce.Sums(link)
        total = [tf.reduce_sum(summed([tf.random.uniform([count])], "sums")[0]), *summed.done]
        with tf.Session(link.target, config=link.session_config()) as session:
            readings = []
            for _ in range(WARM_UP_STEPS + SUMS):
                session.run(total)
                readings.append(reading())
            write(path, readings[WARM_UP_STEPS:])
    allreduce.meet(link, 0, 1, "0" * 64)


def main():
    """Reads --meter and --sums off the command line; what is left are run_classifier's flags."""
    path = sys.argv.pop(1).removeprefix("--meter=")
    if sys.argv[1].startswith("--sums="):
        only_sums(path, int(sys.argv[1].removeprefix("--sums=")))
        return
    own = allreduce.hooks
    allreduce.hooks = lambda link, step: [*own(link, step), Meter(path)]
    run_command.start(Settings, run_command.of_task(text_task))


if __name__ == "__main__":
    main()
