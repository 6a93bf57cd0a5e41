"""Windows over contexts: each window against BERT's loops, each answer there and back."""
import os

import hypothesis
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import strategies as st

from adapter_bert.bert import tokenization
from adapter_bert.data import example_codec, features
from adapter_bert.errors import InputError
from adapter_bert.kinds import span_decoding, windows
from adapter_bert.kinds.squad_files import SquadExample, read_squad

SQUAD = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data", "squad")
# Pieces of words; a letter that is in no piece makes its word unknown.
PIECES = ["a", "b", "ab", "aba", "e", "x", "z", "и", "中", "文", "ᄒ", "ᅡ", "ᆫ", "i", "½", "न", "ि"]
UNITS = [*PIECES, "Z", "é", "e\u0301\u0323", "й", "İ", "한", "x\u00adb", "e\u200d\u0301", "😀", "ß"]
GAPS = [" ", "  ", "\n", "\u3000", "\u2028", " \u200b", ", ", " -", "\u00a0(", " \u0301"]
WORDS = st.lists(st.sampled_from(UNITS), min_size=1, max_size=5).map("".join)
CONTEXTS = st.lists(st.tuples(WORDS, st.sampled_from(GAPS)), min_size=1, max_size=25)
SIZES = st.tuples(st.integers(10, 40), st.integers(1, 6), st.integers(1, 30))
FEW = hypothesis.settings(max_examples=60, deadline=None)


@pytest.fixture(name="tokenizer", scope="module")
def fixture_tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("windows") / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *PIECES, *(f"##{piece}" for piece in PIECES),
              ",", "-", "("]
    path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return tokenization.FullTokenizer(str(path))


def example(context, *spans, question="a b"):
    return SquadExample("q", question, context, tuple(
        (context[start:end], start) for start, end in spans), not spans)


def slow_windows(question, context, max_seq_length, doc_stride):
    """(start, length) of each window, as BERT's loop finds them."""
    found, start = [], 0
    while start < context:
        length = min(context - start, max_seq_length - question - 3)
        found.append((start, length))
        if start + length == context:
            break
        start += min(length, doc_stride)
    return found


def slow_rows(tokenizer, example, max_seq_length, max_query_length, doc_stride):
    """(ids, segments, doc_start, start position, end position) of each window of an example."""
    def encode(text):
        return tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    question, context = encode(example.question)[:max_query_length], encode(example.context)
    answer = overlapping(tokenizer, example) if example.answers else []
    rows = []
    for start, length in slow_windows(len(question), len(context), max_seq_length, doc_stride):
        held = range(start, start + length)
        ids = [2, *question, 3, *context[start:start + length], 3]
        positions = [answer[end] - start + len(question) + 2 if answer and answer[0] in held
                     and answer[-1] in held else 0 for end in (0, -1)]
        rows.append((ids, [0] * (len(question) + 2) + [1] * (length + 1), start, *positions))
    return rows


def overlapping(tokenizer, example):
    """The numbers of the pieces that stand for some character of the first answer."""
    (text, begin), *_ = example.answers
    _, _, spans = tokenizer.encode_with_offsets([example.context])
    return [number for number, (start, end) in enumerate(spans)
            if start < begin + len(text) and end > begin]


def rows_of(tokenizer, examples, *sizes, labelled=True, first=0):
    """The rows of `featurize` as tuples, like those of `slow_rows`, and `index` before them."""
    found = []
    for rows in windows.featurize(examples, tokenizer, *sizes, labelled, first):
        ends = np.cumsum(rows.lengths)[:-1]
        ids, segments = (np.split(rows.columns[name], ends) for name in (
            "input_ids", "segment_ids"))
        scalars = [rows.columns[name].tolist() for name in (
            "index", "doc_start", *(["start_positions", "end_positions"] if labelled else []))]
        found += [(index, some.tolist(), kinds.tolist(), *rest) for index, some, kinds, *rest
                  in zip(scalars[0], ids, segments, *scalars[1:], strict=True)]
    return found


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(sizes=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 400)), min_size=1),
                  max_seq_length=st.integers(64, 200), doc_stride=st.integers(1, 200))
