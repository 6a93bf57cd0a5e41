"""Answers from logits: against run_squad's rules as loops, and by hand."""
import itertools
import json
import math

import numpy as np
import pytest

from adapter_bert.errors import InputError
from adapter_bert.kinds import span_decoding
from adapter_bert.kinds.span_decoding import Passage
from adapter_bert.kinds.squad_files import SquadExample

# Ten words of one piece each, of which the third and the last are the same.
CONTEXT = "Zero óne two three four five six seven eight two"
WORDS = CONTEXT.split()
ENDS = list(itertools.accumulate(len(word) + 1 for word in WORDS))
SPANS = np.array([(end - 1 - len(word), end - 1) for word, end in zip(WORDS, ENDS, strict=True)])


def passage_of(pieces, starts, lengths, place=3):
    """A context of words of one piece each, all different but every seventh."""
    words = [f"w{piece % 7 and piece}" for piece in range(pieces)]
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    spans = np.stack([ends - list(map(len, words)), ends], axis=1)
    return Passage(" ".join(words), spans, np.array(starts), np.array(lengths), place)


def logits_of(windows, tokens, **values):
    """Zeros [windows, tokens] but for {"w1t3": value}."""
    logits = np.zeros([windows, tokens], np.float32)
    for name, value in values.items():
        window, token = map(int, name[1:].split("t"))
        logits[window, token] = value
    return logits


def slow_spans(passage, start_logits, end_logits, n_best_size, longest, of_whole_spans):
    """[(score, first, last)] as run_squad finds them; its own rule of context goes by starts."""
    windows = list(zip(passage.starts.tolist(), passage.lengths.tolist(), strict=True))

    def context(window, piece):
        start, length = windows[window]
        return min(piece - start, start + length - 1 - piece) + 0.01 * length
    found = []
    for window, (start, length) in enumerate(windows):
        tops = [sorted(range(length), key=lambda piece, row=logits[window]: -row[
            passage.place + piece])[:n_best_size] for logits in (start_logits, end_logits)]
        for first, last in itertools.product(*tops):
            a, b = start + first, start + last
            holding = [other for other, (begin, size) in enumerate(windows)
                       if begin <= a < begin + size and (b < begin + size or not of_whole_spans)]
            if a <= b < a + longest and window == max(
                    holding, key=lambda other, a=a: context(other, a)):
                found.append((float(start_logits[window][passage.place + first])
                              + float(end_logits[window][passage.place + last]), a, b))
    return sorted(found, key=lambda span: -span[0])


def slow_texts(passage, spans, n_best_size):
    """{text: score} of the n best."""
    texts = {}
    for score, first, last in spans:
        texts.setdefault(passage.context[passage.spans[first, 0]:passage.spans[last, 1]], score)
    return dict(list(texts.items())[:n_best_size])


@pytest.mark.parametrize("pieces, starts, lengths", [
    (12, [0], [12]), (30, [0, 5, 10, 15, 20], [10, 10, 10, 10, 10]), (25, [0, 8, 16], [10, 10, 9]),
    (7, [0, 1, 2, 3], [4, 4, 4, 4]), (22, [0, 11], [11, 11])])
@pytest.mark.parametrize("n_best_size, longest", [(1, 3), (4, 30), (40, 4)])
def test_equals_the_loops(pieces, starts, lengths, n_best_size, longest):
    passage = passage_of(pieces, starts, lengths)
    random = np.random.default_rng(pieces)
    for _ in range(5):
        logits = random.integers(-9, 10, [2, len(starts), 20]).astype(np.float32) / 2
        wanted = slow_texts(passage, slow_spans(passage, *logits, n_best_size, longest, True),
                            n_best_size)
        found = span_decoding.predict(passage, *logits, n_best_size, longest)
        if not wanted:
            assert found.text == "" and len(found.n_best) == 1
            continue
        assert [answer.text for answer in found.n_best] == list(wanted)
        assert [answer.start_logit + answer.end_logit for answer in found.n_best] == list(
            wanted.values())
        total = sum(map(math.exp, wanted.values()))
        assert [answer.probability for answer in found.n_best] == pytest.approx(
            [math.exp(score) / total for score in wanted.values()])
        assert (found.text, found.best, found.null_odds) == (
            found.n_best[0].text, found.n_best[0], None)


