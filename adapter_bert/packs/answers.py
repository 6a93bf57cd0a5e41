"""From what a caller gives to rows of word pieces, and from a head's outputs to what it gets back.

Letters: C classes, T tokens.
"""
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from adapter_bert.data import features, padding
from adapter_bert.errors import InputError
from adapter_bert.kinds import Example, SquadExample, entities, windows, words
from adapter_bert.kinds.conll import OUTSIDE
from adapter_bert.kinds.span_decoding import predict
from adapter_bert.packs.manifest import check_pairs


class Prediction(NamedTuple):
    """The class of a text: its label, and the probability of every label."""

    label: str
    probabilities: dict[str, float]


class Entity(NamedTuple):
    """A name in a text, or a word with its tag.

    text: as it stands there; of a list of words these with spaces between.
    label: its type, as PER of the tag B-PER; the tag itself where tags have no prefixes.
    start, end: it is text[start:end], or words[start:end] of a list of words.
    probability: of its words' tags in the mean.
    """

    text: str
    label: str
    start: int
    end: int
    probability: float


class Answer(NamedTuple):
    """An answer to a question, a part of its context.

    text: context[start:end]; "" where there is none, with start and end None.
    probability: among the n best.
    n_best: Answers from the most to the least probable, without n_best of their own.
    """

    text: str
    start: int | None
    end: int | None
    probability: float
    n_best: tuple["Answer", ...] = ()


class Kind(NamedTuple):
    """How a kind of head is asked, and what it answers.

    rows: function (Manifest, FullTokenizer, list of what a caller gives, the most rows or None) ->
      iterable of (rows, asked): a part of the texts, as a list of pairs (input_ids, segment_ids) of
      int arrays [T], and what `answers` has to know of it. A text makes one row or more, all in its
      part. That every entry is of the right types is checked before the first part; InputError.
      More windows than the most rows are an InputError too, before they are built.
    answers: function (Manifest, asked, outputs) -> list with an answer for each text of a part;
      outputs is a list with the head's predictions for each row, {name: array}. Those of tokens
      and spans may be longer than the row.
    prepare: function () that imports what the first answer would have to wait for.
    """

    rows: Callable
    answers: Callable
    prepare: Callable[[], None] = lambda: None


def rows_of_texts(manifest, tokenizer, texts, most=None):
    """Rows of texts, and of pairs (str, str) for a task of pairs; see Kind."""
    del most   # one row a text
    examples = [_example(number, text) for number, text in enumerate(texts)]
    for example in examples:
        check_pairs(manifest, example.text_b is not None)
    for part in features.featurize(examples, tokenizer, manifest.max_seq_length, None):
        yield padding.rows_of(part), None


def predictions(manifest, asked, outputs):
    """The Prediction of each text, of `probabilities` [C]."""
    del asked
    return [Prediction(manifest.labels[row["probabilities"].argmax()], dict(
        zip(manifest.labels, row["probabilities"].tolist(), strict=True))) for row in outputs]


def scores(manifest, asked, outputs):
    """The score of each text as a float."""
    del manifest, asked
    return [float(row["scores"]) for row in outputs]


class Words(NamedTuple):
    """The words of a text.

    text: str, or the list of its words that was given.
    spans: int [words, 2], where they are in it.
    places: int [words], the place of each word's first piece in its row; 0 for none.
    """

    text: str | list[str]
    spans: np.ndarray
    places: np.ndarray


def rows_of_words(manifest, tokenizer, texts, most=None):
    """Rows of texts, which white space and punctuation part into words, and of lists of words."""
    del most   # one row a text
    for number, text in enumerate(texts):
        if not _are_texts(text if isinstance(text, (tuple, list)) else [text]):
            raise InputError(f"text {number}: {text!r:.60} is neither a text nor a list of words")
    for chunk in features.chunks(texts, words.characters):
        spans = _spans(chunk, tokenizer, manifest.max_seq_length)
        sentences = [[text[start:end] for start, end in own.tolist()]
                     if isinstance(text, str) else text
                     for text, own in zip(chunk, spans, strict=True)]
        encoded = words.encode(sentences, tokenizer, manifest.max_seq_length)
        places = np.split(encoded.places, np.cumsum(list(map(len, sentences)))[:-1])
        yield padding.rows_of(encoded.rows), list(map(Words, chunk, spans, places))


def _spans(texts, tokenizer, most):
    """Where the words of each text are in it: int [words, 2]; of a list [0, 1], [1, 2], ...

    Of a text no more than `most` words, each of which has a word piece at least.
    """
    found = iter(words.spans_of([text for text in texts if isinstance(text, str)], tokenizer))
    return [np.array(next(found)[:most]) if isinstance(text, str)
            else np.arange(len(text))[:, np.newaxis] + np.array([0, 1]) for text in texts]


