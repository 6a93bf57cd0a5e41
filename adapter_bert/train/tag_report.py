"""What a report shows of named-entity recognition: scores by entity type, kinds of mistakes."""
import collections

import numpy as np

from adapter_bert.kinds.conll import OUTSIDE
from adapter_bert.kinds.entities import Span, entities, entity_scores
from adapter_bert.train.findings import (
    MOST_MISTAKES,
    Baseline,
    Findings,
    Picture,
    Sheet,
    Table,
    counted,
    escaped,
    percent,
)
from adapter_bert.train.tag_runs import predicted_tags

MOST_ROWS = 30
UNIT, DIGITS = "example", 3   # what it trains on; decimals of scores
WORK = "mark entities in sentences"
MEANINGS = {
    "f1": "balance of precision and recall of entities; 1 is perfect",
    "precision": "share of the marked entities that are right",
    "recall": "share of the true entities that are found",
    "accuracy": "share of the words with the right tag; high even without any entity",
}


def baseline(run, targets) -> Baseline:
    """The scores of one tag for every word: O, or the most frequent tag where there is no O."""
    gold = [list(sentence.tags) for sentence in targets.sentences]
    counts = collections.Counter(tag for tags in gold for tag in tags)
    tag = OUTSIDE if OUTSIDE in run.task.labels else counts.most_common(1)[0][0]
    constant = [[tag] * len(tags) for tags in gold]
    return Baseline(f"all {tag}", entity_scores(gold, constant, run.task.labels))


def findings(run, split, predicted: dict[str, np.ndarray]) -> Findings:
    """The Findings of a split.

    Args:
      run: resolve.Run.
      split: data.Split with tags.
      predicted: {"label_ids": int [sentences, T], ...} in the order of the file.
    """
    sentences = split.targets.sentences
    tags = predicted_tags(run.task, split.targets, predicted)
    gold = [set(entities(sentence.tags, run.task.labels)) for sentence in sentences]
    marked = [set(entities(row, run.task.labels)) for row in tags]
    types, kinds = scores_of_types(gold, marked), kinds_of_mistakes(gold, marked)
    return Findings(
        _summary(sentences, gold, marked),
        {"entity_types": types, "mistakes": kinds},
        [*_tables(types), _mistakes_table(kinds)],
        [Picture("entity_types", "Scores by entity type",
                 "Precision, recall and F1 of each type; in brackets the number of true entities.",
                 lambda figures: figures.bars_of_types(_most_frequent(types)))] if types else [],
        mistakes(sentences, gold, marked), "sentences with the most wrong or missing entities",
        {"entity_types": _sheet(types)})


def scores_of_types(gold: list[set[Span]], marked: list[set[Span]]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1, support and number of predicted entities of each type.

    Args:
      gold, marked: the true and the predicted entities of each sentence.

    Returns:
      {type: {name: number}}, the most frequent type first; 0 where a score is not defined.
    """
    true, found, right = (collections.Counter(span.label for spans in some for span in spans)
                          for some in (gold, marked, map(set.intersection, gold, marked)))
    return {label: {"precision": right[label] / max(1, found[label]),
                    "recall": right[label] / max(1, true[label]),
                    "f1": 2 * right[label] / (found[label] + true[label]),
                    "support": true[label], "predicted": found[label]}
            for label in sorted(true | found, key=lambda label: (-true[label], label))}


def kinds_of_mistakes(gold: list[set[Span]], marked: list[set[Span]]) -> dict[str, int]:
    """How many entities are right, and in which way the others are wrong.

    "wrong type": same words; "wrong boundaries": some words in common with a true entity;
    "not an entity": none; "missed": true entities without a word in common with a predicted one.
    """
    counts = dict.fromkeys(
        ("right", "wrong type", "wrong boundaries", "not an entity", "missed"), 0)
    for true, found in zip(gold, marked, strict=True):
        counts["right"] += len(true & found)
        for span in found - true:
            counts[_kind(span, true)] += 1
        counts["missed"] += sum(not any(_overlap(span, other) for other in found)
                                for span in true)
    return counts


def _kind(span, true):
    if any(span[1:] == other[1:] for other in true):
        return "wrong type"
    return "wrong boundaries" if any(_overlap(span, other) for other in true) else "not an entity"


def _overlap(one, other):
    return one.start < other.end and other.start < one.end


def mistakes(sentences, gold, marked) -> Sheet:
    """The sentences with the most mistakes: words, true entities, predicted entities."""
    wrong = np.array([len(true ^ found) for true, found in zip(gold, marked, strict=True)])
    order = [place for place in np.argsort(-wrong, kind="stable")[:MOST_MISTAKES] if wrong[place]]
    return Sheet(["text", "label", "prediction", "mistakes"], [
        [" ".join(sentences[place].words), _in_words(sentences[place].words, gold[place]),
         _in_words(sentences[place].words, marked[place]), int(wrong[place])] for place in order])


def _in_words(words, spans):
    """Entities as text: "PER: Angela Merkel; LOC: Berlin"."""
    return "; ".join(f"{span.label}: {' '.join(words[span.start:span.end])}"
                     for span in sorted(spans, key=lambda span: span.start))


def _summary(sentences, gold, marked):
    true, found, right = (sum(map(len, spans)) for spans in (
        gold, marked, map(set.intersection, gold, marked)))
    if not found:
        return (f"The model marks **no entity** in {counted(len(sentences), 'sentence')} that have "
                f"{counted(true, 'entity', 'entities')}.")
    return (f"The model finds **{percent(right / max(1, true))}** of the {true:,} entities in "
            f"{counted(len(sentences), 'sentence')}; of the {found:,} that it marks, "
            f"**{percent(right / found)}** are right.")


def _most_frequent(types):
    return dict(list(types.items())[:MOST_ROWS])


def _tables(types):
    rows = [[escaped(name), *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")),
             f"{row['support']:,}", f"{row['predicted']:,}"]
            for name, row in _most_frequent(types).items()]
    rest = " The CSV file has all types." if len(types) > MOST_ROWS else ""
    return [Table("", ("entity type", "precision", "recall", "F1", "entities", "predicted"), rows,
                  "Precision: share of the marked entities that are right, in words and type. "
                  f"Recall: share of the true ones that are found.{rest}")]


def _mistakes_table(kinds):
    meanings = {
        "right": "the same words and type", "wrong type": "the right words, another type",
        "wrong boundaries": "too many or too few words", "not an entity": "marked without reason",
        "missed": "true entities that were not found"}
    return Table("Kinds of mistakes", ("entities", "count", "meaning"), [
        [name, f"{count:,}", meanings[name]] for name, count in kinds.items()])


def _sheet(types):
    return Sheet(["type", "precision", "recall", "f1", "support", "predicted"], [
        [name, *(f"{row[key]:.4f}" for key in ("precision", "recall", "f1")),
         row["support"], row["predicted"]] for name, row in types.items()])