def test_where_windows_overlap_enough_the_rule_is_run_squads():
    """Windows of 200 pieces, 128 apart, and answers of at most 30."""
    passage = passage_of(430, [0, 128, 256], [200, 200, 174])
    for seed in range(4):
        logits = np.random.default_rng(seed).normal(size=[2, 3, 210]).astype(np.float32)
        spans = slow_spans(passage, *logits, 20, 30, of_whole_spans=False)
        found = span_decoding.predict(passage, *logits)
        assert [answer.text for answer in found.n_best] == list(slow_texts(passage, spans, 20))


def test_in_short_windows_an_answer_is_found_that_run_squad_loses():
    """Piece 5 has more context in the first window, which does not hold piece 8."""
    passage = passage_of(12, [0, 4], [8, 8])
    logits = np.stack([logits_of(2, 12, w1t4=9), logits_of(2, 12, w1t7=9)])
    assert span_decoding.predict(passage, *logits).text == "w5 w6 w0 w8"
    assert slow_spans(passage, *logits, 20, 30, of_whole_spans=True)[0] == (18, 5, 8)
    assert slow_spans(passage, *logits, 20, 30, of_whole_spans=False)[0][0] == 9


def test_a_much_longer_window_outweighs_a_piece_more_of_context():
    """Pieces 248 to 250 have 1 to -3 pieces more on the nearer side in the first window."""
    passage = passage_of(372, [0, 128], [370, 244])
    pieces = np.array([248, 249, 250])
    assert span_decoding.has_most_context(passage, 0, pieces, pieces).tolist() == [
        True,
        True,
        False,
    ]


def test_many_windows_are_compared_with_their_neighbours_alone():
    starts = np.arange(0, 5000, 2)
    passage = passage_of(5010, starts, np.full_like(starts, 10))
    assert span_decoding.has_most_context(passage, 1000, np.array([2000, 2004, 2005, 2006, 2007]),
                                    np.array([2000, 2009, 2005, 2007, 2009])).tolist() == [
        False, True, True, False, False]


def test_what_is_no_context_does_not_count():
    passage = Passage(CONTEXT, SPANS, np.array([0]), np.array([10]), 4)
    start, end = logits_of(1, 20, w0t5=3), logits_of(1, 20, w0t6=3)
    wanted = span_decoding.predict(passage, start, end)
    assert wanted.text == "óne two" and wanted.best.start == 5
    for token in (0, 3, 14, 19):
        start[0, token] = end[0, token] = 99
    assert span_decoding.predict(passage, start, end) == wanted


def test_equal_texts_are_one_answer():
    passage = Passage(CONTEXT, SPANS, np.array([0]), np.array([10]), 0)
    start = logits_of(1, 10, w0t2=2, w0t9=3)
    found = span_decoding.predict(passage, start, start, n_best_size=4, max_answer_length=1)
    assert [(answer.text, answer.start) for answer in found.n_best] == [
        ("two", CONTEXT.rindex("two")), ("Zero", 0), ("óne", 5)]
    assert found.n_best[0].probability == pytest.approx(math.exp(6) / (math.exp(6) + 2))


# [CLS] is token 0 of windows of one word each; spans score 5 and 3, no answer 4 and 6.
TWO = Passage("ab cd", np.array([(0, 2), (3, 5)]), np.array([0, 1]), np.array([1, 1]), 2)
STARTS = np.float32([[1, 0, 3, 0], [4, 0, 1, 0]])
LOGITS = (STARTS, np.float32([[3, 0, 2, 0], [2, 0, 2, 0]]))


@pytest.mark.parametrize("threshold, text", [(-2, ""), (-1.5, ""), (-1, "ab"), (0, "ab")])
def test_no_answer_is_that_of_the_window_that_likes_it_least(threshold, text):
    found = span_decoding.predict(TWO, *LOGITS, null_threshold=threshold)
    assert (found.text, found.best.text, found.null_odds) == (text, "ab", 4 - 5)
    assert [answer[:4] for answer in found.n_best] == [
        ("ab", 0, 3, 2), ("", None, 1, 3), ("cd", 3, 1, 2)]
    assert found.n_best[1].probability == pytest.approx(
        math.exp(4) / (math.exp(5) + math.exp(4) + math.exp(3)))
    assert found.best == found.n_best[0]


