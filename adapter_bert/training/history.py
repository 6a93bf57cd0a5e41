"""The scores of a run while it trains: which checkpoint is best, and when to stop."""
import glob
import os
import shutil

from adapter_bert import files


class History:
    """Evaluations of a run in the order of steps, kept in eval_history.json.

    Args:
      output_dir: folder of the run.
      metric: the key that tells the best; higher is better.
      patience: evaluations without a better score after which training stops; 0 for never.
    """

    def __init__(self, output_dir, metric, patience):
        self._output_dir, self._metric, self._patience = output_dir, metric, patience
        path = self._path("eval_history.json")
        self._rows = files.read_json(path) if os.path.exists(path) else []

    def add(self, metrics, checkpoint, keep):
        """Notes an evaluation; with `keep`, a best checkpoint is copied to best/."""
        step = metrics["global_step"]
        self._rows = [row for row in self._rows if row["global_step"] < step] + [metrics]
        if keep and self.best() is metrics:
            self._copy(checkpoint)
        files.write_json(self._path("eval_history.json"), self._rows)

    def best(self):
        """The metrics of the best evaluation, the first of equals; None before there is one."""
        return max(self._rows, key=lambda row: row[self._metric], default=None)

    def has(self, step):
        """Whether the checkpoint of that step was evaluated."""
        return any(row["global_step"] == step for row in self._rows)

    def is_over(self):
        """Whether the score has not risen for `patience` evaluations."""
        if not self._patience or not self._rows:
            return False
        return len(self._rows) - 1 - self._rows.index(self.best()) >= self._patience

    def _copy(self, checkpoint):
        """Puts a copy of a checkpoint in the place of best/, whole or not at all."""
        new, place = self._path("best.new"), self._path("best")
        shutil.rmtree(new, ignore_errors=True)
        os.makedirs(new)
        for path in glob.glob(glob.escape(checkpoint) + ".*"):
            shutil.copy(path, new)
        files.write_text(os.path.join(new, "checkpoint"),
                         f'model_checkpoint_path: "{os.path.basename(checkpoint)}"\n')
        shutil.rmtree(place, ignore_errors=True)
        os.rename(new, place)

    def _path(self, name):
        return os.path.join(self._output_dir, name)
