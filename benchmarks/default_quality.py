"""Dev scores with default flags: does every run learn, and as much as the best known setting?

    python benchmarks/default_quality.py --bert_dir=DIR --glue_dir=DIR --ner_dir=DIR --reviews=FILE
    python benchmarks/default_quality.py --verdict

A run is the plain command, with nothing but data, base, output folder and seed. All runs are kept
in docs/results/defaults.json; those that are there are not done again. --workers processes work at
once, each on its own cores.
"""
import argparse
import contextlib
import csv
import json
import os
import pathlib
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import NamedTuple

from sides import commit

from adapter_bert import files

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "results" / "defaults.json"
GRID = ROOT / "docs" / "paper" / "results" / "runs"
SEEDS = 10
MOST_RESTARTS, MARGIN = 3, 0.01
DOMAIN, TRAIN_TEXTS = "books", 500


class Row(NamedTuple):
    """A task, its flags, the score that is kept, and the paper's task that it is compared with."""

    name: str
    flags: tuple[str, ...]
    metric: str
    is_in_grid: bool = False


ROWS = (
    Row("MRPC", ("--task_name=MRPC", "--data_dir=$GLUE_DIR/MRPC"), "eval_f1", True),
    Row("CoLA", ("--task_name=CoLA", "--data_dir=$GLUE_DIR/CoLA"), "eval_matthews", True),
    Row("STS-B", ("--task_name=STS-B", "--data_dir=$GLUE_DIR/STS-B"), "eval_spearman", True),
    Row("SST-2", ("--task_name=SST-2", "--data_dir=$GLUE_DIR/SST-2", "--max_train_examples=4000"),
        "eval_accuracy", True),
    Row("film reviews", ("--task_name=custom", "--data_dir=$FILM_DIR", "--text_column=sentence",
                         "--label_column=label"), "eval_accuracy"),
    Row("book reviews", ("--task_name=custom", "--data_dir=$BOOKS_DIR", "--text_column=text",
                         "--label_column=label"), "eval_accuracy"),
    Row("WNUT-17", ("--task_name=NER", "--data_dir=$NER_DIR"), "eval_f1"),
)


def command(row: Row, seed: int) -> list[str]:
    """The command of a run, with the names of folders as variables."""
    return ["python", "run_classifier.py", *row.flags, "--bert_dir=$BERT_DIR",
            "--output_dir=$OUTPUT_DIR", "--do_train", "--do_eval", f"--seed={seed}"]


