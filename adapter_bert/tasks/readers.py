r"""Reads the files of a task: strict, each complaint with file, line, what was found and expected.

A .tsv file has no quoting: a quote is a character, every TAB parts two columns. A .csv file is
quoted as RFC 4180 says. Both are UTF-8, with or without a byte order mark, and their lines end in
\n or \r\n only: real text holds U+2028, U+0085, \v and \f, which end a line for str.splitlines.
"""
import codecs
import csv
import functools
import itertools
import math
import os
import textwrap
from typing import NamedTuple

from absl import logging

from adapter_bert import paths
from adapter_bert.errors import InputError
from adapter_bert.tasks.table import Columns

_LARGEST_FLOAT32 = 3.4028234e38


class Example(NamedTuple):
    """One text or a pair, and its label: the name of a class, a score, or None in test splits."""
    text_a: str
    text_b: str | None
    label: str | float | None


def read_examples(task, data_dir, split):
    """Every example of one split, in the order of the file.

    In a split with labels each row has as many columns as the first line: one more or less means a
    TAB or line break inside a text, and so a wrong label. In a test split columns may follow those
    that are read.

    Args:
      task: Task.
      data_dir: str, folder of the task's files.
      split: str, a key of `task.files`, such as "train" or "dev_mm".

    Returns:
      list of Example, at least one; every label None in a test split.

    Raises:
      InputError: the file is missing, empty, not UTF-8, or a row in it is wrong.
    """
    path = find_file(task, data_dir, split)
    labelled = not split.startswith("test")
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path}: the file is empty; {task.name} needs {split} examples")
    header = None if split in task.headerless else first[1]
    columns = task.columns if labelled else task.test_columns
    columns = _column_numbers(path, columns, header, width=len(first[1]))
    if header is None:
        rows = itertools.chain([first], rows)
    rows = _checked_width(path, rows, columns, exact=len(first[1]) if labelled else None,
                          skips=task.skips_broken_rows)
    examples = list(_examples(path, rows, columns, _label_parser(task)))
    if not examples:
        raise InputError(f"{path}: no rows below the header; {task.name} needs {split} examples")
    return examples


def find_file(task, data_dir, split):
    """The path of the file that holds a split.

    Raises:
      InputError: the task has no such split, no file is there, or several are.
    """
    if split not in task.files:
        raise InputError(f"{task.name} has no split {split!r}; it has {', '.join(task.files)}")
    names = task.files[split]
    if isinstance(names, str):
        names = (names,) if os.path.splitext(names)[1] else (f"{names}.tsv", f"{names}.csv")
    found = [name for name in names if paths.exists(os.path.join(data_dir, name))]
    if not found:
        raise InputError(f"{os.path.join(data_dir, ' or '.join(names))}: no such file; "
                         f"the {split} examples of {task.name} are read there")
    if len(found) > 1:
        raise InputError(f"{data_dir}: holds {' and '.join(found)}; leave only one of them there")
    return os.path.join(data_dir, found[0])


def _examples(path, rows, columns, parse_label):
    """An Example of each (line number, cells)."""
    for line, cells in rows:
        text_b = None if columns.text_b is None else cells[columns.text_b]
        try:
            label = None if columns.label is None else parse_label(cells[columns.label])
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        yield Example(cells[columns.text_a], text_b, label)


def _label_parser(task):
    """The function of a cell that returns the label or raises ValueError."""
    if task.kind == "regression":
        return functools.partial(_score, bounds=task.score_range)
    return functools.partial(class_name, labels=task.labels)


def class_name(cell, labels):
    """The label in a cell; ValueError where it is no name, or not among the known `labels`."""
    if labels is None:
        if not cell or any(character in cell for character in "\t\r\n"):
            raise ValueError(f"found label {shown(cell)}, expected a name without TAB or "
                             "line break")
    elif cell not in labels:
        raise ValueError(f"found label {shown(cell)}, expected {_listed(labels, ' or ')}")
    return cell


