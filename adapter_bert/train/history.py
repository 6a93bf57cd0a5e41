"""The scores of a run while it trains: which checkpoint is best, and when to stop."""
import os

from adapter_bert import files, paths
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.train import initial_values

HISTORY_FILE = "eval_history.json"


class History:
    """Evaluations of a run in the order of steps, kept in eval_history.json.

    Args:
      output_dir: folder of the run.
      metric: the key that tells the best; higher is better.
      patience: evaluations without a better score after which training stops; 0 for never.
      keep_best: whether the best checkpoint is copied to best/.

    Attributes:
      added: {global step: metrics} of the evaluations that this object was told of.
    """

    def __init__(self, output_dir, metric, patience, keep_best):
        self._path = os.path.join(output_dir, HISTORY_FILE)
        self._best_dir = os.path.join(output_dir, checkpoint_io.BEST_FOLDER)
        self._metric, self._patience, self._keep_best = metric, patience, keep_best
        self.added = {}
        self._rows = read_rows(self._path, metric) if paths.exists(self._path) else []

    def add(self, metrics, checkpoint):
        """Notes an evaluation of a checkpoint, and keeps the checkpoint where it is the best."""
        step = metrics["global_step"]
        self.added[step] = metrics
        self._rows = [row for row in self._rows if row["global_step"] < step] + [metrics]
        if self._keep_best and (
                self.best() is metrics or not initial_values.latest(self._best_dir)):
            keep_checkpoint(checkpoint, self._best_dir)
        files.write_json(self._path, self._rows)

    def best(self):
        """The metrics of the best evaluation, the first of equals; None before there is one."""
        return max(self._rows, key=lambda row: row[self._metric], default=None)

    def at(self, step):
        """The metrics of the checkpoint of that step; None where it was not evaluated."""
        return next((row for row in self._rows if row["global_step"] == step), None)

    def is_over(self):
        """Whether the score has not risen for `patience` evaluations."""
        if not self._patience or not self._rows:
            return False
        return len(self._rows) - 1 - self._rows.index(self.best()) >= self._patience


def of_run(settings, task):
    """The History of a run, from its Settings and kinds.Task."""
    return History(settings.output_dir, f"{settings.SCORES}{task.metrics[0]}",
                   settings.early_stopping_patience, settings.keep_best)


def read_rows(path, metric):
    """The evaluations in eval_history.json; InputError where it holds something else."""
    rows = files.read_json(path)
    if not isinstance(rows, list) or not all(
            isinstance(row, dict) and {"global_step", metric} <= row.keys() for row in rows):
        raise InputError(f"{path}: not the scores of this run; remove it, and the scores so far "
                         "are forgotten")
    return rows


def forget(output_dir):
    """Removes the scores and the best checkpoint of an earlier run, where there are any."""
    forget_best(output_dir)
    held = paths.names_in(output_dir)
    if HISTORY_FILE not in held:
        return
    for name in {HISTORY_FILE, "results.json", "eval_results.txt"}.intersection(held):
        paths.remove(os.path.join(output_dir, name))


def forget_best(output_dir):
    """Removes the best checkpoint that an earlier run kept, and nothing else of best/."""
    folder = os.path.join(output_dir, checkpoint_io.BEST_FOLDER)
    for name in paths.names_in(folder):
        if name.startswith("model.ckpt-"):
            paths.remove(os.path.join(folder, name))


def keep_checkpoint(checkpoint, folder):
    """Copies a checkpoint into `folder`, the index last, and then removes the one before.

    A checkpoint without its index is none: killed at any moment, `folder` holds whole ones only.
    """
    name = os.path.basename(checkpoint)
    for path in initial_values.files_of(checkpoint):
        with files.replacing(os.path.join(folder, os.path.basename(path))) as temporary:
            paths.copy(path, temporary)
    for other in paths.names_in(folder):
        if not other.startswith(name + "."):
            paths.remove(os.path.join(folder, other))
