"""From the logits of a question's windows to its answer, a part of the original context.

Source: `write_predictions` of google-research/bert, run_squad.py. Its rules hold but for three: a
text is cut out of the context by the places of its pieces, not looked for again; the n best starts
and ends are those of the context's pieces alone; and a span is scored in the window in which it has
most context among those that hold it whole, where the source goes by the start alone and so loses
answers in windows shorter than some 190 pieces of context. At its defaults both are the same.

Letters: W windows of a question, T tokens.
"""
import contextlib
import os
from typing import NamedTuple

import numpy as np

from adapter_bert import paths
from adapter_bert.files import write_json


class Passage(NamedTuple):
    """The context of a question, and which parts of it the question's windows hold.

    context: str.
    spans: int [pieces, 2], the part context[start:end] that each word piece stands for.
    starts: int [W], the piece with which each window's part begins.
    lengths: int [W], how many pieces it has.
    place: the token of a window at which its part begins.
    """

    context: str
    spans: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    place: int


class Answer(NamedTuple):
    """A text and its first character in the context; "" and None for no answer."""

    text: str
    start: int | None
    start_logit: float
    end_logit: float
    probability: float = 0.0


class Prediction(NamedTuple):
    """What is answered to a question.

    text: the answer, "" for none.
    best: Answer, the best text, whether or not it is the answer.
    n_best: list of Answer, from the most to the least probable; no answer is among them if there
      may be none.
    null_odds: how much better no answer scores than the best text; None if there must be one.
    """

    text: str
    best: Answer
    n_best: list[Answer]
    null_odds: float | None


def predict_all(examples, passages, windows, n_best_size=20, max_answer_length=30,
                null_threshold=None):
    """The predictions of many questions.

    Args:
      examples: list of squad.SquadExample.
      passages: iterable with the Passage of each, as kinds.windows.passages yields them.
      windows: {"index": int [windows], "doc_start": int [windows], "start_logits": float
        [windows, T], "end_logits": the same} of all windows in any order, whatever the T.
      n_best_size, max_answer_length, null_threshold: as for `predict`.

    Returns:
      {id: Prediction} in the order of the examples.

    Raises:
      ValueError: the windows are not those of the passages.
    """
    order = np.lexsort([windows["doc_start"], windows["index"]])
    predictions, done = {}, 0
    for number, (example, passage) in enumerate(zip(examples, passages, strict=True)):
        rows = order[done:done + len(passage.starts)]
        done += len(passage.starts)
        if not (np.array_equal(windows["doc_start"][rows], passage.starts)
                and (windows["index"][rows] == number).all()):
            raise ValueError(f"example {number}: the logits are those of other windows")
        predictions[example.id] = predict(
            passage, windows["start_logits"][rows], windows["end_logits"][rows], n_best_size,
            max_answer_length, null_threshold)
    return predictions


def predict(passage, start_logits, end_logits, n_best_size=20, max_answer_length=30,
            null_threshold=None):
    """The answer to a question.

    The score of a span is start_logit + end_logit, that of no answer the same at [CLS], in the
    window in which it is lowest. Probabilities are the softmax of the scores of the n best.

    Args:
      passage: Passage.
      start_logits, end_logits: float [W, T]; tokens other than [CLS] and the context's do not
        count, whether padding or the question.
      n_best_size: how many starts and ends of each window are combined, and how many of the
        texts that result are kept.
      max_answer_length: the most pieces of an answer.
      null_threshold: the answer is none where null_odds are higher; None if there must be one.

    Returns:
      Prediction. If no start has an end after it, the answer is none with logits 0.
    """
    found = _answers(passage, start_logits, end_logits, n_best_size, max_answer_length)
    best = found[0] if found else Answer("", None, 0.0, 0.0)
    if null_threshold is None:
        n_best = _with_probabilities(found or [best])
        return Prediction(best.text, n_best[0], n_best, None)
    null = _no_answer(start_logits[:, 0], end_logits[:, 0])
    odds = _score(null) - _score(best)
    found = sorted([*found, null], key=_score, reverse=True)
    n_best = _with_probabilities(found if found[-1] is null else found[:n_best_size])
    best = next((answer for answer in n_best if answer.text), best)
    return Prediction("" if odds > null_threshold else best.text, best, n_best, odds)