def _score(cell, bounds):
    low, high = bounds or (-math.inf, math.inf)
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    # float() also reads the underscores of Python's literals, and what float32 cannot hold.
    if not abs(score) <= _LARGEST_FLOAT32 or not low <= score <= high or "_" in cell:
        expected = f"a number from {low:g} to {high:g}" if bounds else "a finite number"
        raise ValueError(f"found score {shown(cell)}, expected {expected}")
    return score


def _column_numbers(path, columns, header, width):
    """`columns` as numbers from 0, looked up in the first line of the file."""
    numbers = Columns._make(
        None if column is None else _column_number(path, column, header, width)
        for column in columns)
    used = [number for number in numbers if number is not None]
    if len(set(used)) < len(used):
        raise InputError(f"{path}: texts and label are to be read in the columns {used}, one of "
                         "them twice; give each a column of its own")
    return numbers


def _column_number(path, column, header, width):
    if header and column in header:
        if header.count(column) > 1:
            raise InputError(f"{path}, line 1: {header.count(column)} columns are named "
                             f"{column!r}; give the column's number, the first is 0")
        return header.index(column)
    try:
        number = int(column)
    except ValueError as error:
        raise InputError(f"{path}, line 1: no column is named {column!r}; "
                         f"the header holds {_listed(header)}") from error
    if not -width <= number < width:
        raise InputError(f"{path}, line 1: column count {width}, expected "
                         f"{number + 1 if number >= 0 else -number} or more, as column {number} "
                         "is read")
    return number % width


def _checked_width(path, rows, columns, exact, skips):
    """`rows`, each of `exact` columns or, where that is None, of those that are read.

    A row of another width is an error, or left out where `skips`.
    """
    skipped = 0
    least = exact or 1 + max(number for number in columns if number is not None)
    most = exact or math.inf
    for line, cells in rows:
        if least <= len(cells) <= most:
            yield line, cells
        elif skips:
            skipped += 1
        else:
            raise InputError(f"{path}, line {line}: column count {len(cells)}, expected "
                             f"{least} {'as in line 1' if exact else 'or more'}; a TAB or line "
                             "break inside a text breaks its row, mend or delete it")
    if skipped:
        logging.info("%s: %d broken rows left out", path, skipped)


def _rows(path):
    """(line number, cells) of each row; a row over several lines has the number of its first.

    Blank lines at the end are no rows; one between rows is a row of one empty cell.
    """
    blank = []
    for line, cells in _csv_rows(path) if path.endswith(".csv") else _tsv_rows(path):
        if cells:
            yield from blank
            blank = []
            yield line, cells
        else:
            blank.append((line, [""]))


def _tsv_rows(path):
    for number, text in numbered_lines(path):
        text = text.removesuffix("\n").removesuffix("\r")
        yield number, text.split("\t") if text else []


def _csv_rows(path):
    # The limit, 128 kB unless raised, belongs to the csv module; no text is longer than its file.
    csv.field_size_limit(max(csv.field_size_limit(), paths.size(path)))
    reader = csv.reader((text for _, text in numbered_lines(path)), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{path}, line {line}: the row that begins here is not CSV ({error}); "
                             'a text in quotes writes each quote inside as ""') from error
        if cells is None:
            return
        yield line, cells


def numbered_lines(path):
    r"""(number from 1, text with its line end) of each line of a file; only \n ends one.

    Raises:
      InputError: the file cannot be read, is not UTF-8, or holds a NUL character.
    """
    try:
        file = paths.open_file(path)   # closed below; here only its own error is caught
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            yield number, _text(path, number, raw)


def _text(path, number, raw):
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: found byte 0x{raw[error.start]:02x} at position "
                         f"{error.start}, expected UTF-8; save the file as UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path}, line {number}: found a NUL character, expected text; "
                         "is the file damaged?")
    return text


def shown(text, limit=60):
    """A text as a complaint shows it: quoted, on one line, its beginning if it is long."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}..."


def _listed(names, separator=", "):
    return textwrap.shorten(separator.join(map(repr, names)), 400, placeholder=" ...")
