"""The outer step: what tasks that have learned say of the meta-parameters, and Adam.

Letters: K tasks.
"""
import numpy as np

from adapter_bert.research.meta.adaptation import filled, learned
from adapter_bert.research.meta.learner import BETAS, Inner, rates

SLOTS = ("adam_m", "adam_v")


class Adam:
    """Adam on arrays, as PyTorch's (Kingma and Ba, 2015): bias-corrected, without weight decay.

    Args:
      learning_rate: float.
      values: {name: float32 array}.
      slots: {"<name>/adam_m" and "<name>/adam_v": float32 array} to go on from; zeros where None.
      taken: steps taken before.

    Attributes:
      values: {name: float32 array} after the last step.
      slots: as the argument.
      taken: as the argument.
    """

    def __init__(self, learning_rate, values, slots=None, taken=0):
        self._inner = Inner("adam", learning_rate)
        self.values, self.taken = values, taken
        self.slots = slots or {f"{name}/{slot}": np.zeros_like(value)
                               for name, value in values.items() for slot in SLOTS}

    def step(self, gradient):
        """Takes a step down the gradient, {name: float32 array}."""
        self.taken += 1
        size, epsilon = map(np.float32, rates(self._inner, self.taken))
        first, second = map(np.float32, BETAS)
        moved = {}
        for name, value in self.values.items():
            m, v = (self.slots[f"{name}/{slot}"] for slot in SLOTS)
            m += (1 - first) * (gradient[name] - m)
            v += (1 - second) * (np.square(gradient[name]) - v)
            moved[name] = value - size * m / (np.sqrt(v) + epsilon)
        self.values = moved


def outer_gradient(learner, count, episodes, steps, algorithm, seeds):
    """The mean over tasks of what each says of the meta-parameters after learning.

    Args:
      learner: Learner of `count` tasks, at the meta-parameters.
      count: K, episodes that learn side by side.
      episodes: list of (support, query), lists of Row.
      steps: adaptation.Steps on the support.
      algorithm: key of ALGORITHMS.
      seeds: list of ints that fixes the order of the batches, and dropout.

    Returns:
      {name: float32 array}, and the mean loss of the queries.
    """
    total = {name: np.zeros_like(value) for name, value in learner.values.items()}
    losses = []
    own_seeds = [[*seeds, number] for number in range(len(episodes))]
    for queries in learned(learner, count, episodes, steps, own_seeds):
        gradient, found = ALGORITHMS[algorithm](learner, filled(queries, count))
        losses += found[:len(queries)]
        for name, value in gradient.items():
            total[name] += np.float32(len(queries) / len(episodes)) * value
    return total, float(np.mean(losses))


def fomaml(learner, queries):
    """First-order MAML (Finn et al., 2017): the gradient of the query loss at the adapted weights.

        mean over tasks k of d loss(query_k, w_k) / d w_k

    Args:
      learner: Learner whose tasks have learned.
      queries: K lists of Row.

    Returns:
      {name: float32 array}, and the K losses as a list.
    """
    gradient, losses = learner.query_gradient(queries)
    return gradient, losses.tolist()


def reptile(learner, queries):
    """Reptile (Nichol et al., 2018): w - mean over tasks k of w_k.

    The query only says how good the adapted weights are.

    Args and Returns as of `fomaml`.
    """
    present = [task for task, rows in enumerate(queries) if rows]
    gradient = dict(learner.values)
    for task in present:
        for name, value in learner.adapted(task).items():
            gradient[name] = gradient[name] - value / np.float32(len(present))
    return gradient, [cross_entropy(rows, probabilities) for rows, probabilities in zip(
        queries, learner.predict(queries), strict=True)]


ALGORITHMS = {"fomaml": fomaml, "reptile": reptile}


def cross_entropy(rows, probabilities):
    """The mean loss of rows, 0 without rows; probabilities float32 [rows, C]."""
    if not rows:
        return 0.0
    right = probabilities[np.arange(len(rows)), [row.label for row in rows]]
    return float(-np.log(np.maximum(right, 1e-30)).mean())
