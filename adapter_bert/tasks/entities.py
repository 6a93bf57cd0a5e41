"""Names out of the tags of words, and their scores, as seqeval finds and counts them.

A tag is a prefix and a type, `B-PER`: B begins a name, I goes on with it, E and S (or L and U) are
its last and its only word, O is outside of any. They are read as conlleval reads them: a name ends
where the next word begins one or has another type, and an I- that follows no word of its type
begins one too, as in IOB1. Where not all tags of a task are so, as those of parts of speech, each
word is a name of its own, but those tagged O.
"""
import re
from typing import NamedTuple

import numpy as np

from adapter_bert.tasks.conll import OUTSIDE

_PREFIXED = re.compile(r"[BIESLU](-.*)?", re.DOTALL)
_SEQEVALS = {"L": "E", "U": "S"}   # the letters that seqeval has another one for


class Span(NamedTuple):
    """A name: its type, and the words from `start` up to and without `end`."""
    label: str
    start: int
    end: int


def entities(tags, labels):
    """The names in a sentence.

    Args:
      tags: sequence of str, a tag of each word.
      labels: the tags of the task, which tell the scheme.

    Returns:
      list of Span in the order of the words; the type of a tag that is a bare prefix is "_".
    """
    found = _seqeval().get_entities(_prefixed([tags], labels)[0])
    return [Span(label, start, last + 1) for label, start, last in found]


def entity_scores(gold, predicted, labels):
    """How well the names of a whole split are found.

    Args:
      gold, predicted: lists with the list of tags of each sentence.
      labels: the tags of the task, which tell the scheme.

    Returns:
      {"accuracy", "f1", "precision", "recall"}: accuracy of the words' tags; the others of names,
      of which both words and type must be right. 0.0 where nothing is there to be divided by.
    """
    precision, recall, f1, _ = _seqeval().precision_recall_fscore_support(
        _prefixed(gold, labels), _prefixed(predicted, labels), average="micro", zero_division=0)
    right = [one == other for tags, others in zip(gold, predicted, strict=True)
             for one, other in zip(tags, others, strict=True)]
    return {"accuracy": float(np.mean(right)), "f1": float(f1), "precision": float(precision),
            "recall": float(recall)}


def _prefixed(sentences, labels):
    """Lists of tags as seqeval takes them."""
    if all(label == OUTSIDE or _PREFIXED.fullmatch(label) for label in labels):
        seqevals = {label: _SEQEVALS.get(label[0], label[0]) + label[1:] for label in labels}
    else:
        seqevals = {label: f"B-{label}" for label in labels}
    seqevals[OUTSIDE] = OUTSIDE
    return [list(map(seqevals.__getitem__, tags)) for tags in sentences]


def _seqeval():
    """seqeval's functions; it imports scikit-learn, which takes a third of a command's start."""
    from seqeval.metrics import sequence_labeling
    return sequence_labeling
