"""What a run leaves for people and programs: the lines, tables and files of its results."""
import importlib.metadata
import os
import platform
import time

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import files, paths

# The order of BERT's block; a task's further metrics follow.
FIRST_KEYS = ("eval_accuracy", "eval_loss", "global_step", "loss")
RESULTS_FILE = "results.json"
_UNSCORED = ("global_step", "loss", "total")   # keys of metrics that are no scores


def variable_table(counts):
    """The lines of the table of trained and frozen variables.

    Args:
      counts: {group: {"variables": int, "parameters": int, "trained": bool}}.
    """
    total = sum(row["parameters"] for row in counts.values())
    trained = sum(row["parameters"] for row in counts.values() if row["trained"])
    yield "***** Variables *****"
    for group, row in counts.items():
        state = "trained" if row["trained"] else ""
        yield (f"  {group:<12} {state:<8} {row['variables']:>5} variables "
               f"{row['parameters']:>13,} parameters")
    yield f"  {trained:,} of {total:,} parameters are trained ({trained / total:.2%})"


def ordered(metrics):
    """A dict of metrics in the order of BERT's results block."""
    rest = [key for key in metrics if key not in FIRST_KEYS]
    return {key: metrics[key] for key in [*filter(metrics.__contains__, FIRST_KEYS), *rest]}


def rounded(value: float) -> str:
    """A score for people: 0.836, or 46.2 where it is in percent."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def is_score(key: str) -> bool:
    """Whether a key of metrics is a score: neither a count nor the loss of the last batches."""
    return not key.startswith(_UNSCORED) and not key.endswith("_total")


def in_words(metrics: dict[str, float], baselines: dict[str, tuple[str, float]]) -> str:
    """Metrics of the dev set as one line for people, the loss last.

    Args:
      metrics: {key: float}; counts are left out.
      baselines: {key: (name of the baseline, its score)}, of some of these keys.

    Returns:
      str, as "accuracy 0.836 (majority class: 0.684), loss 0.412".
    """
    loss_last = sorted(filter(is_score, metrics), key=lambda key: "loss" in key)
    return ", ".join(with_baseline(key, metrics[key], baselines) for key in loss_last)


def with_baseline(key: str, value: float, baselines: dict[str, tuple[str, float]]) -> str:
    """A score, with what a model reaches that learned nothing: "f1 0.883 (all O: 0.000)"."""
    text = f"{key.removeprefix('eval_')} {rounded(value)}"
    if key not in baselines:
        return text
    name, baseline = baselines[key]
    return f"{text} ({name}: {rounded(baseline)})"


def report(output_dir, metrics, step, checkpoint, baselines=None):
    """Leaves the scores of a checkpoint in the log, eval_results.txt, TensorBoard, results.json.

    Args:
      output_dir: folder of the run.
      metrics: {key: float}.
      step: global step of the checkpoint.
      checkpoint: its prefix.
      baselines: as for `in_words`; None for none. Each score with one is logged beside it.
    """
    write_block(output_dir, metrics)
    for key in filter(metrics.__contains__, baselines or {}):
        logging.info(with_baseline(key, metrics[key], baselines))
    write_events(output_dir, metrics, step)
    update_results(output_dir, metrics=metrics, checkpoint=checkpoint, baselines={
        key: {"name": name, "score": score} for key, (name, score) in (baselines or {}).items()})


def write_block(output_dir, metrics):
    """Logs BERT's results block and writes it to eval_results.txt."""
    lines = [f"{key} = {value}" for key, value in ordered(metrics).items()]
    logging.info("***** Eval results *****")
    for line in lines:
        logging.info("  %s", line)
    files.write_text(os.path.join(output_dir, "eval_results.txt"), "\n".join(lines) + "\n")


def write_events(output_dir, metrics, step):
    """Writes metrics for TensorBoard, under eval/.

    TensorFlow names the file by the second, so a second evaluation within it would replace the
    first. TensorBoard reads the files in the order of their names: the suffix has to keep it.
    """
    with tf.Graph().as_default(), tf.summary.FileWriter(
            os.path.join(output_dir, "eval"), filename_suffix=f".{time.time_ns()}") as writer:
        writer.add_summary(tf.Summary(value=[
            tf.Summary.Value(tag=key, simple_value=value) for key, value in metrics.items()]), step)


def update_results(output_dir, **parts):
    """Writes `parts` into results.json; what an earlier command on the folder wrote stays."""
    path = os.path.join(output_dir, RESULTS_FILE)
    earlier = files.read_object(path) if paths.exists(path) else {}
    files.write_json(path, {**earlier, **parts, "versions": versions()})


def add_training_time(output_dir, progress):
    """Adds the seconds of a stretch of training to those before, with the speed so far.

    A stretch too short to be measured leaves the speed that was measured before it.
    """
    earlier = files.read_object(os.path.join(output_dir, RESULTS_FILE))
    update_results(
        output_dir, train_seconds=earlier.get("train_seconds", 0.0) + progress.take_seconds(),
        train_examples_per_second=progress.rate() or earlier.get("train_examples_per_second"))


def versions():
    """{package: version} of what the numbers depend on."""
    packages = ("tensorflow", "tokenizers", "numpy", "scikit-learn", "seqeval")
    return {"python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages}}
