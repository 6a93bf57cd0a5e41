"""Reads questions with their contexts and answers in SQuAD's JSON form, 1.1 and 2.0.

Strict as `readers`: each complaint is one line with file, article, paragraph, question (numbers
from 1, a question by its id), what was found and what was expected.
"""
from typing import NamedTuple

from absl import logging

from adapter_bert.errors import InputError
from adapter_bert.files import read_object
from adapter_bert.kinds.readers import shown
from adapter_bert.kinds.task_table import Columns, Task

_NAMES = {dict: "an object", list: "a list", str: "a text", int: "a whole number",
          float: "a number", bool: "true or false", type(None): "null"}


class SquadExample(NamedTuple):
    """A question about a text, and its answers: (text, first character in the context) of each."""
    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    is_impossible: bool


def squad_task(train_file, predict_file):
    """The Task of answering questions.

    Args:
      train_file: path of the file to train on; None for none.
      predict_file: path of the file to answer, which is its dev split; None for none.
    """
    files = {"train": train_file, "dev": predict_file}
    return Task("SQuAD", Columns("question", "context", "answers"), (), ("f1",), "spans",
                files={name: path for name, path in files.items() if path})


def have_answers(examples):
    """Whether SquadExamples are of a file with answers, in which each has one or is impossible."""
    return any(example.answers or example.is_impossible for example in examples)


def read_squad(path, labelled=True, bad_answers="refuse"):
    """Every question of a file, in its order.

    `plausible_answers`, which SQuAD 2.0 gives for impossible questions, are not read.

    Args:
      path: str, the JSON file.
      labelled: whether answers are read, else every question has none; None to read them if any
        question has some or is impossible.
      bad_answers: "refuse", or "skip" to leave out each answer that is not at its offset, and a
        question that has no other; how many is logged.

    Returns:
      list of SquadExample, at least one.

    Raises:
      InputError: the file cannot be read, is not JSON, or holds something else.
    """
    examples, places, bad = [], {}, 0
    questions = list(_questions(path, read_object(path, "data")))
    if labelled is None:
        labelled = any(_is_labelled(question) for _, _, question in questions)
    for where, context, question in questions:
        name = _value(where, question, "id", str)
        place, _, _ = where.rpartition(",")
        where = f"{place}, question {shown(name)}"
        if name in places:
            raise InputError(f"{where}: the id is used already in {places[name]}; "
                             "give each question one of its own")
        places[name] = place.removeprefix(f"{path}, ")
        text = _value(where, question, "question", str)
        is_impossible, answers = _answers(where, question) if labelled else (False, ())
        sound = _sound_answers(where, context, answers, bad_answers)
        bad += len(answers) - len(sound)
        if sound or not answers:
            examples.append(SquadExample(name, text, context, sound, is_impossible))
    if bad:
        logging.info("%s: %d answers that are not at their offset left out, and %d of %d questions "
                     "with them", path, bad, len(places) - len(examples), len(places))
    if not examples:
        raise InputError(f"{path}: holds no question{' with a sound answer' if bad else ''}")
    return examples


def _questions(path, content):
    """(where, context, question as it is in the file) of each question."""
    for number, article in enumerate(_value(path, content, "data", list), 1):
        where = f"{path}, article {number}"
        for number, paragraph in enumerate(_value(where, article, "paragraphs", list), 1):
            place = f"{where}, paragraph {number}"
            context = _value(place, paragraph, "context", str)
            if not context.strip():
                raise InputError(f"{place}: the context is empty; mend or delete the paragraph")
            for number, question in enumerate(_value(place, paragraph, "qas", list), 1):
                yield f"{place}, question {number}", context, question


def _is_labelled(question):
    """Whether a question as it is in the file has answers or is impossible."""
    return isinstance(question, dict) and bool(
        question.get("answers") or question.get("is_impossible"))


def _answers(where, question):
    """Whether the question is impossible, and the (text, start) of its answers."""
    is_impossible = "is_impossible" in question and _value(where, question, "is_impossible", bool)
    answers = tuple((_value(where, answer, "text", str), _value(where, answer, "answer_start", int))
                    for answer in _value(where, question, "answers", list))
    if is_impossible and answers:
        raise InputError(f"{where}: is_impossible, but has the answer {shown(answers[0][0])}; "
                         "such a question has none")
    if not is_impossible and not answers:
        raise InputError(f"{where}: has no answer; one that has none is marked is_impossible")
    return is_impossible, answers


def _sound_answers(where, context, answers, bad_answers):
    """The answers that the context has at their offset; InputError for another unless skipped."""
    sound = []
    for text, start in answers:
        if text.strip() and start >= 0 and context.startswith(text, start):
            sound.append((text, start))
        elif bad_answers != "skip":
            found = context[max(start, 0):max(start, 0) + len(text)]
            raise InputError(f"{where}: found {shown(found)} at {start}, expected the answer "
                             f"{shown(text)}; mend it, or leave such out with --bad_answers=skip")
    return tuple(sound)


def _value(where, parent, key, kind):
    """parent[key], which is of that type."""
    if type(parent) is not dict:
        raise InputError(f"{where}: found {_NAMES[type(parent)]}, expected an object with {key}")
    if key not in parent:
        raise InputError(f"{where}: lacks {key}")
    if type(parent[key]) is not kind:
        raise InputError(f"{where}: {key} is {_NAMES[type(parent[key])]}, expected {_NAMES[kind]}")
    return parent[key]
