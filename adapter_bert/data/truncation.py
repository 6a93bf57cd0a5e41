"""How pairs of texts are made to fit."""
import numpy as np


def truncate_pairs(first, second, limit):
    """How many ids of each side stay so that both have at most `limit`: the longer side is cut.

    The result is that of taking one id at a time from the longer side, from `second` when even.
    All are int [rows].
    """
    kept = np.minimum(first, np.maximum(limit - second, (limit + 1) // 2))
    return kept, np.minimum(second, limit - kept)
