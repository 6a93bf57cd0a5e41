"""Tables and figures of a results folder, as files."""
import os
from typing import NamedTuple

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.paper import cells, figures, grid, results, tables


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
    planned, all_scored = grid.plan(experiment), cells.read_all(experiment, folder)
    if not all_scored:
        raise InputError(f"{folder}: no result of this experiment is there yet")
    found = tables.records(experiment, all_scored)
    compared = tables.comparisons(experiment, all_scored)
    path = os.path.join(output, "README.md")
    files.write_json(os.path.join(output, "differences.json"),
                     tables.difference_records(experiment, compared))
    files.write_text(os.path.join(output, "table.csv"), tables.as_csv(found))
    files.write_json(os.path.join(output, "cells.json"), found)
    drawn = figures.draw(experiment, all_scored, output)
    files.write_text(path, "\n".join([
        *introduction(folder, output, planned, all_scored),
        tables.markdown(experiment, all_scored, compared),
        *(f"![{caption}]({name}.png)\n\n{caption} ([SVG]({name}.svg))\n"
          for name, caption in drawn.items()),
        tables.sweeps(experiment)]))
    return Report(sum(map(len, all_scored.values())), len(planned), path)


def introduction(folder, output, planned, all_scored):
    """The first lines: what was run, on what, and where the numbers come from."""
    facts = files.read_object(os.path.join(folder, results.FILE))
    done = [scored.result for some in all_scored.values() for scored in some]
    hours = sum(result["seconds"] for result in done) / 3600
    commits = sorted({str(result["commit"]) for result in done})
    versions = done[0]["versions"]
    yield "# Adapters against full tuning\n"
    yield ("Written by `adapter-bert experiment` from result files; edit nothing here. "
           f"Base: {facts['base']['name']} (fingerprint {facts['base']['fingerprint'][:12]}); "
           f"{len(done)} of {len(planned)} runs, {hours:.1f} hours of training and scoring in all; "
           f"TensorFlow {versions['tensorflow']}, commit {', '.join(commits)}. `cells.json` names "
           f"for each cell the files in `{os.path.relpath(folder, output)}/{results.RUNS}` that it "
           "is made of, and they hold every prediction of the dev set.\n")
