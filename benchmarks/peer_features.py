"""A task's examples as both sides of peer_comparison.py learn them, and the scores of predictions.

Our readers and our tokenizer write train.npz and dev.npz, see workload.py; our scorer scores the
predictions of the other side as it scores our own.
"""
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import workload

from adapter_bert.kinds import heads
from adapter_bert.train import resolve, split_records
from adapter_bert.train.kind_runs import KINDS
from adapter_bert.train.named_task import squad_task, text_task
from adapter_bert.train.settings import Settings, SquadSettings

# What gold labels must score at least, as a share of the highest score: of a long context an
# answer, and of a long sentence the last words, may lie beyond the longest row.
GOLD = 0.97
_OF_PROGRAM = {"run_classifier.py": (Settings, text_task),
               "run_squad.py": (SquadSettings, squad_task)}


class Features(NamedTuple):
    """A task whose examples are in files.

    run: resolve.Run with the task's labels.
    targets: what predictions of the dev split are held against, see kinds.Kind.
    train, dev: paths of the .npz files.
    """

    run: resolve.Run
    targets: Any
    train: pathlib.Path
    dev: pathlib.Path

    @property
    def labels(self) -> int:
        """Outputs of the head."""
        return heads.width(self.run.task.kind, self.run.task.labels)

    def score(self, predicted: Mapping[str, np.ndarray]) -> dict[str, float]:
        """{eval_<metric>: score} of predictions for the dev split, in the order of its rows."""
        scores = KINDS[self.run.task.kind].score(self.run, self.targets, predicted)
        return {f"eval_{name}": round(float(value), 4) for name, value in scores.items()}


def write(program: str, flags: Mapping[str, Any], folder: pathlib.Path) -> Features:
    """Writes the examples of both splits into a folder.

    Args:
      program: run_classifier.py or run_squad.py.
      flags: {name: value} of its command line, data and base among them.
      folder: for the two files.
    """
    settings_class, task_of = _OF_PROGRAM[program]
    settings = settings_class(do_train=True, do_eval=True, output_dir=str(folder), **flags)
    run, examples = split_records.read(
        resolve.open_run(settings, frozenset(flags), task_of(settings))
    )
    train, dev = split_records.drawn(run, examples["train"]), examples["dev"]
    kind = KINDS[run.task.kind]
    paths = [folder / f"{name}.npz" for name in ("train", "dev")]
    folder.mkdir(parents=True, exist_ok=True)
    for path, rows in zip(paths, (train, dev), strict=True):
        workload.write(path, list(kind.featurize(run, rows, path.stem, 0)))
    return Features(run, kind.targets(run, dev), *paths)


def check_gold(features: Features, metric: str, highest: float) -> float:
    """The score of the gold labels in dev.npz: the file and the scorer must agree.

    Raises:
      ValueError: it is below GOLD, so that rows, labels or targets do not belong together.
    """
    score = features.score(gold(features))[metric]
    if score < GOLD * highest:
        raise ValueError(f"{features.dev}: its own labels score {score}, not {highest}")
    return score


def gold(features: Features) -> dict[str, np.ndarray]:
    """Predictions that are right, from the labels of dev.npz."""
    with np.load(features.dev) as file:
        columns = dict(file)
    task = features.run.task
    if task.kind == "classification":
        return {"probabilities": np.eye(features.labels)[columns["label_ids"]]}
    if task.kind == "regression":
        return {"scores": columns["label_ids"]}
    batch = workload.padded(workload.read(features.dev))
    if task.kind == "tokens":
        return {"label_ids": batch["label_ids"]}
    places = np.arange(batch["input_ids"].shape[1])
    logits = {f"{end}_logits": 10.0 * (places == batch[f"{end}_positions"][:, None])
              for end in ("start", "end")}
    return {"index": batch["index"], "doc_start": batch["doc_start"], **logits}
