r"""Reads the files of a task, and reports all bad rows with file, line, and what was expected.

The forms of files are those of `data.table_files`. Files are UTF-8, with or without a byte order
mark. Columns are read by name wherever the file has a header.
"""
import contextlib
import functools
import math
import os
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import logging

from adapter_bert import paths
from adapter_bert.data import column_names, table_files
from adapter_bert.data.bad_rows import BadRows, listed, shown
from adapter_bert.data.label_names import LabelNames, counted, normalized
from adapter_bert.data.splitting import split_examples
from adapter_bert.errors import InputError
from adapter_bert.kinds import folders
from adapter_bert.kinds.task_table import Columns, Task

# Larger scores overflow: float32 ends at 3.4e38, and the loss and the norm of the gradients square.
LARGEST_SCORE = 1e15


class Example(NamedTuple):
    """One text or a pair, and its label: the name of a class, a score, or None for none."""
    text_a: str
    text_b: str | None
    label: str | float | None


class _Raw(NamedTuple):
    """A row as it was read: its number, texts, and the cell of the label."""
    number: int
    text_a: str
    text_b: str | None
    label: str | None


def read_examples(task: Task, data_dir: str | None, split: str,
                  bad_rows: str | None = "refuse") -> list[Example]:
    """Every example of one split, in the order of the file.

    In train and dev each row has as many columns as the first line: one more or less means a TAB or
    line break inside a text, and so a wrong label. In a test split columns may follow those that
    are read. A test split has labels where its file has the column of the label and one of the
    task's labels is in it.

    Args:
      task: Task of kind "classification" or "regression".
      data_dir: folder of the task's files; not used where the files are paths.
      split: a key of `task.files`, such as "train" or "dev_mm".
      bad_rows: "refuse", or "skip" to drop and count them; see `data.bad_rows.BadRows`.

    Returns:
      list of Example, at least one.

    Raises:
      InputError: the file is missing, empty, or has another layout; rows in it are bad.
    """
    if task.is_parted:
        examples = read_parts(task, data_dir, bad_rows)[split]
        if not examples:
            raise InputError(f"{find_file(task, data_dir, split)}: no rows for that part; "
                             f"{task.name} needs {split} examples")
        return examples
    return _read_file(task, find_file(task, data_dir, split), split, bad_rows)


def read_parts(task: Task, data_dir: str | None,
               bad_rows: str | None = "refuse") -> dict[str, list[Example]]:
    """{split: examples} of a task whose splits are parts of one file; see `read_examples`."""
    path = find_file(task, data_dir, "train")
    examples = _read_file(task, path, "train", bad_rows)
    if task.parts is None:
        return {split: part_of(examples, split) for split in task.files}
    return split_examples(path, examples, *task.parts, _texts, _labels_of(task))


def _texts(example: Example):
    return example.text_a, example.text_b or ""


def _labels_of(task):
    """Function of an example that returns the labels that its part must not be alone with."""
    return (lambda example: ()) if task.kind == "regression" else (lambda example: (example.label,))


def part_of(examples: Sequence[Example], split: str) -> list[Example]:
    """The examples of a split out of all there are, those of a test split without their labels.

    80 % are train, half of the others dev and the rest test: the paper's counts of both its tasks.
    """
    order = list(range(len(examples)))
    random.Random(0).shuffle(order)
    train = int(0.8 * len(examples))
    dev = train + (len(examples) - train) // 2
    start, stop = {"train": (0, train), "dev": (train, dev), "test": (dev, None)}[split]
    part = [examples[index] for index in sorted(order[start:stop])]
    return [one._replace(label=None) for one in part] if split == "test" else part


