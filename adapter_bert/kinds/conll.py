"""Sentences of words with a tag each, in the columns of CoNLL-2003 or of CoNLL-U.

    -DOCSTART- -X- -X- O       left out, as a blank line: it ends a sentence

    Angela NNP B-NP B-PER      columns separated by spaces or TABs: the word first, its tag last
    Merkel NNP I-NP I-PER
    spoke VBD B-VP O

White space of other kinds is part of a word. CoNLL-U (universaldependencies.org) has ten columns
separated by TABs, of which FORM is the word and UPOS the tag unless other columns are named; lines
of comments, of multi-word tokens (1-2) and of empty nodes (3.1) are left out.
"""
import collections
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from absl import logging

from adapter_bert.data.bad_rows import BadRows
from adapter_bert.data.label_names import LabelNames, counted
from adapter_bert.data.splitting import split_examples
from adapter_bert.data.text_lines import TextLines
from adapter_bert.errors import InputError
from adapter_bert.kinds.readers import find_file
from adapter_bert.kinds.tag_schemes import OUTSIDE, odd_tags
from adapter_bert.kinds.task_table import CONLL_COLUMNS, Columns, Task

__all__ = ["OUTSIDE", "Sentence", "read_sentence_parts", "read_sentences"]

_DOCUMENT = "-DOCSTART-"
_UNIVERSAL_COLUMNS, _UNIVERSAL_WIDTH = Columns(1, None, 3), 10   # FORM, UPOS
_ID, _WORD_ID = re.compile(r"\d+([-.]\d+)?"), re.compile(r"\d+")
_COMMENT = re.compile(r"# +(id|sent_id|text|newdoc|newpar|global\.columns|doc_id)\b")
_NOT_ANNOTATED = "_"


class Sentence(NamedTuple):
    """The words of a sentence and the tag of each; None in a test split without tags."""
    words: tuple[str, ...]
    tags: tuple[str, ...] | None


class _Rows(NamedTuple):
    """The rows of a sentence: their line numbers, words, and tags (None: without)."""
    lines: tuple[int, ...]
    words: tuple[str, ...]
    tags: tuple[str, ...] | None


def read_sentences(task: Task, data_dir: str | None, split: str,
                   bad_rows: str | None = "refuse") -> list[Sentence]:
    """Every sentence of one split, in the order of the file.

    Each row has as many columns as the first one. A test split has tags where it has a column for
    them beside that of the words. A sentence with a bad row is bad as a whole.

    Args:
      task: Task of kind "tokens"; where its labels are known, each tag is one of them.
      data_dir: folder of the task's files; not used where the files are paths.
      split: a key of `task.files`.
      bad_rows: "refuse", or "skip" to drop and count sentences; see `data.bad_rows.BadRows`.

    Returns:
      list of Sentence, at least one.

    Raises:
      InputError: the file is missing, empty, or has another layout; rows in it are bad.
    """
    if task.is_parted:
        return read_sentence_parts(task, data_dir, bad_rows)[split]
    path = find_file(task, data_dir, split)
    is_test = split.startswith("test")
    return _read_file(task, path, f"{task.name} needs {split} examples", is_test, bad_rows)


def read_sentence_parts(task: Task, data_dir: str | None,
                        bad_rows: str | None = "refuse") -> dict[str, list[Sentence]]:
    """{split: sentences} of a task whose splits are parts of one file; see `read_sentences`."""
    path = find_file(task, data_dir, "train")
    sentences = _read_file(task, path, f"{task.name} needs examples", False, bad_rows)
    dev, test = task.parts or (0.0, 0.0)
    return split_examples(path, sentences, dev, test, lambda sentence: sentence.words,
                          lambda sentence: sentence.tags or ())


def _read_file(task, path, needs, is_test, policy):
    """The sentences of one file; see `read_sentences`."""
    bad, lines = BadRows(path, policy), TextLines(path)
    rows, is_universal = _open_rows(path, lines)
    head = []
    for row in rows:
        head.append(row)
        if row[1]:
            break
    else:
        raise InputError(f"{path}: the file has no words; {needs}")
    columns = task.columns
    if is_universal and columns == CONLL_COLUMNS:
        columns = _UNIVERSAL_COLUMNS
        logging.info("%s: CoNLL-U, words from column FORM, tags from UPOS", path)
    word, tag = _places(path, head[-1], columns, needs_tags=not is_test)
    groups = list(_groups(itertools.chain(head, rows), word, tag, head[-1], lines, bad))
    names = LabelNames(task.labels)
    is_labelled = not is_test or any(set(group.tags or ()) - {_NOT_ANNOTATED} for group in groups
                                     if group)
    problems = _problems_of_tags(task, groups) if is_labelled else {}
    sentences = [sentence for group in groups if group and (
        sentence := _sentence(group, names, is_labelled, problems, bad))]
    bad.conclude(len(sentences), len(groups) - len(sentences), "sentence")
    names.log(path)
    return sentences