def test_no_answer_is_always_among_the_n_best():
    found = span_decoding.predict(TWO, *LOGITS, n_best_size=1, null_threshold=0.0)
    assert [answer.text for answer in found.n_best] == ["ab", ""]
    likely = (STARTS + np.float32([2, 0, 0, 0]), LOGITS[1])
    found = span_decoding.predict(TWO, *likely, n_best_size=2, null_threshold=0.0)
    assert [answer.text for answer in found.n_best] == ["", "ab"]
    assert (found.text, found.best.text, found.null_odds) == ("", "ab", 1)
    assert span_decoding.predict(TWO, *likely, n_best_size=1, null_threshold=0.0).best.text == "ab"


def test_where_no_start_has_an_end_there_is_no_answer():
    passage = Passage(CONTEXT, SPANS, np.array([0]), np.array([10]), 1)
    logits = logits_of(1, 12, w0t9=9), logits_of(1, 12, w0t2=9)
    found = span_decoding.predict(passage, *logits, n_best_size=1)
    assert (found.text, found.best, found.n_best) == (
        "", ("", None, 0, 0, 1), [("", None, 0, 0, 1)])
    found = span_decoding.predict(passage, *logits, n_best_size=1, null_threshold=0.0)
    assert (found.text, found.null_odds, [answer.text for answer in found.n_best]) == ("", 0, [""])


def examples_and_windows():
    """Two questions of two windows and of one; the windows in another order."""
    one = Passage("Ef", np.array([(0, 2)]), np.array([0]), np.array([1]), 2)
    examples = [SquadExample(name, "?", passage.context, (), True)
                for name, passage in (("x", TWO), ("é", one))]
    starts = np.concatenate([STARTS, np.float32([[9, 0, 0, 0]])])
    ends = np.concatenate([LOGITS[1], np.float32([[1, 0, 1, 0]])])
    order = [2, 1, 0]
    return examples, [TWO, one], {
        "index": np.array([0, 0, 1])[order], "doc_start": np.array([0, 1, 0])[order],
        "start_logits": starts[order], "end_logits": ends[order]}


def test_windows_of_many_questions_in_any_order(tmp_path):
    predictions = span_decoding.predict_all(*examples_and_windows(), null_threshold=0.0)
    assert {name: found.text for name, found in predictions.items()} == {"x": "ab", "é": ""}
    assert predictions["x"] == span_decoding.predict(TWO, *LOGITS, null_threshold=0.0)
    span_decoding.write_predictions(str(tmp_path / "new"), predictions)
    read = {path.name: json.loads(path.read_text()) for path in (tmp_path / "new").iterdir()}
    nbest = read.pop("nbest_predictions.json")
    assert read == {"predictions.json": {"x": "ab", "é": ""}, "null_odds.json": {"x": -1, "é": 9}}
    assert list(nbest) == ["x", "é"] and list(nbest["x"][0]) == [
        "text", "probability", "start_logit", "end_logit"]
    assert [list(entry.values()) for entry in nbest["é"]] == [
        ["", pytest.approx(1 / (1 + math.exp(-9))), 9, 1],
        ["Ef", pytest.approx(1 / (1 + math.exp(9))), 0, 1]]


def test_predictions_of_squad_1_have_no_odds(tmp_path):
    span_decoding.write_predictions(
        str(tmp_path), span_decoding.predict_all(*examples_and_windows())
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "nbest_predictions.json", "predictions.json"]
    with pytest.raises(InputError, match="cannot be written"):
        span_decoding.write_predictions(str(tmp_path / "predictions.json" / "below"), {})


@pytest.mark.parametrize("name, value", [("index", [0, 0, 0]), ("doc_start", [0, 2, 0])])
def test_other_windows_are_refused(name, value):
    examples, passages, windows = examples_and_windows()
    with pytest.raises(ValueError, match="the logits are those of other windows"):
        span_decoding.predict_all(examples, passages, {**windows, name: np.array(value)})
