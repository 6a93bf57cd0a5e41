"""A command once more for each GPU of this machine, or for parts of its cores, as one cluster."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import tensorflow.compat.v1 as tf

from adapter_bert.errors import InputError
from adapter_bert.processes import share_of_cores

SECONDS_BETWEEN_LOOKS = 0.1


def run(count, batch_size):
    """Runs this process's command as the workers of a cluster; ends when all, or one, have ended.

    Args:
      count: workers; 0 for one a GPU.
      batch_size: examples that they share.

    Raises:
      InputError: there is no GPU, or a worker has failed.
    """
    gpus = len(tf.config.list_physical_devices("GPU"))
    count = count or gpus
    if not count:
        raise InputError("--distribution=mirrored: TensorFlow sees no GPU; give --num_replicas for "
                         "so many processes on this machine's cores")
    if gpus and count > gpus:
        raise InputError(f"--num_replicas={count}: TensorFlow sees {gpus} GPUs")
    if batch_size % count:
        raise InputError(f"--train_batch_size={batch_size}: must be a multiple of the {count} "
                         "processes that share a batch")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    workers = [start(number, addresses, gpus) for number in range(count)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        wait(workers)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def free_ports(count):
    """Ports of this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start(number, addresses, gpus):
    """A process of this command, a worker with its own GPU or its own share of the cores."""
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = visible_gpus(gpus)[number]
    command = [sys.executable, *sys.orig_argv[1:], "--distribution=multi_worker"]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share_of_cores(number, len(addresses)))   # a process begins with it
    try:
        return subprocess.Popen(command, env=environment)
    finally:
        os.sched_setaffinity(0, cores)


def visible_gpus(count):
    """The names of the GPUs that this process sees, as CUDA_VISIBLE_DEVICES has them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(count)]


def wait(workers):
    """Waits until all have ended well; InputError as soon as one has not."""
    left = dict(enumerate(workers))
    while left:
        for number, worker in list(left.items()):
            if worker.poll() is None:
                continue
            del left[number]
            if worker.returncode:
                raise InputError(f"worker {number} ended with {worker.returncode}; its own line "
                                 "above says why; the same command goes on from the last "
                                 "checkpoint")
        time.sleep(SECONDS_BETWEEN_LOOKS)