def _open_rows(path: str, lines: TextLines) -> tuple[Iterator, bool]:
    """(line number, columns) of each line, and whether these are those of CoNLL-U.

    A line that ends a sentence has no columns: []; of one that is not UTF-8 they are None.
    """
    head = []
    for line, text in lines:
        head.append((line, text))
        if text.strip() and not text.startswith("#"):
            break
    cells = head[-1][1].rstrip("\r\n").split("\t") if head else []
    is_universal = path.lower().endswith(".conllu") or (
        len(cells) == _UNIVERSAL_WIDTH and _ID.fullmatch(cells[0]) is not None
        and cells[0][0] in "01")
    return (_universal_rows if is_universal else _plain_rows)(
        itertools.chain(head, lines), lines), is_universal


def _plain_rows(numbered, lines):
    is_start = True
    for line, text in numbered:
        if is_start and _COMMENT.match(text):
            continue
        cells = text.removesuffix("\n").removesuffix("\r").replace("\t", " ").split(" ")
        cells = list(filter(None, cells))
        is_start = not cells or cells[0] == _DOCUMENT
        yield line, None if line in lines.problems else [] if is_start else cells


def _universal_rows(numbered, lines):
    for line, text in numbered:
        cells = text.removesuffix("\n").removesuffix("\r").split("\t")
        is_word = not _ID.fullmatch(cells[0]) or _WORD_ID.fullmatch(cells[0])
        if line in lines.problems:
            yield line, None
        elif not text.strip():
            yield line, []
        elif is_word and not text.startswith("#"):
            yield line, cells


def _places(path, row, columns, needs_tags):
    """The numbers from 0 of the columns of words and of tags in a row; None where it has no tag."""
    line, cells = row
    word, tag = (_place(column, len(cells)) for column in (columns.text_a, columns.label))
    if word is None or (needs_tags and tag in (None, word)):
        raise InputError(f"{path}, line {line}: {counted(len(cells), 'column')}, and words are "
                         f"read in column {columns.text_a} and tags in column {columns.label} (the "
                         "first is 0, the last -1); separate the columns by spaces or TABs, or "
                         "name them with --text_column and --label_column of --task_name=custom")
    return word, None if tag == word else tag


def _place(column, width):
    """A column of a row that is so wide, counted from 0; None where it has no such column."""
    return int(column) % width if -width <= int(column) < width else None


def _groups(rows, word, tag, first, lines, bad):
    """The _Rows of each sentence; None for one with a row that cannot be read."""
    for has_words, group in itertools.groupby(rows, key=lambda row: row[1] != []):
        if not has_words:
            continue
        before, rows_of_it = bad.count, list(group)
        for line, cells in rows_of_it:
            if cells is None:
                lines.report(line, bad)
            elif len(cells) != len(first[1]):
                bad.add(line, f"{counted(len(cells), 'column')}, expected {len(first[1])} as in "
                        f"line {first[0]} (a blank line ends a sentence)")
        if bad.count > before:
            yield None
            continue
        numbers, cells = zip(*rows_of_it, strict=True)
        yield _Rows(numbers, tuple(row[word] for row in cells),
                    None if tag is None else tuple(row[tag] for row in cells))


def _problems_of_tags(task, groups):
    """{tag: what is wrong with it} of the tags of train; {} where the labels are known."""
    if task.labels is not None:
        return {}
    counts: collections.Counter = collections.Counter()
    for group in groups:
        counts.update(group.tags if group else ())
    return odd_tags(counts)


def _sentence(group, names, is_labelled, problems, bad):
    """The Sentence of its rows; None where a tag is bad, and then that is added to the bad rows."""
    if group.tags is None or not is_labelled:
        return Sentence(group.words, None)
    tags = []
    for line, tag in zip(group.lines, group.tags, strict=True):
        try:
            if tag in problems:
                raise ValueError(problems[tag])
            tags.append(names(tag))
        except ValueError as error:
            bad.add(line, str(error))
    return Sentence(group.words, tuple(tags)) if len(tags) == len(group.tags) else None
