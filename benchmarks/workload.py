"""The examples of a comparison, tokenized once, in a file that both sides read with NumPy alone."""
import re

import numpy as np


def write(path, rows):
    """Writes a list of what `features.featurize` yields."""
    columns = {name: np.concatenate([some.columns[name] for some in rows])
               for name in ("input_ids", "segment_ids", "label_ids")}
    np.savez(path, lengths=np.concatenate([some.lengths for some in rows]), **columns)


def write_even(path, source, tokens):
    """Writes rows of `tokens` tokens each: those of another workload, one after the other."""
    with np.load(source) as file:
        count = len(file["input_ids"]) // tokens
        columns = {name: file[name][:count * tokens] for name in ("input_ids", "segment_ids")}
        np.savez(path, **columns, lengths=np.full(count, tokens),
                 label_ids=file["label_ids"][:count])


def read(path):
    """The rows of a file that `write` made, as dicts of lists, with their `index`."""
    with np.load(path) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        columns = [np.split(file[name], ends) for name in ("input_ids", "segment_ids")]
        return [{"input_ids": ids.tolist(), "segment_ids": segments.tolist(),
                 "label_ids": int(label), "index": index}
                for index, (ids, segments, label) in enumerate(
                    zip(*columns, file["label_ids"], strict=True))]


def answer(seconds, tokens, padded_tokens, mean_length):
    """What a side answers of the batches that it worked on.

    Sides draw batches of their own, some of longer rows than others, so that the rate is of tokens,
    in examples of the workload's mean length.

    Args:
      seconds: that it took.
      tokens, padded_tokens: of the batches, without their padding and with it.
      mean_length: of the workload's rows.
    """
    return {"seconds": seconds, "tokens": tokens, "padded_tokens": padded_tokens,
            "per_second": tokens / mean_length / seconds, "peak_bytes": peak_memory()}


def peak_memory():
    """The most bytes that this process has held in memory (Linux)."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) * 1024
