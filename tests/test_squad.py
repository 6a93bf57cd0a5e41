"""SQuAD's files and scores: every bad input against its message, scores by hand."""
import codecs
import json
import os

import pytest

from adapter_bert.errors import InputError
from adapter_bert.kinds.squad_files import SquadExample, read_squad
from adapter_bert.kinds.squad_scores import (
    best_threshold,
    exact_match,
    f1,
    normalized,
    squad_scores,
)

SQUAD = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data", "squad")
CONTEXT = "The Café of Ana, in Lisbon."


def question(name="q1", answers=((4, "Café"),), **more):
    return {"id": name, "question": f"{name}?",
            "answers": [{"answer_start": start, "text": text} for start, text in answers], **more}


def paragraph(*questions, context=CONTEXT):
    return {"context": context, "qas": list(questions)}


def write(folder, *paragraphs, **more):
    path = str(folder / "squad.json")
    content = {"version": "1.1", "data": [{"title": "t", "paragraphs": list(paragraphs)}], **more}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)
    return path


def test_reads_both_versions(tmp_path):
    path = write(
        tmp_path, paragraph(question(answers=[(4, "Café"), (12, "Ana")]), question("q2")),
        paragraph(question("q3", (), is_impossible=True,
                           plausible_answers=[{"text": "x", "answer_start": 99}]),
                  question("q4", [(0, "😀 é")], is_impossible=False), context="😀 é"))
    assert read_squad(path) == [
        SquadExample("q1", "q1?", CONTEXT, (("Café", 4), ("Ana", 12)), False),
        SquadExample("q2", "q2?", CONTEXT, (("Café", 4),), False),
        SquadExample("q3", "q3?", "😀 é", (), True),
        SquadExample("q4", "q4?", "😀 é", (("😀 é", 0),), False)]


def test_a_file_to_predict_needs_no_answers(tmp_path):
    path = write(tmp_path, paragraph({"id": "q1", "question": "?"}, question("q2", [(7, "no")])))
    assert [example[3:] for example in read_squad(path, labelled=False)] == 2 * [((), False)]


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = write(tmp_path, paragraph(question()))
    with open(path, "rb") as file:
        content = file.read()
    (tmp_path / "marked.json").write_bytes(codecs.BOM_UTF8 + content)
    assert read_squad(str(tmp_path / "marked.json")) == read_squad(path)


@pytest.mark.skipif(not os.path.isdir(SQUAD), reason="no ../shared/data/squad beside the project")
@pytest.mark.parametrize("split, count", [("train", 1013), ("dev", 177)])
def test_reads_real_questions(split, count):
    examples = read_squad(os.path.join(SQUAD, f"{split}.json"))
    assert len(examples) == count and all(example.answers for example in examples)
    perfect = {example.id: example.answers[0][0] for example in examples}
    assert squad_scores(examples, perfect) == {"exact_match": 100, "f1": 100}


PLACE = "squad.json, article 1, paragraph 1"
BAD = {
    "id missing": ({"question": "?"}, f"{PLACE}, question 1: lacks id"),
    "id of a number": (question(7), f"{PLACE}, question 1: id is a whole number, expected a text"),
    "no question": ({"id": "a", "answers": []}, f"{PLACE}, question 'a': lacks question"),
    "question null": ({**question(), "question": None},
                      f"{PLACE}, question 'q1': question is null, expected a text"),
    "no answers": ({"id": "a", "question": "?"}, "question 'a': lacks answers"),
    "answers no list": ({**question(), "answers": {}}, "answers is an object, expected a list"),
    "no text": ({**question(), "answers": [{"answer_start": 0}]}, "'q1': lacks text"),
    "answer no object": ({**question(), "answers": ["Café"]},
                         "found a text, expected an object with text"),
    "start of a text": (question(answers=[("4", "Café")]),
                        "answer_start is a text, expected a whole number"),
    "start of a truth": (question(answers=[(True, "Café")]), "answer_start is true or false"),
    "start of a fraction": (question(answers=[(4.0, "Café")]), "answer_start is a number"),
    "impossible as a word": (question(is_impossible="false"),
                             "is_impossible is a text, expected true or false"),
    "impossible with an answer": (question(is_impossible=True),
                                  "'q1': is_impossible, but has the answer 'Café'"),
    "none": (question(answers=()), "'q1': has no answer; one that has none is marked is_imp"),
    "beside": (question(answers=[(5, "Café")]),
               "'q1': found 'afé ' at 5, expected the answer 'Café'; mend it, or leave"),
    "second beside": (question(answers=[(4, "Café"), (4, "café")]), "expected the answer 'café'"),
    "before": (question(answers=[(-4, "bon.")]), "found 'The ' at -4"),
    "behind": (question(answers=[(27, "x")]), "found '' at 27"),
    "blank": (question(answers=[(3, " ")]), "found ' ' at 3, expected the answer ' '"),
    "not a question": ("q", f"{PLACE}, question 1: found a text, expected an object with id"),
}


