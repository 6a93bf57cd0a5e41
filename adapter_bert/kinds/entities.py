"""Entities out of the tags of words, and their scores, as seqeval finds and counts them.

The scheme of the tags is recognised by `schemes`; all are read as conlleval reads them: an entity
ends where the next word begins one or has another type, and an I- that follows no word of its type
begins one too. Of plain tags, as those of parts of speech, each word is an entity of its own, but
those tagged O.
"""
from typing import NamedTuple

import numpy as np

from adapter_bert.kinds.tag_schemes import iobes


class Span(NamedTuple):
    """An entity: its type, and the words from `start` up to and without `end`."""
    label: str
    start: int
    end: int


def entities(tags, labels):
    """The entities in a sentence.

    Args:
      tags: sequence of str, a tag of each word.
      labels: the tags of the task, which show the scheme.

    Returns:
      list of Span in the order of the words; the type of a tag that is a bare prefix is "_".
    """
    found = import_seqeval().get_entities(_prefixed([tags], labels)[0])
    return [Span(label, start, last + 1) for label, start, last in found]


def entity_scores(gold, predicted, labels):
    """Scores of predicted tags of a whole split.

    Args:
      gold, predicted: lists with the list of tags of each sentence.
      labels: the tags of the task, which show the scheme.

    Returns:
      {"accuracy", "f1", "precision", "recall"}: accuracy of the words' tags; the others of
      entities, of which both words and type must be right. 0.0 where there is none to divide by.
    """
    precision, recall, f1, _ = import_seqeval().precision_recall_fscore_support(
        _prefixed(gold, labels), _prefixed(predicted, labels), average="micro", zero_division=0)
    right = [one == other for tags, others in zip(gold, predicted, strict=True)
             for one, other in zip(tags, others, strict=True)]
    return {"accuracy": float(np.mean(right)), "f1": float(f1), "precision": float(precision),
            "recall": float(recall)}


def _prefixed(sentences, labels):
    """Lists of tags as seqeval takes them."""
    seqevals = iobes(labels)
    return [list(map(seqevals.__getitem__, tags)) for tags in sentences]


def import_seqeval():
    """seqeval's functions; it imports scikit-learn, which takes a second."""
    from seqeval.metrics import sequence_labeling
    return sequence_labeling
