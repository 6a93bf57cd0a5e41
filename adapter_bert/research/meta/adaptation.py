"""Learning from a few examples and being asked about others, many tasks side by side.

Letters: C classes, K tasks.
"""
import itertools
from typing import NamedTuple

import numpy as np

from adapter_bert.data import padding
from adapter_bert.data.features import featurize
from adapter_bert.errors import InputError
from adapter_bert.research.meta.learner import Row


class Steps(NamedTuple):
    """How a task learns from its support: so many passes over it in shuffled batches."""
    passes: int
    batch_size: int


def encode(examples, tokenizer, max_seq_length, labels):
    """{kinds.Example: Row} of examples, their texts cut to max_seq_length word pieces."""
    ids = {label: number for number, label in enumerate(labels)}
    pieces = itertools.chain.from_iterable(map(padding.rows_of, featurize(
        [example._replace(label=None) for example in examples], tokenizer, max_seq_length, ids)))
    return {example: Row(*row, ids[example.label])
            for example, row in zip(examples, pieces, strict=True)}


def shuffled_batches(rows, steps, random):
    """The batches of a task's inner loop: every row once in each pass, the last batch as it is.

    Args:
      rows: list of Row.
      steps: Steps.
      random: numpy Generator.

    Returns:
      list of lists of Row.
    """
    return [[rows[place] for place in order[first:first + steps.batch_size]]
            for order in (random.permutation(len(rows)) for _ in range(steps.passes))
            for first in range(0, len(rows), steps.batch_size)]


def side_by_side(tasks, count):
    """Batches of tasks as Learner.adapt takes them: for each step `count` lists of Row.

    A task that is not there, or has no more batches, has an empty one.
    """
    absent = [[]] * (count - len(tasks))
    return [list(step) for step in itertools.zip_longest(*tasks, *absent, fillvalue=[])]


def learned(learner, count, episodes, steps, seeds):
    """Has episodes learn from their supports, `count` of them side by side.

    Args:
      learner: Learner of `count` tasks, each of which begins at the meta-parameters.
      count: K.
      episodes: list of (support, query), lists of Row; without a support nothing is learned.
      steps: Steps.
      seeds: a list of ints for each episode, which fixes the order of its batches.

    Yields:
      The queries of some of them, at most K, while the learner is as these have left it.
    """
    for first in range(0, len(episodes), count):
        part, own_seeds = episodes[first:first + count], seeds[first:first + count]
        learner.reset(now=int(np.random.SeedSequence(own_seeds[0]).generate_state(1)[0] >> 1))
        learner.adapt(side_by_side([
            shuffled_batches(support, steps, np.random.default_rng(seed))
            for (support, _), seed in zip(part, own_seeds, strict=True)], count))
        yield [query for _, query in part]


def filled(queries, count):
    """The rows of `count` tasks, those that are not there without any."""
    return queries + [[]] * (count - len(queries))


def query_accuracies(learner, count, episodes, steps, seeds):
    """The share of right answers to each query after learning from its support.

    Args as of `learned`.

    Returns:
      float64 [episodes].
    """
    found = []
    for queries in learned(learner, count, episodes, steps, seeds):
        asked = learner.predict(filled(queries, count))
        found += [accuracy(query, probabilities)
                  for query, probabilities in zip(queries, asked, strict=False)]
    return np.array(found)


def accuracy(rows, probabilities):
    """The share of rows whose label is the most probable; probabilities float32 [rows, C].

    Raises:
      InputError: a probability is not a number: what learned has diverged.
    """
    if not np.isfinite(probabilities).all():
        raise InputError("the answers are not numbers any more, learning has diverged; lower "
                         "--inner_update_lr, of whole domains --learning_rate, or of meta-training "
                         "--outer_update_lr")
    return float(np.mean(probabilities.argmax(axis=1) == [row.label for row in rows]))
