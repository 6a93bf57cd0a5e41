"""What was made for pre-training in numbers: counts, their sum, and what these say."""
import dataclasses
import json

import numpy as np

from adapter_bert.data import beam_files


def total(counts):
    """The sum of dicts of int and of int arrays, name by name."""
    found = {}
    for some in counts:
        for name, value in some.items():
            found[name] = found.get(name, 0) + np.asarray(value)
    return found


def path(outputs):
    """Where the statistics of output files lie."""
    return f"{outputs[0]}.json"


def write(settings, outputs, counts):
    """Writes the statistics.

    Args:
      settings: PretrainingSettings.
      outputs: list of str.
      counts: dict, the total of those of corpus.counts, instances.make and of `of_outputs`.

    Returns:
      The statistics, a dict.
    """
    found = {**_of_text(counts), **_of_instances(counts),
             "files": dict(zip(outputs, counts["of_outputs"].tolist(), strict=True)),
             "settings": dataclasses.asdict(settings)}
    with beam_files.writing(path(outputs)) as file:
        file.write((json.dumps(found, indent=1) + "\n").encode())
    return found


def _of_text(counts):
    return {name: int(counts[name]) for name in (
        "documents", "sentences", "word_pieces", "unknown_pieces")}


def _of_instances(counts):
    """Shares of instances, of their word pieces and of their predictions."""
    lengths, predictions = counts["lengths"], int(counts["predictions"])
    instances, present = int(counts["instances"]), np.flatnonzero(lengths)
    pieces = int(lengths @ np.arange(len(lengths)))
    masked, kept = int(counts["masked"]), int(counts["kept"])
    return {
        "instances": instances,
        "random_next_share": int(counts["random_next"]) / instances,
        "length": {"mean": pieces / instances, "shortest": int(present[0]),
                   "median": int(np.searchsorted(np.cumsum(lengths), (instances + 1) // 2)),
                   "longest": int(present[-1])},
        "predictions": predictions,
        "predicted_share": predictions / pieces,
        "of_predictions": {name: count / max(1, predictions) for name, count in (
            ("mask", masked), ("kept", kept), ("other", predictions - masked - kept))}}
