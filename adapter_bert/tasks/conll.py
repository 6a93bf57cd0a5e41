"""Sentences of words with a tag each, in the columns of CoNLL-2003.

    -DOCSTART- -X- -X- O       left out, as a blank line: it ends a sentence

    Angela NNP B-NP B-PER      columns by spaces or TABs: the word first, its tag last
    Merkel NNP I-NP I-PER
    spoke VBD B-VP O

White space of other kinds is part of a word. Files are read as strictly as in `readers`.
"""
import itertools
from typing import NamedTuple

from adapter_bert.errors import InputError
from adapter_bert.tasks.readers import class_name, find_file, numbered_lines

OUTSIDE = "O"   # the tag of a word that belongs to no name
_DOCUMENT = "-DOCSTART-"


class Sentence(NamedTuple):
    """The words of a sentence and the tag of each; None in a test split without tags."""
    words: tuple[str, ...]
    tags: tuple[str, ...] | None


def read_sentences(task, data_dir, split):
    """Every sentence of one split, in the order of the file.

    Each row has as many columns as the first one. A test split has tags where it has a column for
    them beside that of the words.

    Args:
      task: Task of kind "tokens"; where its labels are known, each tag is one of them.
      data_dir: str, folder of the task's files.
      split: str, a key of `task.files`.

    Returns:
      list of Sentence, at least one.

    Raises:
      InputError: the file is missing, empty, not UTF-8, or a row in it is wrong.
    """
    path = find_file(task, data_dir, split)
    rows = itertools.dropwhile(lambda row: not row[1], _rows(path))
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path}: the file holds no words; {task.name} needs {split} examples")
    word, tag = _places(path, first, task.columns, needs_tags=not split.startswith("test"))
    rows = _checked_width(path, itertools.chain([first], rows), first)
    return [_sentence(path, group, word, tag, task.labels)
            for has_words, group in itertools.groupby(rows, lambda row: bool(row[1])) if has_words]


def _rows(path):
    """(line number, columns) of each line; no columns where it ends a sentence."""
    for line, text in numbered_lines(path):
        cells = text.removesuffix("\n").removesuffix("\r").replace("\t", " ").split(" ")
        cells = list(filter(None, cells))
        yield line, [] if cells[:1] == [_DOCUMENT] else cells


def _places(path, row, columns, needs_tags):
    """The numbers from 0 of the columns of words and of tags in a row; None where it has no tag."""
    line, cells = row
    word, tag = (_place(column, len(cells)) for column in (columns.text_a, columns.label))
    if word is None or (needs_tags and tag in (None, word)):
        raise InputError(f"{path}, line {line}: column count {len(cells)}, and words are read in "
                         f"column {columns.text_a} and tags in column {columns.label} (the first "
                         "is 0, the last -1); part the columns by spaces or TABs")
    return word, None if tag == word else tag


def _place(column, width):
    """A column of a row that is so wide, counted from 0; None where it has no such column."""
    return int(column) % width if -width <= int(column) < width else None


def _checked_width(path, rows, first):
    """`rows`; InputError at one with words that is not as wide as the first."""
    for line, cells in rows:
        if cells and len(cells) != len(first[1]):
            raise InputError(f"{path}, line {line}: column count {len(cells)}, expected "
                             f"{len(first[1])} as in line {first[0]}; a blank line ends a sentence")
        yield line, cells


def _sentence(path, rows, word, tag, labels):
    """The Sentence of its rows, with words and tags in these columns."""
    lines, cells = zip(*rows, strict=True)
    words = tuple(row[word] for row in cells)
    if tag is None:
        return Sentence(words, None)
    return Sentence(words, tuple(_tag(path, line, row[tag], labels)
                                 for line, row in zip(lines, cells, strict=True)))


def _tag(path, line, cell, labels):
    try:
        return class_name(cell, labels)
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {error}") from error