def test_windows_are_those_of_the_loop(sizes, max_seq_length, doc_stride):
    questions, contexts = np.array(sizes).T
    found = windows.lay_out(questions, contexts, max_seq_length, doc_stride)
    wanted = [(number, *window) for number, (question, context) in enumerate(sizes)
              for window in slow_windows(question, context, max_seq_length, doc_stride)]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == wanted
    for number, context in enumerate(contexts):
        mine = found.example == number
        held = [set(range(start, start + length)) for start, length in zip(
            found.starts[mine], found.lengths[mine], strict=True)]
        assert set.union(*held) == set(range(context))


def test_windows_at_the_usual_sizes():
    found = windows.lay_out(np.array([10, 10, 10]), np.array([371, 372, 700]), 384, 128)
    assert found.example.tolist() == [0, 1, 1, 2, 2, 2, 2]
    assert found.starts.tolist() == [0, 0, 128, 0, 128, 256, 384]
    assert found.lengths.tolist() == [371, 371, 244, 371, 371, 371, 316]


@FEW
@hypothesis.given(contexts=st.lists(CONTEXTS, min_size=1, max_size=4),
                  question=WORDS, sizes=SIZES, data=st.data())
def test_rows_are_those_of_the_loop(tokenizer, contexts, question, sizes, data):
    contexts = ["".join(map("".join, context)) for context in contexts]
    examples = [example(context, *data.draw(st.lists(spans_in(context), max_size=2)),
                        question=question) for context in [*contexts, contexts[0]]]
    found = rows_of(tokenizer, examples, *sizes, first=7)
    wanted = [(number, *row) for number, some in enumerate(examples, 7)
              for row in slow_rows(tokenizer, some, *sizes)]
    assert found == wanted
    unlabelled = rows_of(tokenizer, examples, *sizes, labelled=False, first=7)
    assert unlabelled == [row[:-2] for row in wanted]


def spans_in(context):
    """Any part of a context."""
    return st.tuples(st.integers(0, len(context)), st.integers(0, len(context))).map(
        lambda ends: tuple(sorted(ends)))


def read_back(tokenizer, example, sizes, longest=30):
    """The predicted text where the logits say the labels of the rows, or None without a label."""
    rows = rows_of(tokenizer, [example], *sizes)
    logits = np.zeros([2, len(rows), sizes[0]], np.float32)
    for number, row in enumerate(rows):
        logits[0, number, row[-2]] = logits[1, number, row[-1]] = 9
    passage, = windows.passages([example], tokenizer, *sizes)
    predicted = span_decoding.predict(passage, *logits, n_best_size=3, max_answer_length=longest)
    return predicted.text if any(row[-1] for row in rows) else None


@FEW
@hypothesis.given(parts=CONTEXTS, sizes=SIZES, data=st.data())
def test_an_answer_of_whole_words_is_read_back(tokenizer, parts, sizes, data):
    context, starts, ends = "", [], []
    for word, gap in parts:
        starts.append(len(context))
        ends.append(len(context) + len(word))
        context += word + gap
    first, last = sorted(data.draw(st.integers(0, len(parts) - 1)) for _ in range(2))
    wanted = example(context, (starts[first], ends[last]))
    found = read_back(tokenizer, wanted, sizes, longest=100)
    pieces = tokenizer.encode_batch([context[:starts[first]], context[starts[first]:ends[last]],
                                     context])
    held = any(start <= len(pieces[0]) and len(pieces[0] + pieces[1]) <= start + length
               for start, length in slow_windows(min(sizes[1], 2), len(pieces[2]), sizes[0],
                                                 sizes[2]))
    assert found == (context[starts[first]:ends[last]] if held else None)


@FEW
@hypothesis.given(parts=CONTEXTS, sizes=SIZES, data=st.data())
def test_another_answer_is_read_back_with_its_first_and_last_pieces_whole(
        tokenizer, parts, sizes, data):
    context = "".join(map("".join, parts))
    wanted = example(context, data.draw(spans_in(context)))
    found, pieces = read_back(tokenizer, wanted, sizes, longest=100), overlapping(tokenizer, wanted)
    if found is not None:
        _, _, spans = tokenizer.encode_with_offsets([context])
        assert found == context[spans[pieces[0], 0]:spans[pieces[-1], 1]]
    else:
        assert not pieces or not any(
            start <= pieces[0] and pieces[-1] < start + length for start, length in slow_windows(
                min(sizes[1], 2), len(spans_of(tokenizer, context)), sizes[0], sizes[2]))


