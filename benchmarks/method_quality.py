"""Dev scores, sizes and speeds of all methods with default flags; the table in docs/methods.md.

    python benchmarks/method_quality.py --bert_dir=DIR --glue_dir=DIR --ner_dir=DIR --reviews=FILE
    python benchmarks/method_quality.py --table

A run is the plain command with the method's own flag. All runs are kept in
docs/results/methods.json; those that are there are not done again. What the default method scores
is measured by default_quality.py. Speeds are measured last, one run at a time, method after method
in rounds, since they are to be compared. --table prints the table.
"""
import statistics

import default_quality as plain

from adapter_bert import files

RECORD = plain.ROOT / "docs" / "results" / "methods.json"
SEEDS, ROUNDS = 3, 2
DEFAULT = "houlsby"
METHODS = {
    DEFAULT: (),
    **{name: (f"--adapter_method={name}",)
       for name in ("pfeiffer", "parallel", "lora", "ia3", "prefix")},
    "adapters_drop": ("--tuning=adapters_drop", "--adapter_layers=3,4,5"),
}
TASKS = [row for row in plain.ROWS if row.is_in_grid]
ROWS = [task._replace(name=f"{method} {task.name}", flags=(*task.flags, *flags))
        for method, flags in METHODS.items() if method != DEFAULT for task in TASKS]
# One pass over a part of MRPC, long enough for a speed.
SPEEDS = [TASKS[0]._replace(name=f"{method} speed", flags=(
    *TASKS[0].flags, *flags, "--max_train_examples=1280", "--num_train_epochs=1", "--guard=off"))
    for method, flags in METHODS.items()]


def runs_of(method: str, task: plain.Row) -> list[dict]:
    """The runs of a method on a task, of as many seeds as are compared."""
    rows = files.read_json(plain.RECORD if method == DEFAULT else RECORD)
    return rows[task.name if method == DEFAULT else f"{method} {task.name}"]["runs"][:SEEDS]


def table() -> str:
    """The table in Markdown: a row a method; scores are means over the seeds, in points."""
    record = files.read_json(RECORD)
    lines = ["| method | parameters | " + " | ".join(
        f"{task.name}, {task.metric.removeprefix('eval_')}" for task in TASKS)
        + " | mean | examples/s |", "|---|---" + "|---" * len(TASKS) + "|---|---|"]
    for method in METHODS:
        runs = [runs_of(method, task) for task in TASKS]
        speeds = record[f"{method} speed"]["runs"]
        means = [100 * statistics.mean(run["score"] for run in some) for some in runs]
        lines.append(" | ".join([
            f"| `{method}`", f"{speeds[0]['parameters']:,}",
            *(f"{mean:.1f} ({100 * min(run['score'] for run in some):.1f} to "
              f"{100 * max(run['score'] for run in some):.1f})"
              for mean, some in zip(means, runs, strict=True)),
            f"{statistics.mean(means):.1f}",
            f"{statistics.median(run['examples_per_second'] for run in speeds):.0f} |"]))
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = plain.parser_of(__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the table only")
    options = parser.parse_args()
    if not options.table:
        wanted = options.only.split(",") if options.only else [row.name for row in ROWS]
        with plain.folders(options) as places:
            plain.run_rows([row for row in ROWS if row.name in wanted], SEEDS, RECORD, places,
                           options.workers)
            if not options.only:
                plain.run_rows(SPEEDS, ROUNDS, RECORD, places, workers=1)
    print(table())


if __name__ == "__main__":
    main()
