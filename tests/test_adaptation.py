"""Batches of inner loops, and what is counted as right."""
import collections

import numpy as np
import pytest

from adapter_bert.bert import tokenization
from adapter_bert.errors import InputError
from adapter_bert.kinds import Example
from adapter_bert.research.meta import adaptation
from adapter_bert.research.meta.adaptation import Steps
from adapter_bert.research.meta.learner import Row


def rows_of(*labels):
    return [Row(np.array([number]), np.array([0]), label) for number, label in enumerate(labels)]


def first_ids(rows):
    return [int(row.input_ids[0]) for row in rows]


def test_texts_become_rows_of_their_pieces_and_labels(tiny_dir):
    tokenizer = tokenization.FullTokenizer(f"{tiny_dir}/vocab.txt")
    examples = [Example("good film", None, "yes"), Example("a bad plot it was", None, "no")]
    found = adaptation.encode(examples, tokenizer, 5, ("no", "yes"))
    assert [found[example].label for example in examples] == [1, 0]
    assert [tokenizer.convert_ids_to_tokens(found[example].input_ids) for example in examples] == [
        ["[CLS]", "good", "film", "[SEP]"], ["[CLS]", "a", "bad", "plot", "[SEP]"]]


def test_each_pass_takes_every_row_once_in_an_order_of_its_own():
    batches = adaptation.shuffled_batches(
        rows_of(*[0] * 7), Steps(passes=2, batch_size=3), np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [3, 3, 1] * 2
    passes = [sum(map(first_ids, batches[:3]), []), sum(map(first_ids, batches[3:]), [])]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(7)) and passes[0] != passes[1]
    assert adaptation.shuffled_batches([], Steps(2, 3), np.random.default_rng(0)) == []


def test_tasks_of_fewer_batches_wait():
    assert adaptation.side_by_side([["a"], ["b", "c"]], 3) == [["a", "b", []], [[], "c", []]]
    assert adaptation.side_by_side([[], []], 2) == []


def test_what_is_most_probable_counts():
    rows = rows_of(0, 1, 1, 2)
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0, 0, 1]])
    assert adaptation.accuracy(rows, probabilities) == 0.75
    probabilities[3, 0] = np.nan
    with pytest.raises(InputError, match="not numbers any more, learning has diverged"):
        adaptation.accuracy(rows, probabilities)


class Memory:
    """A learner that answers with the label it saw most since its reset, else with 0."""

    def __init__(self, count):
        self.count, self.resets = count, []

    def reset(self, now):
        self.resets.append(now)
        self.seen = [collections.Counter() for _ in range(self.count)]

    def adapt(self, batches):
        for batch in batches:
            for seen, rows in zip(self.seen, batch, strict=True):
                seen.update(row.label for row in rows)

    def predict(self, queries):
        return [np.eye(2)[[max([0, 1], key=seen.__getitem__)] * len(query)]
                for seen, query in zip(self.seen, queries, strict=True)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_episode_starts_anew_and_is_asked_of_its_own(count):
    episodes = [(rows_of(1, 1), rows_of(1, 1, 1, 0)), ([], rows_of(1, 1)), ([], rows_of(0)),
                (rows_of(0, 1, 1), rows_of(1))]
    learner = Memory(count)
    found = adaptation.query_accuracies(
        learner, count, episodes, Steps(1, 2), [[0, number] for number in range(4)])
    assert list(found) == [0.75, 0, 1, 1]
    assert len(set(learner.resets)) == -(-len(episodes) // count)