@pytest.mark.parametrize("row, message", BAD.values(), ids=BAD)
def test_a_bad_question_is_named_in_one_line(tmp_path, row, message):
    check_refusal(write(tmp_path, paragraph(row)), message)


@pytest.mark.parametrize("content, message", [
    (b"", "squad.json: not readable as JSON"), (b'{"data": [', "not readable as JSON"),
    (b'{"data": "\xff"}', "not readable as JSON"), (b"[" * 10**5, "not readable as JSON"),
    (b"[]", "contains no JSON object"),
    (b"{}", "lacks data"), (b'{"data": {}}', "squad.json: data is an object, expected a list"),
    (b'{"data": []}', "squad.json: holds no question"),
    (b'{"data": [[]]}', "article 1: found a list, expected an object with paragraphs"),
    (b'{"data": [{"paragraphs": []}, {}]}', "squad.json, article 2: lacks paragraphs"),
    (b'{"data": [{"paragraphs": [{"qas": []}]}]}', f"{PLACE}: lacks context"),
    (b'{"data": [{"paragraphs": [{"context": "a"}]}]}', f"{PLACE}: lacks qas"),
    (b'{"data": [{"paragraphs": [{"context": " \\n", "qas": []}]}]}', "the context is empty"),
], ids=lambda value: value[:40] if isinstance(value, bytes) else "")
def test_a_bad_file_is_named_in_one_line(tmp_path, content, message):
    (tmp_path / "squad.json").write_bytes(content)
    check_refusal(str(tmp_path / "squad.json"), message)


def test_no_file(tmp_path):
    check_refusal(str(tmp_path / "none.json"), "none.json: no such file")
    check_refusal(str(tmp_path), "not readable as JSON")


def test_an_id_twice_names_both_places(tmp_path):
    path = write(tmp_path, paragraph(question("a")), paragraph(question("b"), question("a")))
    check_refusal(path, "article 1, paragraph 2, question 'a': the id is used already in "
                        "article 1, paragraph 1; give")


def test_bad_answers_may_be_left_out(tmp_path, caplog):
    bad, good = (5, "Café"), (4, "Café")
    path = write(tmp_path, paragraph(question("a", [bad, good]), question("b", [bad]),
                                     question("c", (), is_impossible=True)))
    with caplog.at_level("INFO", logger="absl"):
        examples = read_squad(path, bad_answers="skip")
    assert [(example.id, example.answers) for example in examples] == [
        ("a", (("Café", 4),)), ("c", ())]
    assert "2 answers that are not at their offset left out, and 1 of 3 questions" in caplog.text
    check_refusal(write(tmp_path, paragraph(question(answers=[bad]))),
                  "holds no question with a sound answer", bad_answers="skip")


def check_refusal(path, message, **options):
    with pytest.raises(InputError) as refusal:
        read_squad(path, **options)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300 + len(path)


@pytest.mark.parametrize("text, plain", [
    ("The U.S.'s  \n'A-Team'", "uss ateam"), ("An apple a day, the doctor", "apple day doctor"),
    ("theatre banana", "theatre banana"), ("the the an", ""), ("1,000.5%", "10005"),
    ("«Äpfel» — Ça", "«äpfel» — ça"), ("A\u00a0ǅ", "ǆ"), ("l'a", "la"), ("über-a", "übera")])
def test_normalized(text, plain):
    assert normalized(text) == plain


