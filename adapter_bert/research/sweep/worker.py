"""One process of a sweep: it does run after run of those that nobody else does.

    python -m adapter_bert.research.sweep.worker CONFIG RESULTS UNTIL

It ends with exit code RECYCLE after RUNS_A_PROCESS runs, since TensorFlow gives memory back only
then, and at once when the sweep that started it is gone: its standard input ends.
"""
import gc
import os
import platform
import shutil
import signal
import sys
import threading
import time
import traceback

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import files
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.research.sweep import (
    experiment_config,
    grid,
    kept_predictions,
    layer_ablation,
    queue,
    result_files,
)
from adapter_bert.research.sweep.run_sweep import RECYCLE
from adapter_bert.train import run as runs
from adapter_bert.train.hooks import speak_plainly

RUNS_A_PROCESS, SECONDS_BETWEEN_LOOKS = 20, 5


def main(config_path, folder, until):
    """Works until every run is done or failed, or `until`, seconds since the epoch, is past."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    speak_plainly()
    result_files.commit()   # of the code that is loaded now
    experiment = experiment_config.read(config_path)
    return work(experiment, grid.plan(experiment), folder, float(until))


def _end_with_parent():
    os.read(0, 1)   # sys.stdin has a lock, which copies of this process would wait for
    os._exit(1)


def work(experiment, planned, folder, until=float("inf")):
    """Does what is open of the Planned runs.

    Returns:
      0 when nothing is left to begin, RECYCLE after RUNS_A_PROCESS runs.
    """
    done = 0
    while still_open := [run for run in planned if is_open(folder, run.name)]:
        began = done
        for run in still_open:
            if time.time() >= until:
                return 0
            done += attempt(experiment, run, folder)
            if done == RUNS_A_PROCESS:
                return RECYCLE
        if done == began:   # others are at work on all of these
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return 0


def is_open(folder, name):
    """Whether a run has neither result nor failure."""
    return not (result_files.is_done(folder, name) or result_files.is_failed(folder, name))


def attempt(experiment, run, folder):
    """Does a run unless another process does or did; returns whether it was done here."""
    with queue.claimed(os.path.join(folder, result_files.CLAIMS), run.name) as is_ours:
        if not is_ours or not is_open(folder, run.name):
            return False
        logging.info("***** %s *****", run.name)
        try:
            result_files.write(folder, run.name, *do(experiment, run, os.path.join(folder, "work")))
        except InputError as error:
            result_files.write_failure(folder, run.name, str(error))
        except Exception:   # a bug in one run leaves the others their chance
            result_files.write_failure(folder, run.name, traceback.format_exc())
    return True


def do(experiment, run, work_dir):
    """Trains, scores and removes what the run left on disk.

    Args:
      experiment: experiment_config.Experiment.
      run: grid.Planned.
      work_dir: folder to work in.

    Returns:
      What result_files.KEYS name, and {split: targets} with the kind of head.
    """
    began, seen = time.monotonic(), {}
    output_dir = os.path.abspath(os.path.join(work_dir, f"{run.name}@{platform.node()}"))
    shutil.rmtree(output_dir, ignore_errors=True)   # of an earlier attempt that was killed
    settings, given, task = grid.settings_of(experiment, run, output_dir)

    def keep(current, split, predicted):
        seen[split.name] = current, kept_predictions.kept(current, split, predicted)

    try:
        with tf.Graph().as_default():
            metrics = runs.run(settings, given, task, keep, writes_report=False)
        left = files.read_object(os.path.join(output_dir, "results.json"))
        current, (targets, _) = seen["dev"]
        extra = {"spans": layer_ablation.removed_spans(
            current, os.path.join(output_dir, "pack"), targets,
            grid.metric_of(experiment, run))} if run.mode.spans and not run.seed else {}
    finally:
        shutil.rmtree(output_dir, ignore_errors=True)
        gc.collect()
    return ({"task": run.task.name, "mode": run.mode.name, "point": run.point, "seed": run.seed,
             "flags": {**run.flags, "precision": current.settings.precision},
             "metrics": metrics, **parameters(left, current),
             "examples": left["counts"]["train_examples"],
             "seconds": round(time.monotonic() - began, 1),
             "train_seconds": round(left["train_seconds"], 1),
             "versions": left["versions"], "commit": result_files.commit(), **extra,
             "predictions": {split: found for split, (_, (_, found)) in seen.items()}},
            {"kind": task.kind, **{split: found for split, (_, (found, _)) in seen.items()}})


def parameters(left, current):
    """How many values trained, and how many the encoder has."""
    groups = left["counts"]["variables"].values()
    shapes = checkpoint_io.variable_shapes(current.bert_config.to_dict()).values()
    return {"trained_parameters": sum(row["parameters"] for row in groups if row["trained"]),
            "encoder_parameters": sum(int(tf.TensorShape(shape).num_elements())
                                      for shape in shapes)}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
