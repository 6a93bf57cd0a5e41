"""Batches of examples in memory, for predictions without files.

Letters: B batch, T tokens.
"""
import numpy as np

from tokenization import ragged_positions


def batches(rows, batch_size):
    """Rows in batches of like length, each padded to its own longest.

    Args:
      rows: features.Rows.
      batch_size: the most rows of a batch.

    Yields:
      The numbers of a batch's rows, int64 [B], and {"input_ids", "segment_ids", "input_mask"}
      int32 [B, T].
    """
    order = np.argsort(rows.lengths, kind="stable")
    starts = np.cumsum(rows.lengths) - rows.lengths
    for first in range(0, len(order), batch_size):
        chosen = order[first:first + batch_size]
        lengths = rows.lengths[chosen]
        mask = np.arange(lengths.max()) < lengths[:, None]             # [B, T]
        source = ragged_positions(starts[chosen], lengths)
        yield chosen, {"input_mask": mask.astype(np.int32), **{
            name: _padded(mask, rows.columns[name][source])
            for name in ("input_ids", "segment_ids")}}


def _padded(mask, values):
    """Values one row after the other, as int32 in the places of a mask [B, T]; 0 elsewhere."""
    padded = np.zeros(mask.shape, np.int32)
    padded[mask] = values
    return padded
