"""The examples of a comparison, tokenized once, in a file that both sides read with NumPy alone."""
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Examples are sorted by length within windows of so many batches.
BATCHES_PER_WINDOW = 50


def write(path: str | Path, rows: Sequence) -> None:
    """Writes a list of data.example_codec.Rows; columns with a value per token stay ragged."""
    columns = {name: np.concatenate([some.columns[name] for some in rows])
               for name in rows[0].columns}
    np.savez(path, lengths=np.concatenate([some.lengths for some in rows]), **columns)


def write_even(path, source, tokens):
    """Writes rows of `tokens` tokens each: those of another workload, one after the other."""
    with np.load(source) as file:
        count = len(file["input_ids"]) // tokens
        columns = {name: file[name][:count * tokens] for name in ("input_ids", "segment_ids")}
        np.savez(path, **columns, lengths=np.full(count, tokens),
                 label_ids=file["label_ids"][:count])


def per_token(columns: Iterable[str]) -> list[str]:
    """Names of the columns with a value per token; labels are where words are marked."""
    names = ["input_ids", "segment_ids"]
    return [*names, "word_starts", "label_ids"] if "word_starts" in columns else names


def read(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a file that `write` wrote.

    Returns:
      A dict per row: arrays [tokens] of the columns with a value per token, scalars of the others.
    """
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files if name != "lengths"}
        ends = np.cumsum(file["lengths"])[:-1]
    columns |= {name: np.split(columns[name], ends)
                for name in per_token(columns) if name in columns}
    return [dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)]


def padded(rows: Sequence[dict[str, Any]], tokens: int = 0) -> dict[str, np.ndarray]:
    """A batch of rows: arrays [B, T] that end in zeros, `input_mask` among them, or [B].

    T is `tokens`, by default the longest row's length.
    """
    tokens = tokens or max(len(row["input_ids"]) for row in rows)
    ragged = per_token(rows[0])
    batch = {name: np.array([row[name] for row in rows]) for name in rows[0] if name not in ragged}
    for name in ragged:
        batch[name] = np.zeros([len(rows), tokens], np.int64)
        for place, row in enumerate(rows):
            batch[name][place, :len(row[name])] = row[name]
    lengths = np.array([len(row["input_ids"]) for row in rows])
    return {**batch, "input_mask": (np.arange(tokens) < lengths[:, None]).astype(np.int64)}


def grouped_batches(lengths: Sequence[int], batch_size: int,
                    generator: np.random.Generator) -> list[np.ndarray]:
    """One epoch of index batches of similar length in random order (Trainer's group_by_length).

    The last rows of the epoch, too few for a batch, are left out.
    """
    order = generator.permutation(len(lengths))
    window = batch_size * BATCHES_PER_WINDOW
    order = np.concatenate([sorted(order[start:start + window], key=lambda row: -lengths[row])
                            for start in range(0, len(order), window)])
    whole = len(order) - len(order) % batch_size
    batches = np.split(order[:whole], whole // batch_size)
    return [batches[place] for place in generator.permutation(len(batches))]


def batches_without_end(lengths: Sequence[int], batch_size: int,
                        generator: np.random.Generator) -> Iterator[np.ndarray]:
    """`grouped_batches` of one epoch after another."""
    if len(lengths) < batch_size:
        raise ValueError(f"{len(lengths)} examples do not fill a batch of {batch_size}")
    while True:
        yield from grouped_batches(lengths, batch_size, generator)


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
