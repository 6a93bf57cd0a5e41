"""Tables and figures of a results folder, as files."""
import os
from typing import NamedTuple

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.research.report import paper_figures, paper_tables, table_cells
from adapter_bert.research.sweep import grid, result_files


class Report(NamedTuple):
    """What was written: how many runs it is of, and the path of the text."""

    done: int
    planned: int
    path: str


def write(experiment, folder, output):
    """Writes README.md, table.csv, cells.json, differences.json, and each figure that has results.

    Args:
      experiment: config.Experiment.
      folder: results folder.
      output: folder to write to.

    Returns:
      Report.

    Raises:
      InputError: there are no results yet.
    """
    planned, done = grid.plan(experiment), table_cells.read_all(experiment, folder)
    if not done.runs:
        failed = result_files.failures(folder, [run.name for run in planned])
        raise InputError("; ".join([f"{folder}: no result of this experiment is there yet",
                                    *([result_files.in_words(folder, failed)] if failed else [])]))
    found = paper_tables.records(experiment, done)
    compared = paper_tables.comparisons(experiment, done)
    path = os.path.join(output, "README.md")
    files.write_json(os.path.join(output, "differences.json"),
                     paper_tables.difference_records(experiment, compared))
    files.write_text(os.path.join(output, "table.csv"), paper_tables.as_csv(found))
    files.write_json(os.path.join(output, "cells.json"), found)
    drawn = paper_figures.draw(experiment, done, output)
    files.write_text(path, "\n".join([
        *introduction(folder, output, planned, done),
        paper_tables.markdown(experiment, done, compared),
        *(f"![{caption}]({name}.png)\n\n{caption} ([SVG]({name}.svg))\n"
          for name, caption in drawn.items()),
        paper_tables.sweeps(experiment)]))
    return Report(sum(map(len, done.runs.values())), len(planned), path)


def introduction(folder, output, planned, done):
    """The first lines: what was run, on what, and where the numbers come from."""
    facts = result_files.read_facts(folder)
    found = [scored.result for some in done.runs.values() for scored in some]
    hours = sum(result["seconds"] for result in found) / 3600
    yield "# Adapters against full tuning\n"
    yield (
        "Written by `adapter-bert experiment` from result files; edit nothing here. "
        f"Base: {facts['base']['name']} (fingerprint {facts['base']['fingerprint'][:12]}); "
        f"{len(found)} of {len(planned)} runs, {hours:.1f} hours of training and scoring; "
        f"{each(result['flags']['precision'] for result in found)}, "
        f"TensorFlow {each(result['versions']['tensorflow'] for result in found)}, "
        f"commit {each(result['commit'] for result in found)}. `cells.json` names "
        f"for each cell the files in `{os.path.relpath(folder, output)}/{result_files.RUNS}` that "
        "it is made of, and they hold every prediction of the dev set.\n"
    )
    if done.failed:
        settings = "; ".join(f"{mode} on {task}, " + ", ".join(
            f"{name} {value}" for name, value in point if value is not None)
            for task, mode, point in sorted(done.failed, key=str))
        yield f"Went wrong with some seed, and so is not chosen: {settings}.\n"


def each(values):
    """All different values as a text; of results of different machines there may be several."""
    return ", ".join(sorted({str(value) for value in values}))
