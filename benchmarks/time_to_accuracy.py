"""Seconds from the command to a dev accuracy of 81 % on MRPC, against the library `adapters`.

    python benchmarks/time_to_accuracy.py --bert_dir=DIR --glue_dir=DIR [--seeds=3] [--smoke]

Start-up, data, compilation, training and evaluation after each epoch are counted, for both sides in
turn: the same base, learning rate, schedule and first weights, MiniLM's shape. A run that ends
below 81 % is counted to its end and reported as such.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import sides
from speed import bases

ACCURACY, EPOCHS, FLOOR = 0.81, 5, 2.0


def our_command(seed, options, folder):
    """A run as a person would start it."""
    epochs = 0.05 if options.smoke else EPOCHS
    return [sys.executable, "run_classifier.py", "--task_name=MRPC", "--do_train", "--do_eval",
            f"--data_dir={options.glue_dir}/MRPC", f"--bert_dir={options.bert_dir}",
            "--learning_rate=1e-3", f"--num_train_epochs={epochs}", "--bias_correction",
            "--adapter_init_stddev=2e-2", *sides.REFERENCE, "--eval_batch_size=32",
            f"--seed={seed}",
            f"--early_stopping_patience={EPOCHS}", f"--output_dir={folder}"]


def peer_command(seed, options, hugging_face):
    """The library at its best: bfloat16, batches grouped by length."""
    return [str(sides.PEER_PYTHON), "benchmarks/peer_race.py", f"--base={hugging_face}",
            f"--data={options.glue_dir}/MRPC", f"--seed={seed}",
            f"--epochs={0.05 if options.smoke else EPOCHS}"]


def scores_in(path):
    """The accuracies so far in a run's eval_history.json."""
    try:
        return [row["eval_accuracy"] for row in json.loads(path.read_text())]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def seconds_until(command, scores, folder):
    """Starts a program and waits until it has reached ACCURACY, or ended.

    Args:
      command: list of str.
      scores: function of what the program printed to the list of its accuracies so far.
      folder: for its output.

    Returns:
      {"seconds", "accuracies", "reached"}.
    """
    output = pathlib.Path(folder, "output.txt")
    began = time.perf_counter()
    with output.open("wb") as stdout, subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.DEVNULL, cwd=sides.ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(sides.ROOT)}) as process:
        while True:
            is_over = process.poll() is not None
            found = scores(output.read_text())
            if is_over or max(found, default=0) >= ACCURACY:
                break
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        process.kill()
    if not found:
        raise RuntimeError(f"{command[:2]}: ended without a score")
    return {"seconds": seconds, "accuracies": found, "reached": max(found) >= ACCURACY}


def measure(seed, options, hugging_face):
    """{"ours": ..., "best": ...} of one seed."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        history = pathlib.Path(folder, "run", "eval_history.json")
        found["ours"] = seconds_until(our_command(seed, options, history.parent),
                                      lambda _: scores_in(history), folder)
    with tempfile.TemporaryDirectory() as folder:
        found["best"] = seconds_until(
            peer_command(seed, options, hugging_face), lambda text: [
                json.loads(line)["eval_accuracy"] for line in text.splitlines(keepends=True)
                if line.startswith("{") and line.endswith("\n")], folder)
    for name, run in found.items():
        print(f"seed {seed} {name:<5} {run['seconds']:6.1f} s to "
              f"{run['accuracies'][-1]:.4f}{'' if run['reached'] else ', 81 % not reached'}",
              flush=True)
    return found


def main():
    """Prints and writes the ratio of medians; exits with 1 below the floor."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--glue_dir", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a few steps: does it start?")
    options = parser.parse_args()
    hugging_face = bases("minilm", options.bert_dir)[1]
    runs = [measure(seed, options, hugging_face) for seed in range(1 if options.smoke
                                                                    else options.seeds)]
    ours, best = (sides.median([run[name] for run in runs], "seconds") for name in ("ours", "best"))
    print(f"ours {ours:.0f} s, adapters {best:.0f} s: {best / ours:.2f} times, floor {FLOOR}")
    if not options.smoke:
        sides.write("time-to-accuracy", {"runs": runs}, [
            ("MRPC dev accuracy of 81 %, MiniLM: seconds from the command", ours, None),
            ("MRPC dev accuracy of 81 %, MiniLM: times as fast as `adapters` in bfloat16, grouped",
             best / ours, FLOOR)])
    sys.exit(not options.smoke and best / ours < FLOOR)


if __name__ == "__main__":
    main()
