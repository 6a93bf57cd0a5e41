"""Does `adapter-bert tune` find what the full grid found, with at most 40 % of its compute?

    python benchmarks/tune_quality.py --bert_dir=DIR --glue_dir=DIR [--tasks=MRPC,STS-B] [--smoke]
    python benchmarks/tune_quality.py --verdict

The grid is that of experiments/paper_small.json with adapters: rates, sizes and seeds, of which
docs/paper/results has the results. Its best score is the highest mean over seeds of a setting; its
compute is the training examples of all of its runs. tune searches rate and size with its default
flags, as many trials as fit into 40 % of that. The setting that it finds is then trained with five
other seeds, so that a lucky seed does not count, and their mean is held against the grid's best
score minus one standard error. With --grid_flags tune has the grid's other flags and no recipe: the
search alone, which then knows no good place to begin at. About half an hour on 2 cores; writes
docs/results/tune.json.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

import sides
from absl import logging

from adapter_bert import files
from adapter_bert.research.sweep import experiment_config, grid, result_files
from adapter_bert.research.tuning import plan as plans
from adapter_bert.research.tuning import search as searches
from adapter_bert.research.tuning import summary
from adapter_bert.train.hooks import speak_plainly
from adapter_bert.train.settings import Settings

SHARE, SEEDS, GRID_EPOCHS = 0.4, 5, 3.0
EXPERIMENT, GRID_RESULTS = "experiments/paper_small.json", "docs/paper/results"
OUTPUT = "docs/results/tune.json"


class GridScore(NamedTuple):
    """What a grid found for a task.

    best: the highest mean over seeds of a setting, in [0, 1].
    error: its standard error; for a setting of one seed the deviation between seeds of the others.
    setting: which.
    examples: training examples of all runs.
    flags: {flag: value} that all runs have.
    """

    best: float
    error: float
    setting: dict
    examples: float
    flags: dict


def grid_score(experiment: experiment_config.Experiment, task: str, metric: str) -> GridScore:
    """The GridScore of a task over the runs with adapters whose first values are not varied."""
    scores, examples = {}, 0.0
    for run in grid.plan(experiment):
        if run.task.name == task and run.mode.tuning == "adapters" and not run.mode.init_stddevs:
            result = result_files.read(GRID_RESULTS, run.name)
            setting = json.dumps({name: run.point[name] for name in ("size", "learning_rate")})
            scores.setdefault(setting, []).append(result["metrics"][f"eval_{metric}"])
            examples += result["examples"] * run.point["epochs"]
    deviation = statistics.mean(statistics.stdev(some) for some in scores.values() if len(some) > 1)
    best = max(scores, key=lambda setting: statistics.mean(scores[setting]))
    spread = statistics.stdev(scores[best]) if len(scores[best]) > 1 else deviation
    return GridScore(statistics.mean(scores[best]), spread / len(scores[best]) ** 0.5,
                     json.loads(best), examples, dict(experiment.settings))


def plan_of(task: str, options: argparse.Namespace, flags: dict, folder: str) -> plans.Plan:
    """The search of a task: rate and size, with default flags or with the grid's others."""
    of_grid = {"recipe": "reference", **flags, "num_train_epochs": GRID_EPOCHS}
    flags = {**(of_grid if options.grid_flags else {}), "task_name": task,
             "data_dir": os.path.join(options.glue_dir, task), "bert_dir": options.bert_dir,
             **({"max_train_examples": 64} if options.smoke else {})}
    settings = Settings(**flags, output_dir=folder)
    return plans.bind(plans.make("classifier", settings, set(flags) | {"output_dir"},
                                 "learning_rate,size"))


def search_within(plan: plans.Plan, most: float, most_trials: int) -> list:
    """The trials of a search that processes at most so many training examples."""
    trials: list = []
    whole = plan.settings.num_train_epochs * plan.train.examples
    while len(trials) < most_trials and whole + sum(
            summary.examples_of(plan, trial) for trial in trials) <= most:
        # A first trial that learns nothing would end a search of one.
        least = 2 if plan.settings.recipe == "auto" else searches.MOST_FAILED
        trials = searches.search(plan, max(len(trials) + 1, least)).trials()
    return trials


