"""Documents to pairs of segments for the prediction of the next sentence.

Source: `create_instances_from_document` and `truncate_seq_pair` of google-research/bert,
create_pretraining_data.py, for all documents side by side. Letters: R pairs.
"""
from typing import NamedTuple

import numpy as np

from adapter_bert.data.truncation import truncate_pairs


class Documents(NamedTuple):
    """Documents of some sentences each, and sentences of some word pieces each.

    pieces: int32 [pieces], one sentence after the other.
    starts: int64 [sentences + 1], where each sentence begins in `pieces`, and where the last ends.
    first: int64 [documents + 1], the first sentence of each document, and the count of sentences.
    """

    pieces: np.ndarray
    starts: np.ndarray
    first: np.ndarray


class Pairs(NamedTuple):
    """Two segments each, where they begin in `pieces` and how many pieces they have: int64 [R].

    is_random_next: bool [R], whether segment b is of another document.
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random_next: np.ndarray

    def rows(self, order):
        """Some of the pairs, or all in another order."""
        return Pairs(*(column[order] for column in self))


def pack(documents, limit, short_seq_prob, random):
    """Pairs of segments of whole sentences, until every sentence was in one.

    Sentences are taken until they have as many pieces as the document's target: `limit`, or with
    `short_seq_prob` a number from 2 to `limit`. Segment a is some of them, drawn at random. With
    probability 1/2, and where there is one sentence alone, segment b is of another document, from
    a sentence drawn at random on, and what a left goes into the next pair; else b is the rest.

    Args:
      documents: Documents, at least two, none without sentences and no sentence without pieces.
      limit: the most pieces of a pair, at least 2. The last sentence of a segment may pass it.
      short_seq_prob: float.
      random: np.random.Generator.

    Returns:
      Pairs.
    """
    count = len(documents.first) - 1
    is_short = random.random(count) < short_seq_prob
    target = np.where(is_short, random.integers(2, limit + 1, count), limit)
    document, at = np.arange(count), documents.first[:-1]
    found = []
    while len(document):
        some, at = _next_pairs(documents, document, at, target[document], random)
        found.append(some)
        left = at < documents.first[document + 1]
        document, at = document[left], at[left]
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def _next_pairs(documents, document, at, target, random):
    """A pair of each document from sentence `at` on, and the sentence at which the next begins."""
    _, starts, first = documents
    drawn = random.random([4, len(document)])
    end = _end(starts, at, target, first[document + 1])
    middle = at + 1 + _up_to(drawn[0], end - at - 1)
    is_random = (end - at == 1) | (drawn[1] < 0.5)
    a_length = starts[middle] - starts[at]
    other = _up_to(drawn[2], len(first) - 2)
    other += other >= document
    other_at = first[other] + _up_to(drawn[3], first[other + 1] - first[other])
    other_end = _end(starts, other_at, np.maximum(target - a_length, 1), first[other + 1])
    b_start = starts[np.where(is_random, other_at, middle)]
    b_length = starts[np.where(is_random, other_end, end)] - b_start
    return (Pairs(starts[at], a_length, b_start, b_length, is_random),
            np.where(is_random, middle, end))


def _end(starts, at, target, last):
    """The end of as many sentences from `at` on as have `target` pieces, `last` at most."""
    return np.minimum(np.searchsorted(starts, starts[at] + target), last)


def _up_to(drawn, count):
    """Numbers from 0 to `count` - 1 of numbers in [0, 1); 0 where `count` is 0."""
    return (drawn * count).astype(np.int64)


def truncate(pairs, limit, random):
    """Pairs of at most `limit` pieces: the longer side loses pieces, each at front or back.

    Args:
      pairs: Pairs.
      limit: int.
      random: np.random.Generator.

    Returns:
      Pairs.
    """
    a_length, b_length = truncate_pairs(pairs.a_length, pairs.b_length, limit)
    return pairs._replace(
        a_start=pairs.a_start + random.binomial(pairs.a_length - a_length, 0.5), a_length=a_length,
        b_start=pairs.b_start + random.binomial(pairs.b_length - b_length, 0.5), b_length=b_length)
