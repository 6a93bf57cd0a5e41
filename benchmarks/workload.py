"""The examples of a comparison, tokenized once, in a file that both sides read with NumPy alone."""
import re

import numpy as np


def write(path, rows):
    """Writes records of `features.featurize`: ids and segments of rows of their own lengths."""
    lengths = np.array([len(row["input_ids"]) for row in rows])
    np.savez(path, lengths=lengths,
             input_ids=np.concatenate([row["input_ids"] for row in rows]),
             segment_ids=np.concatenate([row["segment_ids"] for row in rows]),
             label_ids=np.array([row["label_ids"] for row in rows]))


def read(path):
    """The rows of a file that `write` made, as dicts of lists, with their `index`."""
    with np.load(path) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        columns = [np.split(file[name], ends) for name in ("input_ids", "segment_ids")]
        return [{"input_ids": ids.tolist(), "segment_ids": segments.tolist(),
                 "label_ids": int(label), "index": index}
                for index, (ids, segments, label) in enumerate(
                    zip(*columns, file["label_ids"], strict=True))]


def peak_memory():
    """The most bytes that this process has held in memory (Linux)."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) * 1024
