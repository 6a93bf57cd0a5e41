"""Batches of examples in memory, for predictions without files.

Letters: B batch, T tokens.
"""
import numpy as np


def rows_of(rows):
    """The ids and segment ids of example_codec.Rows: a list of pairs of int arrays [tokens]."""
    ends = np.cumsum(rows.lengths)[:-1]
    return list(zip(*(np.split(rows.columns[name], ends) for name in ("input_ids", "segment_ids")),
                    strict=True))


def by_length(lengths, batch_size):
    """The numbers of rows in batches of like length.

    Args:
      lengths: list with the length of each row.
      batch_size: the most rows of a batch.

    Yields:
      Lists of int.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), batch_size):
        yield order[start:start + batch_size]


def padded(rows):
    """Rows as one batch, as long as the longest.

    Args:
      rows: list of pairs (input_ids, segment_ids), int arrays [tokens]; not empty.

    Returns:
      {"input_ids", "segment_ids", "input_mask"} int32 [B, T].
    """
    longest = max(len(ids) for ids, _ in rows)
    batch = {name: np.zeros([len(rows), longest], np.int32)
             for name in ("input_ids", "segment_ids", "input_mask")}
    for number, (ids, segments) in enumerate(rows):
        batch["input_ids"][number, :len(ids)] = ids
        batch["segment_ids"][number, :len(ids)] = segments
        batch["input_mask"][number, :len(ids)] = 1
    return batch