def write_predictions(folder, predictions):
    """Writes the predictions in the forms of SQuAD's and BERT's scripts, each file whole or not.

    predictions.json has {id: text}, nbest_predictions.json {id: [{text, probability, start_logit,
    end_logit}]}, null_odds.json {id: number}; the last if there may be no answer, else one that was
    left there before is removed.

    Args:
      folder: str, made where it is missing.
      predictions: {id: Prediction}.

    Raises:
      InputError: the folder cannot be written.
    """
    contents = {
        "predictions": {name: prediction.text for name, prediction in predictions.items()},
        "nbest_predictions": {
            name: [{key: getattr(answer, key) for key in (
                "text", "probability", "start_logit", "end_logit")}
                   for answer in prediction.n_best] for name, prediction in predictions.items()}}
    odds = {name: prediction.null_odds for name, prediction in predictions.items()}
    if None not in odds.values():
        contents["null_odds"] = odds
    else:
        with contextlib.suppress(FileNotFoundError):
            paths.remove(os.path.join(folder, "null_odds.json"))
    for name, content in contents.items():
        write_json(os.path.join(folder, f"{name}.json"), content)


def _answers(passage, start_logits, end_logits, n_best_size, max_answer_length):
    """The n best Answers of different texts, the best first."""
    spans = [_spans_of_window(passage, window, start_logits[window], end_logits[window],
                              n_best_size, max_answer_length)
             for window in range(len(passage.starts))]
    firsts, lasts, starts, ends = map(np.concatenate, zip(*spans, strict=True))
    found: dict[str, Answer] = {}
    for place in np.argsort(-(starts + ends), kind="stable"):
        begin, end = int(passage.spans[firsts[place], 0]), int(passage.spans[lasts[place], 1])
        text = passage.context[begin:end]
        found.setdefault(text, Answer(text, begin, float(starts[place]), float(ends[place])))
        if len(found) == n_best_size:
            break
    return list(found.values())


def _spans_of_window(passage, window, start_logits, end_logits, n_best_size, max_answer_length):
    """First and last pieces of a window's spans, and their logits in float64; each an array."""
    length = passage.lengths[window]
    here = slice(passage.place, passage.place + length)
    start_logits, end_logits = (logits[here].astype(np.float64)
                                for logits in (start_logits, end_logits))
    firsts, lasts = (np.argsort(-logits, kind="stable")[:n_best_size]
                     for logits in (start_logits, end_logits))
    firsts, lasts = np.repeat(firsts, len(lasts)), np.tile(lasts, len(firsts))
    fits = (firsts <= lasts) & (lasts < firsts + max_answer_length)
    firsts, lasts = firsts[fits], lasts[fits]
    begin = passage.starts[window]
    best = has_most_context(passage, window, begin + firsts, begin + lasts)
    firsts, lasts = firsts[best], lasts[best]
    return begin + firsts, begin + lasts, start_logits[firsts], end_logits[lasts]


def has_most_context(passage, window, firsts, lasts):
    """Whether spans have most context in a window, of those that hold them whole.

    The context of a span is the smaller of the numbers of pieces left and right of its first one,
    and a hundredth of the pieces in the window. The first of windows with equal context counts.

    Args:
      passage: Passage.
      window: number of the window.
      firsts, lasts: int [spans], pieces of the context.

    Returns:
      bool [spans].
    """
    starts, ends = passage.starts, passage.starts + passage.lengths
    first = np.searchsorted(ends, starts[window], "right")    # of the windows that overlap this one
    near = slice(first, np.searchsorted(starts, ends[window]))
    starts, ends = starts[near, np.newaxis], ends[near, np.newaxis]                     # [W, 1]
    context = np.minimum(firsts - starts, ends - 1 - firsts) + 0.01 * (ends - starts)   # [W, spans]
    holds = (starts <= firsts) & (lasts < ends)
    return first + np.where(holds, context, -np.inf).argmax(axis=0) == window


def _no_answer(start_logits, end_logits):
    """The Answer that there is none, by the logits of [CLS] in each window."""
    start_logits, end_logits = start_logits.astype(np.float64), end_logits.astype(np.float64)
    window = (start_logits + end_logits).argmin()
    return Answer("", None, float(start_logits[window]), float(end_logits[window]))


def _score(answer):
    return answer.start_logit + answer.end_logit


def _with_probabilities(answers):
    scores = np.array(list(map(_score, answers)))
    weights = np.exp(scores - scores.max())
    return [answer._replace(probability=float(weight))
            for answer, weight in zip(answers, weights / weights.sum(), strict=True)]