def names(manifest, asked, outputs):
    """The list of Entity of each text, of `label_ids` and `probabilities` [T].

    Words beyond the cut, and those without a word piece, belong to none.
    """
    return [_names_of(manifest.labels, one, row) for one, row in zip(asked, outputs, strict=True)]


def _names_of(labels, asked, row):
    tags = [labels[index] if place else OUTSIDE for index, place in zip(
        row["label_ids"][asked.places], asked.places, strict=True)]
    return names_in(asked.text, asked.spans, tags, row["probabilities"][asked.places], labels)


def names_in(text, spans, tags, probabilities, labels):
    """The names that the tags of words make.

    Args:
      text: str, or a list of words.
      spans: int [words, 2], where the words are in it.
      tags: list with the tag of each.
      probabilities: float [words], of these.
      labels: the tags of the task, which tell the scheme.

    Returns:
      List of Entity.
    """
    found, spans, probabilities = [], spans.tolist(), probabilities.tolist()
    for label, first, after in entities.entities(tags, labels):
        start, end = spans[first][0], spans[after - 1][1]
        name = text[start:end]
        found.append(Entity(name if isinstance(name, str) else " ".join(name), label, start, end,
                            sum(probabilities[first:after]) / (after - first)))
    return found


def rows_of_windows(manifest, tokenizer, texts, most=None):
    """Rows of the windows over the contexts of pairs (question, context)."""
    examples = []
    for number, text in enumerate(texts):
        question, context = _example(number, text)[:2]
        if context is None:
            raise InputError(f"text {number}: {text!r:.60} is no pair of question and context")
        examples.append(SquadExample(str(number), question, context, (), False))
    for chunk in features.chunks(examples, windows.characters):
        encoded, laid = windows.windows_of(
            chunk, tokenizer, manifest.max_seq_length, manifest.spans.max_query_length,
            manifest.spans.doc_stride)
        if most is not None and len(laid.starts) > most:
            raise InputError(f"text: its context makes {len(laid.starts)} windows, and there is "
                             f"room for {most}; send fewer or shorter ones")
        rows = [row for _, part in windows.rows_of(encoded, laid, tokenizer,
                                                   manifest.max_seq_length)
                for row in padding.rows_of(part)]
        yield rows, list(windows.passages_of(chunk, encoded, laid))


def parts_of_contexts(manifest, asked, outputs):
    """The Answer to each question, of `start_logits` and `end_logits` [T] of its windows."""
    rows, spans = iter(outputs), manifest.spans
    return [_answer(predict(
        passage, *_logits(list(itertools.islice(rows, len(passage.starts)))), spans.n_best_size,
        spans.max_answer_length, spans.null_threshold)) for passage in asked]


def _logits(rows):
    """start_logits and end_logits [W, T] of the windows of a question."""
    longest = max(len(row["start_logits"]) for row in rows)
    return [np.stack([np.pad(row[name], (0, longest - len(row[name]))) for row in rows])
            for name in ("start_logits", "end_logits")]


def _answer(prediction):
    """The Answer of a kinds.span_decoding.Prediction."""
    chosen = prediction.best if prediction.text else next(
        one for one in prediction.n_best if not one.text)
    return _placed(chosen)._replace(n_best=tuple(map(_placed, prediction.n_best)))


def _placed(answer):
    """The Answer of a kinds.span_decoding.Answer."""
    end = None if answer.start is None else answer.start + len(answer.text)
    return Answer(answer.text, answer.start, end, answer.probability)


def _example(number, text):
    if isinstance(text, str):
        return Example(text, None, None)
    if isinstance(text, (tuple, list)) and len(text) == 2 and _are_texts(text):
        return Example(text[0], text[1], None)
    raise InputError(f"text {number}: {text!r:.60} is neither a text nor a pair of texts")


def _are_texts(values):
    return all(isinstance(value, str) for value in values)


ANSWERS = {
    "classification": Kind(rows_of_texts, predictions),
    "regression": Kind(rows_of_texts, scores),
    "spans": Kind(rows_of_windows, parts_of_contexts),
    "tokens": Kind(rows_of_words, names, entities.import_seqeval),
}


def check_head(manifest):
    """InputError for a pack of a kind of head that has no answer to a text."""
    if manifest.head not in ANSWERS:
        raise InputError(f"the pack of {manifest.task} has a head for {manifest.head}, and answers "
                         f"to texts have {', '.join(ANSWERS)}; another task starts from it with "
                         "--init_pack")