def spans_of(tokenizer, context):
    return tokenizer.encode_with_offsets([context])[2]


def test_rows_by_hand(tokenizer):
    rows = rows_of(tokenizer, [example("ab, Aba中 éx.", (9, 11))], 11, 64, 3)
    assert rows == [(0, [2, 4, 5, 3, 6, 38, 7, 12, 8, 26, 3], 4 * [0] + 7 * [1], 0, 8, 9),
                    (0, [2, 4, 5, 3, 12, 8, 26, 1, 3], 4 * [0] + 5 * [1], 3, 5, 6)]
    rows = rows_of(tokenizer, [example("ab, Aba中 éx.", (5, 7)), example("a")], 11, 1, 6)
    assert [row[0] for row in rows] == [0, 1] and [row[1][:3] for row in rows] == 2 * [[2, 4, 3]]
    assert [row[-2:] for row in rows] == [(5, 5), (0, 0)]


@pytest.mark.skipif(not os.path.isdir(SQUAD), reason="no ../shared/data/squad beside the project")
def test_real_answers_are_read_back(minilm_dir):
    tokenizer = tokenization.FullTokenizer(os.path.join(minilm_dir, "vocab.txt"))
    examples = read_squad(os.path.join(SQUAD, "dev.json"))
    for some in examples[::5]:
        assert read_back(tokenizer, some, (128, 64, 32)) == some.answers[0][0]


def test_rows_are_the_same_in_smaller_lists(tokenizer, monkeypatch):
    examples = [example("ab " * length, (0, 2)) for length in (9, 1, 30, 5)]
    whole = rows_of(tokenizer, examples, 12, 4, 3)
    monkeypatch.setattr(windows, "WINDOWS_AT_ONCE", 2)
    monkeypatch.setattr(features, "TEXTS_AT_ONCE", 3)
    monkeypatch.setattr(features, "CHARACTERS_AT_ONCE", 40)
    rows = list(windows.featurize(examples, tokenizer, 12, 4, 3, True))
    assert max(len(some.lengths) for some in rows) == 2 and len(rows) > 4
    assert rows_of(tokenizer, examples, 12, 4, 3) == whole


def test_passages_of_many_are_those_of_each(tokenizer):
    examples = [example("ab " * length, question="a " * length) for length in (9, 1, 30, 5)]
    together = list(windows.passages(examples, tokenizer, 12, 4, 3))
    alone = [passage for some in examples
             for passage in windows.passages([some], tokenizer, 12, 4, 3)]
    assert [passage.place for passage in together] == [6, 3, 6, 6]
    for one, other in zip(together, alone, strict=True):
        assert all(np.array_equal(*fields) for fields in zip(one, other, strict=True))


def test_records_hold_the_rows(tokenizer):
    for labelled in (True, False):
        spec = features.feature_spec("spans", labelled)
        rows, = windows.featurize([example("ab " * 30, (66, 71))], tokenizer, 20, 4, 8, labelled)
        with tf.Session() as session:
            parsed = [session.run(features.parse(spec, record))
                      for record in example_codec.serialize(spec, rows)]
        ends = np.cumsum(rows.lengths)
        assert len(parsed) == len(ends) > 2
        for number, columns in enumerate(parsed):
            assert list(columns) == sorted(rows.columns)
            for name in ("input_ids", "segment_ids"):
                here = slice(ends[number] - rows.lengths[number], ends[number])
                assert columns[name].tolist() == rows.columns[name][here].tolist()
            for name in set(columns) - {"input_ids", "segment_ids"}:
                assert columns[name] == rows.columns[name][number]


@pytest.mark.parametrize("row, message", [
    (example("ab ab", question="ab " * 9), "question 'q': its 5 word pieces leave no room for the "
     "context in --max_seq_length=8; raise that, or lower --max_query_length"),
    (example("\u200b\u0301"), "question 'q': its context has no word; mend or delete it"),
])
def test_what_no_window_can_hold_is_named(tokenizer, row, message):
    for function in (rows_of, lambda tokenizer, *rest: list(
            windows.passages(rest[0], tokenizer, *rest[1:]))):
        with pytest.raises(InputError) as refusal:
            function(tokenizer, [example("a"), row], 8, 5, 3)
        assert str(refusal.value) == message


def test_no_examples(tokenizer):
    assert rows_of(tokenizer, [], 8, 5, 3) == []