def find_file(task: Task, data_dir: str | None, split: str) -> str:
    """The path of the file that contains a split.

    Raises:
      InputError: the task has no such split, no file is there, or several are.
    """
    if split not in task.files:
        raise InputError(f"{task.name} has no split {split!r}; it has {', '.join(task.files)}")
    names = task.files[split]
    if task.parts is not None:
        return str(names)
    endings = table_files.ENDINGS
    names = tuple(full for name in ((names,) if isinstance(names, str) else names)
                  for full in ((name,) if os.path.splitext(name)[1] or name == os.curdir
                               or not task.is_custom else (name + end for end in endings)))
    folder = str(data_dir or "")
    there = [name for name in names if paths.exists(os.path.join(folder, name))]
    if not there:
        raise InputError(f"{os.path.join(folder, ' or '.join(names))}: no such file; "
                         f"the {split} examples of {task.name} are read there")
    if len(there) > 1:
        raise InputError(f"{folder}: contains {' and '.join(there)}; leave only one of them there")
    return os.path.join(folder, there[0])


def _read_file(task, path, split, policy):
    """The examples of one file; see `read_examples`."""
    bad = BadRows(path, policy)
    table, columns = _layout(task, path, split, bad)
    rows = table.rows([number for number in columns if number is not None])
    is_test = split.startswith("test") and not task.is_parted
    rows = _of_width(rows, table, columns, is_test, task.skips_broken_rows, bad)
    raw = list(_raw(rows, columns, task.is_custom and not is_test, table, bad))
    if not raw and not bad.count:
        raise InputError(f"{path}: no rows below the header; {task.name} needs {split} examples")
    parse = _label_parser(task)
    if columns.label is None or (is_test and not _has_labels(path, raw, parse)):
        examples = [Example(row.text_a, row.text_b, None) for row in raw]
    else:
        examples = list(_labelled(raw, parse, _name_of(table, columns.label), bad))
        _refuse_row_as_header(task, path, table, columns, parse)
    bad.conclude(len(examples))
    if isinstance(parse, LabelNames):
        parse.log(path)
    return examples


def _layout(task, path, split, bad):
    """The open table_files.Table of a file, and Columns with the numbers of those to read."""
    if os.path.basename(path) == os.curdir:
        table = table_files.table_of(folders.rows(path), header=False)
    else:
        has_header = split not in task.headerless or task.bare_columns is not None
        table = table_files.open_table(path, bad, has_header, is_tsv=not task.is_custom)
    if table is None:
        bad.conclude(0)
        raise InputError(f"{path}: the file is empty; {task.name} needs {split} examples")
    is_test = split.startswith("test")
    columns = task.columns
    if task.bare_columns is not None and _is_bare(task, table):
        table, columns = table_files.without_header(table), task.bare_columns
    return table, _numbers(task, path, split, table, columns, is_test)


def _is_bare(task, table):
    """Whether a file begins with a row in the layout without header, as CoLA's train file."""
    label = task.bare_columns.label
    return (table.first is not None and table.width == task.bare_width
            and table.first[1][label] in task.labels)


def _numbers(task, path, split, table, columns, is_test):
    """`columns` as numbers from 0; in a test split the label may be missing."""
    try:
        numbers = Columns._make(
            None if column is None else column_names.position(table.columns, table.width, column)
            for column in columns)
    except ValueError as error:
        raise InputError(f"{path}, line 1: {error}") from error
    texts = [number for number in numbers[:2] if number is not None]
    if is_test and (numbers.label in texts or (numbers.label is None)):
        numbers = numbers._replace(label=None)
        columns = columns._replace(label=None)
    for column, number in zip(columns, numbers, strict=True):
        if column is not None and number is None:
            raise (column_names.missing(path, table.columns, table.width, column)
                   if task.is_custom or table.columns is None
                   else _other_layout(task, path, split, table))
    used = [number for number in numbers if number is not None]
    if len(set(used)) < len(used):
        raise InputError(f"{path}: texts and label are to be read in the columns {used}, one of "
                         "them twice; give each a column of its own")
    return numbers


def _other_layout(task, path, split, table):
    """The InputError for a file that has another header than GLUE's."""
    names = [column if isinstance(column, str) else column[0] for column in (
        task.columns[:2] if split.startswith("test") else task.columns) if column is not None]
    bare = (f", or {task.bare_width} columns without header" if split in task.headerless else "")
    return InputError(f"{path}, line 1: found {listed(table.columns)}; the {split} file of "
                      f"{task.name} has a header with the columns {listed(names)}{bare}; correct "
                      "the file, or read it with --task_name=custom")


