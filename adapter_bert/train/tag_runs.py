"""What a run does with sentences of which each word has a tag: a Kind of `kinds`."""
import itertools
import os
from typing import NamedTuple

import numpy as np
from absl import logging

from adapter_bert import files, kinds
from adapter_bert.data import features
from adapter_bert.kinds import words
from adapter_bert.kinds.conll import OUTSIDE
from adapter_bert.kinds.entities import entity_scores


class Targets(NamedTuple):
    """The sentences of a split, and where a prediction of each of their words is.

    rows: int64 [words], the number of each word's sentence.
    places: int64 [words], the place of its first piece there; 0 where no prediction is read.
    """

    sentences: list[kinds.Sentence]
    rows: np.ndarray
    places: np.ndarray


def read(run, split):
    """The sentences of a split of run.task, see kinds.read_sentences."""
    return kinds.read_sentences(run.task, run.settings.data_dir, split, run.settings.bad_rows)


def featurize(run, sentences, split, first):
    """Rows of sentences; a test split has tags or none."""
    del split
    return words.featurize(sentences, run.tokenizer, run.settings.max_seq_length,
                           run.task.label_index, first)


def targets(run, sentences):
    """Targets; says how many words are cut, and so are taken for OUTSIDE."""
    in_words = [sentence.words for sentence in sentences]
    encoded = [words.encode(chunk, run.tokenizer, run.settings.max_seq_length)
               for chunk in features.chunks(in_words, words.characters)]
    counts = list(map(len, in_words))
    cut = sum(chunk.cut for chunk in encoded)
    if cut:
        logging.info("%d of %d words lie beyond --max_seq_length=%d, and %s is predicted there",
                     cut, sum(counts), run.settings.max_seq_length, OUTSIDE)
    return Targets(sentences, np.repeat(np.arange(len(counts)), counts),
                   np.concatenate([chunk.places for chunk in encoded]))


def predicted_tags(task, targets, predicted):
    """Lists with the tag of each word, a list a sentence; OUTSIDE where no prediction is read."""
    names = np.array([*task.labels, OUTSIDE], object)
    label_ids = predicted["label_ids"][targets.rows, targets.places]           # [words]
    tags = iter(names[np.where(targets.places > 0, label_ids, -1)].tolist())
    return [list(itertools.islice(tags, len(sentence.words))) for sentence in targets.sentences]


def score(run, targets, predicted):
    """Accuracy of the tags; precision, recall and F1 of names, see kinds.entities."""
    gold = [list(sentence.tags) for sentence in targets.sentences]
    return entity_scores(gold, predicted_tags(run.task, targets, predicted), run.task.labels)


def is_constant(run, split, predicted):
    """Whether every word of a split gets the same tag, and should not."""
    found = set(itertools.chain(*predicted_tags(run.task, split.targets, predicted)))
    gold = {tag for sentence in split.targets.sentences for tag in sentence.tags or ()}
    return len(found) == 1 < len(gold)


def write(run, split, predicted):
    """Writes test_results.txt: a word and its tag a line, a blank line between sentences.

    Returns:
      What `score` does where the split has tags, as CoNLL's own test file has; else {}.
    """
    sentences, suffix = split.targets.sentences, split.name.removeprefix("test")
    path = os.path.join(run.settings.output_dir, f"test_results{suffix}.txt")
    tags = predicted_tags(run.task, split.targets, predicted)
    files.write_text(path, "\n".join(
        "".join(f"{word} {tag}\n" for word, tag in zip(sentence.words, found, strict=True))
        for sentence, found in zip(sentences, tags, strict=True)))
    logging.info("%s: the tags of %d sentences in %s", split.name, len(sentences), path)
    if sentences[0].tags is None:
        return {}
    return score(run, split.targets, predicted)
