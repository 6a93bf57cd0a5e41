"""Dev scores of tasks on a base, adapters and full tuning; docs/results.md is made of them.

A run whose result file is there is not done again.

    python benchmarks/quality.py --bert_dir=DIR --glue_dir=DIR --squad_dir=DIR \\
        [--only=MRPC-adapters-bfloat16]
    python benchmarks/quality.py --report
"""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

import meta_report
import peer_record
from sides import REFERENCE, commit

from adapter_bert import files

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
REPORT = ROOT / "docs" / "results.md"


class Row(NamedTuple):
    """One line of the table: so many seeds of one task in one tuning mode."""

    task: str
    tuning: str
    learning_rate: float
    epochs: float
    seeds: int
    precision: str = "bfloat16"

    @property
    def name(self):
        """The row's name in file names and in --only."""
        return f"{self.task}-{self.tuning}-{self.precision}"


ROWS = (
    Row("MRPC", "adapters", 1e-3, 5, 5),
    Row("MRPC", "adapters", 1e-3, 5, 3, "float32"),
    Row("MRPC", "full", 5e-5, 5, 1),
    Row("STS-B", "adapters", 1e-3, 5, 1),
    Row("STS-B", "full", 5e-5, 3, 1),
    Row("CoLA", "adapters", 1e-3, 5, 1),
    Row("CoLA", "full", 5e-5, 3, 1),
    Row("SST-2", "adapters", 1e-3, 1, 1),
    Row("SST-2", "full", 5e-5, 1, 1),
    Row("SQuAD", "adapters", 3e-3, 6, 3),
    Row("SQuAD", "full", 2e-4, 6, 3),
)


def command(row, seed, bert_dir, data_dir, output_dir):
    """The command of one run."""
    of_task = (["run_squad.py", f"--train_file={data_dir}/train.json",
                f"--predict_file={data_dir}/dev.json", "--train_batch_size=16"]
               if row.task == "SQuAD" else
               ["run_classifier.py", f"--task_name={row.task}", f"--data_dir={data_dir}",
                "--train_batch_size=32", "--max_seq_length=128"])
    return [*of_task, *REFERENCE,
            f"--bert_dir={bert_dir}", "--do_train", "--do_eval", f"--tuning={row.tuning}",
            f"--learning_rate={row.learning_rate}", f"--num_train_epochs={row.epochs}",
            f"--precision={row.precision}", "--bias_correction", "--adapter_init_stddev=2e-2",
            "--eval_batch_size=32", f"--seed={seed}", f"--output_dir={output_dir}"]


def run_row(row, bert_dir, glue_dir, squad_dir):
    """Runs the seeds of a row that have no result yet."""
    data_dir, shown_dir = ((squad_dir, "$SQUAD_DIR") if row.task == "SQuAD" else
                           (os.path.join(glue_dir, row.task), f"$GLUE_DIR/{row.task}"))
    for seed in range(row.seeds):
        path = RESULTS / f"{row.name}-seed{seed}.json"
        if path.exists():
            continue
        with tempfile.TemporaryDirectory() as output_dir:
            arguments = command(row, seed, bert_dir, data_dir, output_dir)
            subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)
            result = files.read_json(os.path.join(output_dir, "results.json"))
        shown = command(row, seed, "$BERT_DIR", shown_dir, "$OUTPUT_DIR")
        files.write_json(path, {"command": shlex.join(["python", *shown]).replace("'", ""),
                                "commit": commit(), **without_paths(result)})


def without_paths(result):
    """The part of results.json that holds on any machine."""
    kept = ("metrics", "counts", "train_seconds", "train_examples_per_second", "versions")
    return {key: result[key] for key in kept}


