"""The best constant prediction: what a model that reads nothing of the text can reach.

A new head's bias starts there (`--head_bias_init=labels`), and a run whose loss never gets below
its loss has learned nothing (`adapter_bert.train.guard`).

Letters: N examples (or words), C classes.
"""
import math
from typing import NamedTuple

import numpy as np


class Prior(NamedTuple):
    """The best constant prediction of a training set.

    bias: [C] log-probabilities of the classes, or [1] mean score; () for heads without one.
    loss: its mean loss: the entropy of the labels in nats, or the variance of the scores.
    """

    bias: tuple[float, ...]
    loss: float


NONE = Prior((), math.inf)


def of_classes(label_ids: np.ndarray, num_classes: int) -> Prior:
    """The prior of labels: bias_c = log((n_c + 1) / (N + C)), loss = -sum_c p_c log p_c.

    One is added to each count so that a class without examples has a finite bias.

    Args:
      label_ids: int [N].
      num_classes: C.
    """
    counts = np.bincount(label_ids, minlength=num_classes).astype(np.float64)     # [C]
    shares = counts[counts > 0] / counts.sum()
    bias = np.log((counts + 1) / (counts.sum() + num_classes))
    return Prior(tuple(bias.tolist()), float(-(shares * np.log(shares)).sum()))


def of_scores(scores: np.ndarray) -> Prior:
    """The prior of a regression: the mean score, whose loss is the variance.

    Args:
      scores: float [N].
    """
    return Prior((float(scores.mean()),), float(scores.var()))


def of_positions(lengths: np.ndarray) -> Prior:
    """The prior of answer spans: each of the tokens as likely as any other; no bias.

    Args:
      lengths: int [N], tokens of each window.
    """
    return Prior((), float(np.log(lengths).mean()))