def _of_width(rows, table, columns, is_test, skips, bad):
    """`rows`, each as wide as the first or, in a test split, wide enough; others are bad."""
    least = table.width if not is_test else 1 + max(
        number for number in columns if number is not None)
    most = table.width if not is_test else math.inf
    skipped = 0
    for number, cells in rows:
        if least <= len(cells) <= most:
            yield number, cells
        elif skips:
            skipped += 1
        else:
            bad.add(number, f"{counted(len(cells), 'column')}, expected {least} "
                    f"{'or more' if is_test else 'as in line 1'} (is a TAB, a separator or a line "
                    "break inside a text?)")
    if skipped:
        logging.info("%s: %s dropped; the file was published with them", bad.path,
                     counted(skipped, "broken row"))


def _raw(rows, columns, needs_text, table, bad):
    """A _Raw of each row; one without a text that it needs is bad."""
    text_a, text_b, label = columns
    name = _name_of(table, text_a)
    for number, cells in rows:
        first = cells[text_a] or ""
        if needs_text and not first.strip():
            bad.add(number, f"column {name} (the text) is empty")
            continue
        yield _Raw(number, first, None if text_b is None else cells[text_b] or "",
                   None if label is None else cells[label])


def _name_of(table, number):
    """A column as a message names it."""
    return repr(table.columns[number]) if table.columns else str(number)


def _labelled(raw, parse, name, bad):
    """The Example of each row whose label can be read; others are bad."""
    for row in raw:
        try:
            label = parse(row.label or "")
        except ValueError as error:
            bad.add(row.number, str(error) if (row.label or "").strip() else
                    f"column {name} (the label) is empty")
        else:
            yield Example(row.text_a, row.text_b, label)


def _has_labels(path, raw, parse):
    """Whether the rows of a test split have labels: one of the task's in the column, at least."""
    others = {row.label for row in raw} - {None, ""}
    for cell in others:
        with contextlib.suppress(ValueError):
            parse(cell)
            if isinstance(parse, LabelNames):
                parse.changed = 0   # it counts them when they are read
            return True
    if others:
        logging.info("%s: the column of the label has no label of the task (but %s), so the rows "
                     "are predicted and not scored", path, listed(sorted(others)[:3]))
    return False


def _refuse_row_as_header(task, path, table, columns, parse):
    """InputError where the first line of a file, read by column numbers, is a row like the others.

    It is one where its label is a label of the rows below, or a number where those are.
    """
    column = task.columns.label
    named = isinstance(column, str) and column_names.as_number(column) is None
    if not task.is_custom or table.columns is None or named or table.first is None:
        return
    cell = table.columns[columns.label]
    try:
        is_row = (parse.has_read(normalized(cell)) if isinstance(parse, LabelNames)
                  else parse(cell) is not None)
    except ValueError:
        is_row = False
    if is_row:
        raise InputError(f"{path}, line 1: expected the names of the columns, found a row with the "
                         f"label {shown(cell)}; if the file has no header, pass --noheader")


def _label_parser(task) -> Callable[[str], str | float]:
    """The function of a cell that returns the label or raises ValueError."""
    if task.kind == "regression":
        return functools.partial(_score, bounds=task.score_range)
    return LabelNames(task.labels)


def _score(cell, bounds):
    low, high = bounds or (-LARGEST_SCORE, LARGEST_SCORE)
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    # float() also reads the underscores of Python's literals.
    if not low <= score <= high or "_" in cell:
        expected = (f"a number from {low:g} to {high:g}" if bounds else
                    f"a number of at most {LARGEST_SCORE:g} (larger ones overflow in training; "
                    "divide them all)" if abs(score) > LARGEST_SCORE else "a number")
        raise ValueError(f"found score {shown(cell)}, expected {expected}")
    return score