def report():
    """The text of docs/results.md, from the result files alone."""
    lines = ["# Results", "",
             "Written by `make quality` from the files in `docs/results/`; edit nothing here.",
             "Base: all-MiniLM-L6-v2 (6 layers, 384 wide), batch 32, length 128, 2 cores;",
             "adapters begin with a standard deviation of 2e-2, as the library `adapters` has it.",
             "SQuAD: the 1,013 questions of 40 articles of XQuAD's English part, scores in percent "
             "on the", "177 of the other 8, batch 16, length 384.",
             "Other work ran beside these runs: for speed see `make bench`.",
             "",
             "| task | tuning | products | learning rate | epochs | seeds "
             "| dev scores (median of the seeds) | trained | steps | examples/s |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for row in ROWS:
        found = [json.loads(path.read_text())
                 for path in sorted(RESULTS.glob(f"{row.name}-seed*.json"))]
        if found:
            lines.append(table_line(row, found))
    lines += peer_record.lines(peer_record.read(peer_record.RECORD))
    lines += ["", "## Commands", ""]
    lines += [f"- `{json.loads(path.read_text())['command']}` ({path.name}, commit "
              f"{json.loads(path.read_text())['commit']})"
              for row in ROWS for path in sorted(RESULTS.glob(f"{row.name}-seed*.json"))]
    return "\n".join(lines + meta_report.lines()) + "\n"


def table_line(row, found):
    """A row of the table of results."""
    scores = ", ".join(f"{name.removeprefix('eval_')} {median(found, name):.4f}"
                       for name in found[0]["metrics"] if name.startswith("eval_"))
    groups = found[0]["counts"]["variables"].values()
    trained = sum(group["parameters"] for group in groups if group["trained"])
    share = trained / sum(group["parameters"] for group in groups)
    rate = statistics.median(run["train_examples_per_second"] for run in found)
    steps = found[0]["metrics"]["global_step"]
    cells = (row.task, row.tuning, row.precision, f"{row.learning_rate:g}", row.epochs, len(found),
             scores, f"{trained:,} ({share:.1%})", steps, f"{rate:.1f}")
    return f"| {' | '.join(map(str, cells))} |"


def median(found, name):
    """The median of a metric over runs."""
    return statistics.median(run["metrics"][name] for run in found)


def mrpc_accuracies() -> dict[str, list[float]]:
    """{precision: MRPC dev accuracy of each seed} of our runs with adapters."""
    return {row.precision: [json.loads(path.read_text())["metrics"]["eval_accuracy"]
                            for path in sorted(RESULTS.glob(f"{row.name}-seed*.json"))]
            for row in ROWS if (row.task, row.tuning) == ("MRPC", "adapters")}


def verdict() -> int:
    """Prints what is missing or lost by bfloat16; returns the exit code."""
    missing = [f"{row.name} seed {seed}" for row in ROWS for seed in range(row.seeds)
               if not (RESULTS / f"{row.name}-seed{seed}.json").exists()]
    if missing:
        print("not measured yet: " + ", ".join(missing))
        return 1
    found = mrpc_accuracies()
    seeds = min(map(len, found.values()))
    medians = {name: statistics.median(values[:seeds]) for name, values in found.items()}
    lost = medians["float32"] - medians["bfloat16"]
    print("median MRPC accuracy: " + ", ".join(
        f"{name} {value:.4f}" for name, value in medians.items()) +
        f" in seeds 0 to {seeds - 1}; bfloat16 loses {lost:.4f}, at most 0.01 is allowed")
    return int(lost > 0.01)


def main():
    """Runs what has no result, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", help="base in Google's form")
    parser.add_argument("--glue_dir", help="folder of the task folders")
    parser.add_argument("--squad_dir", help="folder of train.json and dev.json in SQuAD's form")
    parser.add_argument("--only", help="comma-separated rows, as in MRPC-adapters,CoLA-full")
    parser.add_argument("--report", action="store_true", help="only write docs/results.md")
    parser.add_argument("--verdict", action="store_true",
                        help="say whether every row is there, and what bfloat16 loses on MRPC")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    wanted = options.only.split(",") if options.only else [row.name for row in ROWS]
    for row in ROWS:
        if not options.report and row.name in wanted:
            run_row(row, options.bert_dir, options.glue_dir, options.squad_dir)
    REPORT.write_text(report())
    if options.verdict:
        sys.exit(verdict())


if __name__ == "__main__":
    main()
