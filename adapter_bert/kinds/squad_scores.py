"""SQuAD's own scores of a whole set of questions: exact match and F1, in percent.

Source: the rules of SQuAD's evaluate-v1.1.py and evaluate-v2.0.py.
"""
import collections
import itertools
import re
import string

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_scores(examples, predictions, null_odds=None, threshold=0.0):
    """Exact match and F1 of predicted answers, by the best of each question's answers.

    By SQuAD 2.0's rules where `null_odds` are given or a question is impossible, else by 1.1's.

    Args:
      examples: list of squad.SquadExample with their answers.
      predictions: {id: text}, "" for no answer. The best thresholds tell more if the texts are
        those of the best answers, whatever their null_odds.
      null_odds: {id: float}, the higher the less an answer is there; None leaves the thresholds
        out.
      threshold: a question of higher null_odds counts as predicted to have no answer.

    Returns:
      {name: percent} in SQuAD's names. 1.1: exact_match, f1. 2.0: exact, f1, total; the same as
      HasAns_* and NoAns_* over the questions with and without answers, where there are any; with
      null_odds best_exact and best_f1, the scores at the best thresholds, and these as
      best_exact_thresh and best_f1_thresh.

    Raises:
      ValueError: there are no examples, or one has no prediction or odds.
    """
    for known in (predictions, predictions if null_odds is None else null_odds):
        if not examples or any(example.id not in known for example in examples):
            raise ValueError("every example, at least one, needs its prediction and null_odds")
    texts = [predictions[example.id] for example in examples]
    if null_odds is None and not any(example.is_impossible for example in examples):
        answers = [[text for text, _ in example.answers] for example in examples]
        return {"exact_match": _mean(_best(exact_match, texts, answers)),
                "f1": _mean(_best(_f1_of_squad_1, texts, answers))}
    answers = [[text for text, _ in example.answers if normalized(text)] or [""]
               for example in examples]
    scores = {"exact": _best(exact_match, texts, answers), "f1": _best(f1, texts, answers)}
    has_answer = [bool(example.answers) for example in examples]
    if null_odds is None:
        return _by_kind(scores, has_answer)
    odds = [null_odds[example.id] for example in examples]
    best = {name: best_threshold(some, texts, odds, has_answer) for name, some in scores.items()}
    final = {name: [score if odd <= threshold else float(not has)
                    for score, odd, has in zip(some, odds, has_answer, strict=True)]
             for name, some in scores.items()}
    return {**_by_kind(final, has_answer),
            **{f"best_{name}": percent for name, (percent, _) in best.items()},
            **{f"best_{name}_thresh": place for name, (_, place) in best.items()}}


def exact_match(prediction, answer):
    """1.0 if the two are the same when normalized, else 0.0."""
    return float(normalized(prediction) == normalized(answer))


def f1(prediction, answer):
    """F1 of the normalized words, 2 common / (predicted + answer's).

    Where one side has no words, 1.0 if neither has, else 0.0.
    """
    predicted, wanted = normalized(prediction).split(), normalized(answer).split()
    if not predicted or not wanted:
        return float(predicted == wanted)
    common = collections.Counter(predicted) & collections.Counter(wanted)
    return 2 * common.total() / (len(predicted) + len(wanted))


def normalized(text):
    """A text in lower case, without ASCII punctuation and articles, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def best_threshold(scores, predictions, null_odds, has_answer):
    """The best mean of scores, in percent, that a threshold on the null odds gives.

    Args:
      scores: list of float, each question's score if its prediction stands.
      predictions: list of str.
      null_odds: list of float.
      has_answer: list of bool.

    Returns:
      (percent, threshold): the lowest of the best, 0.0 where no prediction should stand. Questions
      of equal odds are taken in their order, one by one, as evaluate-v2.0.py does it.
    """
    order = sorted(range(len(scores)), key=null_odds.__getitem__)
    gains = [scores[place] if has_answer[place] else -bool(predictions[place]) for place in order]
    sums = list(itertools.accumulate(gains, initial=has_answer.count(False)))
    best = sums.index(max(sums))
    return 100.0 * sums[best] / len(scores), null_odds[order[best - 1]] if best else 0.0


def _best(score, predictions, answers):
    """The score of each prediction by the best of its question's answers."""
    return [max(score(prediction, answer) for answer in some)
            for prediction, some in zip(predictions, answers, strict=True)]


def _f1_of_squad_1(prediction, answer):
    """0.0 also where neither side has words."""
    return f1(prediction, answer) if normalized(answer) else 0.0


def _by_kind(scores, has_answer):
    """Means of all questions, of those with answers, and of those without."""
    kinds = {"": [True] * len(has_answer), "HasAns_": has_answer,
             "NoAns_": [not has for has in has_answer]}
    means = {}
    for prefix, chosen in kinds.items():
        if any(chosen):
            means |= {f"{prefix}{name}": _mean(list(itertools.compress(some, chosen)))
                      for name, some in scores.items()}
            means[f"{prefix}total"] = sum(chosen)
    return means


def _mean(scores):
    return 100.0 * sum(scores) / len(scores)
