"""What peer_comparison.py measured: the tasks, the file of all runs, and what follows from it."""
import json
import pathlib
import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sides import ROOT

RECORD = ROOT / "docs" / "results" / "peers.json"
SEEDS, RATES = 3, (1e-3, 3e-4)   # of the library's runs; ours choose their own rate
OURS, THEIRS = "ours", "adapters"


class Task(NamedTuple):
    """A task of the comparison.

    flags: of our command, besides base, output folder and seed; folders are variables.
    metric: the score that is compared.
    highest: the best score there is.
    """

    name: str
    program: str
    flags: Mapping[str, Any]
    metric: str
    highest: float = 1.0


TASKS = (
    *(Task(name, "run_classifier.py", {"task_name": name, "data_dir": f"$GLUE_DIR/{name}"}, metric)
      for name, metric in (("MRPC", "eval_accuracy"), ("STS-B", "eval_spearman"),
                           ("CoLA", "eval_matthews"))),
    Task("NER", "run_classifier.py", {"task_name": "NER", "data_dir": "$NER_DIR"}, "eval_f1"),
    # Three epochs: at the rates of the other tasks, as many as SQuAD is usually trained for.
    Task("SQuAD", "run_squad.py", {
        "train_file": "$SQUAD_DIR/train.json", "predict_file": "$SQUAD_DIR/dev.json",
        "train_batch_size": 16, "num_train_epochs": 3}, "eval_f1", 100.0),
)


class Verdict(NamedTuple):
    """Our scores of a task against the library's at the better of its rates.

    floor: the library's mean less one standard error, which our mean must reach.
    """

    ours: list[float]
    theirs: list[float]
    rate: float
    floor: float

    @property
    def is_reached(self) -> bool:
        """Whether our mean is at least the floor."""
        return statistics.mean(self.ours) >= self.floor


def read(path: pathlib.Path) -> dict[str, Any]:
    """{task name: {"ours": [run, ...], "adapters": [run, ...], ...}}; {} without a file."""
    return json.loads(path.read_text()) if path.exists() else {}


def of_rate(runs: list[dict[str, Any]], rate: float) -> list[float]:
    """Scores of the library's runs at a learning rate."""
    return [run["score"] for run in runs if run["learning_rate"] == rate]


def judge(entry: Mapping[str, Any]) -> Verdict:
    """The verdict on a task; each side needs two runs, the library at each rate.

    Args:
      entry: of a task in the file of all runs.
    """
    ours = [run["score"] for run in entry[OURS]]
    rate = max(RATES, key=lambda rate: statistics.mean(of_rate(entry[THEIRS], rate)))
    theirs = of_rate(entry[THEIRS], rate)
    error = statistics.stdev(theirs) / len(theirs) ** 0.5
    return Verdict(ours, theirs, rate, statistics.mean(theirs) - error)


def missing(entry: Mapping[str, Any], seeds: int = SEEDS) -> list[str]:
    """What a task still needs, in words."""
    counts = {OURS: len(entry.get(OURS, ()))} | {
        f"{THEIRS} at {rate:g}": len(of_rate(entry.get(THEIRS, ()), rate)) for rate in RATES}
    return [f"{who}: {count} of {seeds} runs" for who, count in counts.items() if count < seeds]


def lines(record: Mapping[str, Any]) -> list[str]:
    """The section of docs/results.md on the tasks that are complete; none without any."""
    judged = {task.name: (task, judge(record[task.name])) for task in TASKS
              if task.name in record and not missing(record[task.name])}
    if not judged:
        return []
    rows = [table_line(task, record[name], verdict) for name, (task, verdict) in judged.items()]
    return ["", "## Against the library `adapters`", "",
            f"Dev scores of {SEEDS} seeds: ours with default flags; the library on the same tokens "
            "for the same epochs, at the better of "
            f"{' and '.join(f'{rate:g}' for rate in RATES)}. The floor is the library's mean less "
            "one standard error. Measured by `make quality-peer`.", "",
            "| task | score | epochs | ours: mean (each seed) | `adapters`: mean (each seed) "
            "| floor | reached |", "|---|---|---|---|---|---|---|", *rows]


def table_line(task: Task, entry: Mapping[str, Any], verdict: Verdict) -> str:
    """A row of the table in docs/results.md."""
    rate = entry[OURS][0]["learning_rate"]
    cells = (task.name, task.metric.removeprefix("eval_"), f"{entry['settings']['epochs']:g}",
             f"{shown(verdict.ours)} at {rate:g}", f"{shown(verdict.theirs)} at {verdict.rate:g}",
             f"{verdict.floor:.4f}", "yes" if verdict.is_reached else "no")
    return f"| {' | '.join(cells)} |"


def shown(scores: list[float]) -> str:
    """The mean of scores, and each."""
    return f"{statistics.mean(scores):.4f} ({' '.join(f'{score:.4f}' for score in scores)})"


def problems(record: Mapping[str, Any], tasks: Iterable[Task] = TASKS) -> list[str]:
    """Prints how each task compares; returns what is missing or falls short."""
    found = []
    for task in tasks:
        entry = record.get(task.name, {})
        lacking = missing(entry)
        if lacking:
            found.append(f"{task.name}: {', '.join(lacking)}")
            continue
        verdict = judge(entry)
        error = statistics.mean(verdict.theirs) - verdict.floor
        print(f"{task.name:<6} {task.metric.removeprefix('eval_'):<9} ours {shown(verdict.ours)}, "
              f"median {statistics.median(verdict.ours):.4f}; adapters at {verdict.rate:g} "
              f"{shown(verdict.theirs)}, standard error {error:.4f}; floor {verdict.floor:.4f} "
              f"{'reached' if verdict.is_reached else 'MISSED'}")
        if not verdict.is_reached:
            found.append(f"{task.name}: ours {statistics.mean(verdict.ours):.4f}, "
                         f"below the floor of {verdict.floor:.4f}")
        collapsed = [run["seed"] for run in entry[OURS] if not run["learned"]]
        if collapsed:
            found.append(f"{task.name}: seeds {collapsed} of ours learned nothing")
    return found
