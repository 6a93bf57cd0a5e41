"""Training in one process and in two: examples a second, bytes a step, and a model of both.

    python benchmarks/scaling.py --bert_dir=DIR --glue_dir=DIR [--smoke]

Each process has one core; one process with all cores is what one machine does. The model of a step
of W workers is that of one worker with its share of the batch and the time of the sums:

    seconds(W) = seconds of B / W examples in one process + latency + bytes / rate

where latency and rate are fitted to sums of two sizes without any training.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sides

from adapter_bert import files
from adapter_bert.local_workers import free_ports

BATCH, STEPS, LENGTH = 32, 25, 128
WORKER = pathlib.Path(__file__).parent / "scaling_worker.py"
SIZES = (1_000, 4_000_000)   # numbers that are summed


def measure(folder, count, cores, flags):
    """The readings of so many workers, each with so many cores: the chief's, {name: float}.

    Args:
      folder: to work in.
      count: workers; 1 for a process without a cluster.
      cores: lists of cores, one a worker.
      flags: list of str, of scaling_worker.py.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    own, processes = os.sched_getaffinity(0), []
    for number in range(count):
        environment = {**os.environ, "PYTHONPATH": str(sides.ROOT)}
        if count > 1:
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses},
                                                   "task": {"type": "worker", "index": number}})
        os.sched_setaffinity(0, cores[number])
        processes.append(subprocess.Popen(
            [sys.executable, str(WORKER), f"--meter={folder}/{number}.json", *flags],
            env=environment, stderr=subprocess.PIPE, text=True))
        os.sched_setaffinity(0, own)
    lines = [process.communicate()[1] for process in processes]
    assert not any(process.returncode for process in processes), lines
    return files.read_object(f"{folder}/0.json")


def training(options, tuning, workers, batch, cores):
    """Seconds and bytes of a step of training, and its examples a second."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--data_dir={options.glue_dir}/MRPC", "--task_name=MRPC", "--do_train",
                 f"--bert_dir={options.bert_dir}", f"--output_dir={folder}/out",
                 f"--tuning={tuning}", f"--train_batch_size={batch}", "--learning_rate=1e-4",
                 f"--max_seq_length={options.length}",
                 f"--max_train_examples={batch * options.steps}", "--num_train_epochs=1"]
        if workers > 1:
            flags.append("--distribution=multi_worker")
        found = measure(folder, workers, cores, flags)
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


def main():
    """Measures, says how far the model is from what was measured, writes scaling.json."""
    options = parse()
    all_cores = sorted(os.sched_getaffinity(0))
    apart = [{core} for core in all_cores[:2]] * 2
    latency, rate = fitted(*(sums(size, apart) for size in SIZES))
    record, claims = {"latency_seconds": latency, "bytes_per_second": rate}, []
    for tuning in ("adapters", "full"):
        whole = training(options, tuning, 1, BATCH, [all_cores])
        half = training(options, tuning, 1, BATCH // 2, apart)
        two = training(options, tuning, 2, BATCH, apart)
        model = half["step_seconds"] + 2 * latency + two["step_bytes"] / rate
        record[tuning] = {"one_process": whole, "one_core_half_batch": half, "two_processes": two,
                          "model_step_seconds": model}
        claims += [
            (f"{tuning}: examples/s, one process, all cores", whole["per_second"], None),
            (f"{tuning}: examples/s, two processes, a core each", two["per_second"], None),
            (f"{tuning}: MB a worker sends and receives a step", two["step_bytes"] / 1e6, None),
            (f"{tuning}: step of two processes, model / measured", model / two["step_seconds"],
             None)]
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
    options.length, options.steps = (16, 8) if options.smoke else (LENGTH, STEPS)
    return options


if __name__ == "__main__":
    main()