def write_books(reviews: str, folder: str) -> None:
    """Writes train.csv and dev.csv of one domain of product reviews."""
    rows = [row for row in files.read_json(reviews) if row["domain"] == DOMAIN]
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[:TRAIN_TEXTS]), ("dev", rows[TRAIN_TEXTS:])):
        with open(os.path.join(folder, f"{name}.csv"), "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([" ".join(row["text"].split()), row["label"]] for row in part)


def run_one(row: Row, seed: int, places: dict[str, str], cpus: list[int]) -> dict:
    """Runs the command of a row and seed; returns what is kept of it."""
    with tempfile.TemporaryDirectory() as output_dir:
        known = {**places, "OUTPUT_DIR": output_dir}
        arguments = [filled(word, known) for word in command(row, seed)]
        done = subprocess.run([sys.executable, *arguments[1:]], cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        path = os.path.join(output_dir, "results.json")
        if done.returncode not in (0, 3) or not os.path.exists(path):
            raise RuntimeError(f"{row.name}, seed {seed}: {done.stdout[-2000:]}")
        results = files.read_json(path)
    trained = [group["parameters"] for name, group in results["counts"]["variables"].items()
               if group["trained"] and name != "head"]
    return {"seed": seed, "score": round(results["metrics"][row.metric], 4),
            "restarts": min(len(results["guard"]["failed_attempts"]), 2),
            "learned": results["guard"]["learned"],
            "train_seconds": round(results["train_seconds"]),
            "examples_per_second": round(results["train_examples_per_second"], 1),
            "parameters": sum(trained), "commit": commit(),
            "flags": results["recipe"]["choices"]}


def filled(word: str, known: dict[str, str]) -> str:
    """A word of a command with the values of its variables."""
    for name, value in known.items():
        word = word.replace(f"${name}", value)
    return word


def run_rows(rows: list[Row], seeds: int, path: pathlib.Path, places: dict[str, str],
             workers: int) -> None:
    """Does every run that the file does not have yet, seed after seed.

    Args:
      rows: what to run.
      seeds: count of runs of each row.
      path: JSON file of all runs, written after each.
      places: {variable of a command: folder}.
      workers: processes at once, each on its own cores.
    """
    record = files.read_json(path) if path.exists() else {}
    missing = [(row, seed) for seed in range(seeds) for row in rows
               if seed not in [run["seed"] for run in record.get(row.name, {}).get("runs", [])]]
    lock, cores = threading.Lock(), sorted(os.sched_getaffinity(0))

    def work(cpus):
        while True:
            with lock:
                if not missing:
                    return
                row, seed = missing.pop(0)
            found = run_one(row, seed, places, cpus)
            print(f"{row.name}, seed {seed}: {found['score']}, restarts {found['restarts']}",
                  flush=True)
            with lock:
                entry = record.setdefault(row.name, {
                    "command": shlex.join(command(row, 0)).replace("'", ""),
                    "metric": row.metric, "runs": []})
                entry["runs"] = sorted([*entry["runs"], found], key=lambda run: run["seed"])
                files.write_json(path, record)

    threads = [threading.Thread(target=work, args=(cores[place::workers],))
               for place in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def best_of_grid(row: Row) -> float:
    """The best median over seeds of any setting of the paper's grids, of three seeds at least."""
    scores: dict[str, list[float]] = {}
    for path in GRID.glob(f"{row.name}-*.json"):
        run = json.loads(path.read_text())
        setting = json.dumps({**run["flags"], "seed": None}, sort_keys=True)
        scores.setdefault(setting, []).append(run["metrics"][row.metric])
    return max(statistics.median(found) for found in scores.values() if len(found) >= 3)


def verdict() -> int:
    """Prints the table and what falls short; returns the exit code."""
    record, problems, restarts = files.read_json(RECORD), [], 0
    for row in ROWS:
        runs = record.get(row.name, {}).get("runs", [])
        if len(runs) < SEEDS:
            problems.append(f"{row.name}: {len(runs)} of {SEEDS} runs")
        if not runs:
            continue
        median = statistics.median(run["score"] for run in runs)
        collapsed = sum(not run["learned"] for run in runs)
        restarts += sum(run["restarts"] for run in runs) if row.name != "WNUT-17" else 0
        line = (f"{row.name}: median {median:.4f} ({min(run['score'] for run in runs):.4f} to "
                f"{max(run['score'] for run in runs):.4f}) of {len(runs)}")
        if row.is_in_grid:
            best = best_of_grid(row)
            line += f", best of the paper's grids {best:.4f}"
            if median < best - MARGIN:
                problems.append(f"{row.name}: {best - median:.4f} behind the grids' best")
        if collapsed:
            problems.append(f"{row.name}: {collapsed} runs learned nothing")
        print(line)
    if restarts > MOST_RESTARTS:
        problems.append(f"{restarts} restarts, not {MOST_RESTARTS} at most")
    print("; ".join(problems) or f"every run learned, {restarts} restarts")
    return bool(problems)


@contextlib.contextmanager
def folders(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """{variable of a command: folder}; that of the book reviews is written for the while."""
    with tempfile.TemporaryDirectory() as books:
        write_books(options.reviews, books)
        yield {"BERT_DIR": os.path.abspath(options.bert_dir),
               "GLUE_DIR": os.path.abspath(options.glue_dir),
               "NER_DIR": os.path.abspath(options.ner_dir), "BOOKS_DIR": books,
               "FILM_DIR": str(ROOT / "demo/work/movie_reviews")}


def parser_of(description: str) -> argparse.ArgumentParser:
    """The flags that say where base and data are, and how to run."""
    parser = argparse.ArgumentParser(description=description)
    for name in ("bert_dir", "glue_dir", "ner_dir", "reviews"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--only", help="names of rows, with commas between")
    parser.add_argument("--workers", type=int, default=2)
    return parser


def main() -> None:
    """Runs what is missing, or prints the verdict."""
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--verdict", action="store_true")
    options = parser.parse_args()
    if not options.verdict:
        wanted = options.only.split(",") if options.only else [row.name for row in ROWS]
        with folders(options) as places:
            run_rows([row for row in ROWS if row.name in wanted], SEEDS, RECORD, places,
                     options.workers)
    sys.exit(verdict())


if __name__ == "__main__":
    main()
