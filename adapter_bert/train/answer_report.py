"""What a report shows of question answering: scores by answer length and question word."""
import re
from typing import NamedTuple

import numpy as np

from adapter_bert.kinds.squad_files import SquadExample
from adapter_bert.kinds.squad_scores import squad_scores
from adapter_bert.train import span_runs
from adapter_bert.train.findings import (
    MOST_MISTAKES,
    Baseline,
    Findings,
    Picture,
    Sheet,
    Table,
    counted,
)

NO_ANSWER = "no answer"
# Numbers of words in an answer, from the first up to and without the second.
LENGTHS = {"1 word": (0, 2), "2": (2, 3), "3": (3, 4), "4–5": (4, 6), "6–10": (6, 11),
           "over 10": (11, float("inf"))}
_QUESTION_WORD = re.compile(r"\b(how (?:many|much)|what|who|whom|whose|when|where|which|why|how)\b",
                            re.IGNORECASE)
_SAME_WORD = {"whom": "who", "whose": "who", "how much": "how many"}
UNIT, DIGITS = "text window", 1   # what it trains on; decimals of scores, which are in percent
WORK = "answer questions with a part of a text"
MEANINGS = {
    "exact_match": "% of the answers that equal one of the true answers",
    "exact": "% of the answers that equal one of the true answers",
    "f1": "% of words that predicted and true answer have in common (F1)",
    "HasAns_exact": "exact, of the questions that have an answer",
    "HasAns_f1": "F1, of the questions that have an answer",
    "NoAns_exact": "% of the questions without an answer for which none is given",
}


class Scored(NamedTuple):
    """A question with its answer, and how good that is: exact and f1 in percent."""

    example: SquadExample
    answer: str
    probability: float
    exact: float
    f1: float


def baseline(run, targets) -> Baseline | None:
    """The scores of never answering; None where each question has an answer."""
    examples = targets.examples
    if span_runs.null_threshold(run.settings) is None or not any(
            example.is_impossible for example in examples):
        return None
    ids = [example.id for example in examples]
    scores = squad_scores(examples, dict.fromkeys(ids, ""), dict.fromkeys(ids, 1.0), 0.0)
    return Baseline("never answering", {name: scores[name] for name in ("exact", "f1")})


def findings(run, split, predicted: dict[str, np.ndarray]) -> Findings:
    """The Findings of a split.

    Args:
      run: resolve.Run.
      split: data.Split of questions with answers.
      predicted: {"start_logits", "end_logits": float [windows, T], ...}.
    """
    predictions = span_runs.predictions(run, split.targets, predicted)
    scored = [score(example, predictions[example.id]) for example in split.targets.examples]
    groups = {"answer_length": grouped(scored, length_of), "question_word": grouped(
        scored, question_word)}
    return Findings(
        _summary(scored), groups,
        [_table("Scores by length of the answer", "true answer", groups["answer_length"]),
         _table("Scores by question word", "question word", groups["question_word"])],
        [Picture("answer_length", "Scores by length of the answer",
                 "Exact match and F1 of questions whose true answer has this number of words.",
                 lambda figures: figures.bars_of_groups(
                     groups["answer_length"], "words in the true answer")),
         Picture("question_word", "Scores by question word", "",
                 lambda figures: figures.bars_of_groups(
                     groups["question_word"], "question word"))],
        mistakes(scored), "wrong answers (F1 below 50 %), the most confident first", {})


def score(example: SquadExample, prediction) -> Scored:
    """The Scored of a question and its answers.Prediction."""
    values = squad_scores([example], {example.id: prediction.text})
    probability = next((answer.probability for answer in prediction.n_best
                        if answer.text == prediction.text), 0.0)
    return Scored(example, prediction.text, probability,
                  values.get("exact_match", values.get("exact", 0.0)), values["f1"])


def length_of(example: SquadExample) -> str:
    """The group, a key of LENGTHS, of the length of a question's first answer; or NO_ANSWER."""
    if not example.answers:
        return NO_ANSWER
    words = len(example.answers[0][0].split())
    return next(name for name, (least, below) in LENGTHS.items() if least <= words < below)


def question_word(example: SquadExample) -> str:
    """The kind of a question by its first question word; "other" for none."""
    word = _QUESTION_WORD.search(example.question)
    return _SAME_WORD.get(word[1].lower(), word[1].lower()) if word else "other"


def grouped(scored: list[Scored], group_of) -> dict[str, dict[str, float]]:
    """Mean scores of groups of questions.

    Args:
      scored: list of Scored.
      group_of: function (SquadExample) -> name of its group.

    Returns:
      {group: {"exact", "f1" in percent, "questions"}}; lengths in their order, others by size.
    """
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        groups.setdefault(group_of(one.example), []).append(one)
    order = {name: place for place, name in enumerate([*LENGTHS, NO_ANSWER])}
    return {name: {"exact": float(np.mean([one.exact for one in groups[name]])),
                   "f1": float(np.mean([one.f1 for one in groups[name]])),
                   "questions": len(groups[name])}
            for name in sorted(groups, key=lambda name: (order.get(name, 0), -len(groups[name])))}


def mistakes(scored: list[Scored]) -> Sheet:
    """The most confident answers with an F1 below 50 %: question, answers, answer, probability."""
    wrong = sorted((one for one in scored if one.f1 < 50), key=lambda one: -one.probability)
    return Sheet(["question", "label", "prediction", "probability", "f1", "id"], [
        [one.example.question,
         " | ".join(dict.fromkeys(text for text, _ in one.example.answers)) or NO_ANSWER,
         one.answer or NO_ANSWER, f"{one.probability:.4f}", f"{one.f1:.1f}", one.example.id]
        for one in wrong[:MOST_MISTAKES]])


def _summary(scored):
    exact, f1 = (np.mean([getattr(one, name) for one in scored]) for name in ("exact", "f1"))
    return (f"The model's answers to {counted(len(scored), 'question')} equal a true answer in "
            f"**{exact:.1f} %** of the cases; counting words in common, they are "
            f"**{f1:.1f} %** right (F1).")


def _table(title, noun, groups):
    return Table(title, (noun, "questions", "exact match, %", "F1, %"), [
        [name, f"{row['questions']:,}", f"{row['exact']:.1f}", f"{row['f1']:.1f}"]
        for name, row in groups.items()])