@pytest.mark.parametrize("prediction, answer, exact, overlap", [
    ("The Denver Broncos!", "denver broncos", 1, 1), ("Denver", "Denver Broncos", 0, 2 / 3),
    ("a b b c", "b b b d", 0, 4 / 7), ("x", "y", 0, 0), ("", "", 1, 1), ("", "x", 0, 0),
    ("the", "", 1, 1), ("北京", "北京", 1, 1), ("北 京", "北京", 0, 0)])
def test_of_one_pair(prediction, answer, exact, overlap):
    assert exact_match(prediction, answer) == exact
    assert f1(prediction, answer) == pytest.approx(overlap, abs=1e-12)


def example(name, *answers):
    return SquadExample(name, "?", "context", tuple((answer, 0) for answer in answers), not answers)


def test_scores_of_squad_1_take_the_best_answer():
    examples = [example("a", "Ana Lee", "Ana"), example("b", "x y z"), example("c", "the")]
    scores = squad_scores(examples, {"a": "ana", "b": "x", "c": "The", "d": "more"})
    assert scores == {"exact_match": pytest.approx(200 / 3), "f1": pytest.approx((1 + 0.5) / 3e-2)}


# Two with answers, two without: a's answer stands, b's is half right, c's should not be one.
OF_SQUAD_2 = [example("a", "Ana Lee", "Ana"), example("b", "x y z", "the"), example("c"),
              example("d")]
PREDICTED = {"a": "Ana", "b": "x", "c": "wrong", "d": "wrong"}


def test_scores_of_squad_2_without_odds():
    scores = squad_scores(OF_SQUAD_2, {**PREDICTED, "d": ""})
    assert scores == {
        "exact": 50, "f1": 62.5, "total": 4, "HasAns_exact": 50, "HasAns_f1": 75, "HasAns_total": 2,
        "NoAns_exact": 50, "NoAns_f1": 50, "NoAns_total": 2}
    assert squad_scores(OF_SQUAD_2, {**PREDICTED, "b": "an"})["HasAns_f1"] == 50   # not "the"
    assert squad_scores([example("a")], {"a": "the"}) == {
        "exact": 100, "f1": 100, "total": 1,
        "NoAns_exact": 100, "NoAns_f1": 100, "NoAns_total": 1}


@pytest.mark.parametrize("threshold, exact, has_exact, has_f1, without", [
    (-9, 50, 0, 0, 100), (-2, 75, 50, 50, 100), (0, 75, 50, 50, 100), (2, 50, 50, 75, 50),
    (9, 25, 50, 75, 0)])
def test_scores_of_squad_2_by_threshold(threshold, exact, has_exact, has_f1, without):
    odds = {"a": -2.0, "b": 1.0, "c": 2.0, "d": 8.0}
    scores = squad_scores(OF_SQUAD_2, PREDICTED, odds, threshold)
    assert scores == {
        "exact": exact, "f1": (has_f1 + without) / 2, "total": 4,
        "HasAns_exact": has_exact, "HasAns_f1": has_f1, "HasAns_total": 2,
        "NoAns_exact": without, "NoAns_f1": without, "NoAns_total": 2,
        "best_exact": 75, "best_exact_thresh": -2.0, "best_f1": 87.5, "best_f1_thresh": 1.0}


def test_best_threshold():
    # The one that should not stand comes first, then 1.0 and 0.5 gained.
    assert best_threshold([0.0, 1.0, 0.5], ["x", "y", "z"], [1, 2, 3], [False, True, True]) == (
        50, 3)
    assert best_threshold([0.0, 0.9], ["x", "y"], [1, 2], [False, True]) == (50, 0.0)
    assert best_threshold([0.0, 0.9], ["", "y"], [1, 2], [False, True]) == (95, 2)
    assert best_threshold([0.0], ["x"], [-5.0], [True]) == (0, 0.0)


def test_scores_need_every_prediction():
    for arguments in (([], {}), (OF_SQUAD_2, {"a": ""}), (OF_SQUAD_2, PREDICTED, {"a": 0.0})):
        with pytest.raises(ValueError, match="every example, at least one, needs its prediction"):
            squad_scores(*arguments)
