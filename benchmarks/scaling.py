"""Training in one process and in two: examples a second, bytes a step, and a model of both.

    python benchmarks/scaling.py --bert_dir=DIR --glue_dir=DIR [--smoke]

Each process has one core; one process with all cores is what one machine does. The model of a step
of W workers is that of the slowest of them with its share of the batch and the time of two sums:

    seconds(W) = slowest seconds of B / W examples in one process + 2 latency + bytes / rate

where latency and rate are fitted to sums of two sizes without any training, and the processes with
a share of the batch run side by side, since the cores of a machine have its memory in common. All
of it is measured in rounds, so that a machine that becomes slower does so for every part.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import sides

from adapter_bert import files
from adapter_bert.train.distributed.launch import free_ports

BATCH, STEPS, LENGTH, ROUNDS = 32, 45, 128, 3
WORKER = pathlib.Path(__file__).parent / "scaling_worker.py"
SIZES = (1_000, 4_000_000)   # numbers that are summed


def measure(folder, count, cores, flags, together=True):
    """What so many processes, each with so many cores, read: {"step_seconds", "step_bytes"}.

    A step takes as long as the slowest of them needs for it; the bytes are the first's.

    Args:
      folder: to work in.
      count: of processes.
      cores: sets of cores, one a process.
      flags: list of str, of scaling_worker.py.
      together: whether they are the workers of a cluster; else each is alone.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    own, processes = os.sched_getaffinity(0), []
    for number in range(count):
        environment = {**os.environ, "PYTHONPATH": str(sides.ROOT)}
        if together:
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses},
                                                   "task": {"type": "worker", "index": number}})
        os.sched_setaffinity(0, cores[number])
        processes.append(subprocess.Popen(
            [sys.executable, str(WORKER), f"--meter={folder}/{number}.json",
             *(flag.replace("NUMBER", str(number)) for flag in flags)],
            env=environment, stderr=subprocess.PIPE, text=True))
        os.sched_setaffinity(0, own)
    lines = [process.communicate()[1] for process in processes]
    assert not any(process.returncode for process in processes), lines
    found = [files.read_object(f"{folder}/{number}.json") for number in range(count)]
    slowest = np.max([one["seconds"] for one in found], axis=0)
    return {"step_seconds": float(np.mean(slowest)), "step_bytes": found[0]["step_bytes"]}


def training(options, tuning, processes, batch, cores, together=False):
    """Seconds and bytes of a step of training, and its examples a second."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--data_dir={options.glue_dir}/MRPC", "--task_name=MRPC", "--do_train",
                 f"--bert_dir={options.bert_dir}", f"--output_dir={folder}/NUMBER",
                 f"--tuning={tuning}", f"--train_batch_size={batch}", "--learning_rate=1e-4",
                 f"--max_seq_length={options.length}",
                 f"--max_train_examples={batch * options.steps}", *sides.REFERENCE,
                 "--num_train_epochs=1"]
        if together:
            flags.append("--distribution=multi_worker")
        found = measure(folder, processes, cores, flags, together)
    return {**found, "per_second": batch / found["step_seconds"]}


def sums(numbers, cores):
    """Seconds and bytes of a sum over two workers."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(folder, 2, cores, [f"--sums={numbers}"])


def fitted(small, large):
    """Latency in seconds and rate in bytes a second of two readings of `sums`."""
    rate = (large["step_bytes"] - small["step_bytes"]) / max(
        large["step_seconds"] - small["step_seconds"], 1e-9)
    return max(small["step_seconds"] - small["step_bytes"] / rate, 0.0), rate


def one_round(options, tuning, all_cores):
    """One process, two alone with half the batch, two together, and the model's step of these."""
    apart = [{all_cores[0]}, {all_cores[-1]}]
    latency, rate = fitted(*(sums(size, apart) for size in SIZES))
    whole = training(options, tuning, 1, BATCH, [set(all_cores)])
    half = training(options, tuning, 2, BATCH // 2, apart)
    two = training(options, tuning, 2, BATCH, apart, together=True)
    model = half["step_seconds"] + 2 * latency + two["step_bytes"] / rate
    return {"latency_seconds": latency, "bytes_per_second": rate, "one_process": whole,
            "two_alone_with_half_the_batch": half, "two_processes": two,
            "model_step_seconds": model, "model_to_measured": model / two["step_seconds"]}


def main():
    """Measures, says how far the model is from what was measured, writes scaling.json."""
    options = parse()
    all_cores, record, claims = sorted(os.sched_getaffinity(0)), {}, []
    for tuning in ("adapters", "full"):
        rounds = [one_round(options, tuning, all_cores) for _ in range(options.rounds)]
        record[tuning] = rounds
        whole, two = ([one[name] for one in rounds] for name in ("one_process", "two_processes"))
        claims += [
            (f"{tuning}: examples/s, one process, all cores", sides.median(whole), None),
            (f"{tuning}: examples/s, two processes, a core each", sides.median(two), None),
            (f"{tuning}: MB a worker sends and receives a step",
             sides.median(two, "step_bytes") / 1e6, None),
            (f"{tuning}: step of two processes, model / measured",
             sides.median(rounds, "model_to_measured"), None)]
    for what, number, _ in claims:
        print(f"{what}: {number:.4g}")
    if not options.smoke:
        sides.write("scaling", record, claims)


def parse():
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--glue_dir", required=True)
    parser.add_argument("--smoke", action="store_true", help="a few steps, and no file")
    options = parser.parse_args()
    options.length, options.steps, options.rounds = (16, 8, 1) if options.smoke else (
        LENGTH, STEPS, ROUNDS)
    return options


if __name__ == "__main__":
    main()