def score_of_seed(plan: plans.Plan, values: dict, seed: int, metric: str) -> float:
    """The dev score of a run with these values of the searched parameters and another seed."""
    folder = os.path.join(plan.folder, f"seed{seed}")
    flags = {**plan.run_flags(values, folder), "seed": seed}
    subprocess.run([sys.executable, "run_classifier.py",
                    *(f"--{name}={value}" for name, value in flags.items())],
                   check=True, cwd=sides.ROOT, stderr=subprocess.DEVNULL,
                   env={**os.environ, "PYTHONPATH": str(sides.ROOT)})
    return files.read_object(os.path.join(folder, "results.json"))["metrics"][f"eval_{metric}"]


def measure(task: str, options: argparse.Namespace, experiment: experiment_config.Experiment,
            folder: str) -> dict:
    """What the search of a task reached, against the grid."""
    metric = {"MRPC": "accuracy", "STS-B": "pearson"}[task]
    reference = grid_score(experiment, task, metric)
    plan = plan_of(task, options, reference.flags, folder)
    assert plan.metric == metric
    trials = search_within(plan, SHARE * reference.examples, 2 if options.smoke else 1000)
    best = max((trial for trial in trials if trial.value is not None
                and trial.state.name == "COMPLETE"), key=lambda trial: trial.value)
    print(summary.write(plan, trials, best), flush=True)
    seeds = [score_of_seed(plan, best.params, seed, metric)
             for seed in range(1, 2 if options.smoke else 1 + SEEDS)]
    examples = sum(summary.examples_of(plan, trial) for trial in trials)
    return {"metric": metric, "grid": reference._asdict(), "needed": reference.best
            - reference.error, "trials": len(trials), "best_in_search": best.value,
            "found": best.params, "seeds": seeds, "reached": statistics.mean(seeds),
            "compute_share": examples / reference.examples}


def line(task: str, row: dict) -> str:
    """What the search of a task reached, for people."""
    return (f"{task}: {row['metric']} {row['reached']:.3f} (mean of {len(row['seeds'])} seeds; "
            f"{row['best_in_search']:.3f} in the search), needed {row['needed']:.3f}, with "
            f"{row['compute_share']:.0%} of the grid's compute")


def verdict(rows: dict[str, dict]) -> int:
    """The exit code: 1 where a search reached too little, or took too much."""
    return int(any(row["reached"] < row["needed"] or row["compute_share"] > SHARE
                   for row in rows.values()))


def main() -> None:
    """Prints and writes what was reached; exits with 1 where that is too little."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", help="the base, in Google's form")
    parser.add_argument("--glue_dir", help="folder of the task folders")
    parser.add_argument("--tasks", default="MRPC,STS-B")
    parser.add_argument("--grid_flags", action="store_true", help="the grid's flags, no recipe")
    parser.add_argument("--smoke", action="store_true", help="64 examples: does it start?")
    parser.add_argument("--verdict", action="store_true", help="only say what was measured")
    options = parser.parse_args()
    os.chdir(sides.ROOT)
    if options.verdict:
        record = files.read_object(OUTPUT)
        found = {task: record[task] for task in options.tasks.split(",")}
        print("; ".join(line(*item) for item in found.items()))
        sys.exit(verdict(found))
    logging.use_absl_handler()
    speak_plainly()
    os.environ.update(BERT_DIR=options.bert_dir, GLUE_DIR=options.glue_dir,
                      PYTHONPATH=str(sides.ROOT))
    experiment, found = experiment_config.read(EXPERIMENT), {}
    for task in options.tasks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found[task] = measure(task, options, experiment, os.path.join(folder, "search"))
        print(line(task, found[task]), flush=True)
    if options.smoke or options.grid_flags:
        return
    files.write_json(OUTPUT, {"commit": sides.commit(), "machine": sides.machine(), **found})
    sys.exit(verdict(found))


if __name__ == "__main__":
    main()
