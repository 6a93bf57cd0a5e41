"""A task from any user's files: which columns contain texts and labels is named, or recognised."""
import collections
import contextlib
import dataclasses
import os
import re
from collections.abc import Sequence

from absl import logging

from adapter_bert import paths
from adapter_bert.data import column_names, table_files
from adapter_bert.data.bad_rows import BadRows, listed
from adapter_bert.data.column_names import as_number
from adapter_bert.data.label_names import counts_line, look_alikes
from adapter_bert.errors import InputError
from adapter_bert.kinds.conll import OUTSIDE
from adapter_bert.kinds.readers import find_file
from adapter_bert.kinds.tag_schemes import describe
from adapter_bert.kinds.task_table import CONLL_COLUMNS, CONLL_FILES, Columns, Task

_METRICS = {"classification": ("accuracy", "macro_f1"), "regression": ("pearson", "spearman"),
            "tokens": ("f1",)}
_FILES = {"train": "train", "dev": ("dev", "valid", "validation"), "test": "test"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")   # int() refuses more than 4,300 digits


def generic_task(text_column, text_b_column, label_column, header=True, kind="classification"):
    """A task of the files train, dev and test, in the forms of `data.table_files`.

    Words and their tags are in CoNLL files instead, of the names in table.CONLL_FILES.

    Args:
      text_column: str or int, name of the column in the header or its number from 0 (-1 is the
        last); a name that looks like a number is a name where the header has it. None where
        `with_columns` is to recognise it; of words, the first column.
      text_b_column: the same for the second text of a pair; None or "" for single texts and words.
      label_column: the same for the label or score; test files may lack it; of tags, None is the
        last column.
      header: bool, whether the first line of each file names the columns; CoNLL files have none.
      kind: "classification", "tokens" (labels collected from train, see `with_labels`) or
        "regression".

    Returns:
      Task named "custom"; its labels are () for a regression, else None.

    Raises:
      InputError: the kind is unknown, a column is named although there is no header, or words have
        a second text.
    """
    if kind not in _METRICS:
        raise InputError("--label_type of a custom task is classes, number or tokens, not "
                         f"{kind!r}")
    is_conll = kind == "tokens"
    if text_b_column == "":
        text_b_column = None
    if is_conll and text_b_column is not None:
        raise InputError(f"--text_b_column={text_b_column}: tokens have one column of words only")
    columns = Columns(text_column, text_b_column, label_column)
    if is_conll:
        columns = Columns(*(default if column is None else column
                            for column, default in zip(columns, CONLL_COLUMNS, strict=True)))
    for column in columns:
        if (is_conll or not header) and column is not None and as_number(column) is None:
            raise InputError(f"column {column!r}: files without a header have no names; "
                             "give the column's number, the first is 0")
    return Task("custom", columns, () if kind == "regression" else None, _METRICS[kind], kind,
                headerless=() if header else tuple(_FILES), is_custom=True,
                files=CONLL_FILES if is_conll else _FILES,
                submissions={"test": "predictions.tsv"})


def with_data_file(task: Task, path: str, dev: float, test: float) -> Task:
    """The task whose splits are parts of one file.

    Args:
      task: of any kind but spans.
      path: of the file.
      dev, test: fractions of the examples; a split of 0 does not exist.
    """
    shares = {"train": 1 - dev - test, "dev": dev, "test": test}
    return dataclasses.replace(
        task, is_parted=True, parts=(dev, test),
        files={name: path for name, share in shares.items() if share > 0})


def with_columns(task: Task, data_dir: str | None, needs_label: bool) -> Task:
    """The custom task with all of its columns, looked up in the header of its first file.

    Columns that are not named are recognised by obvious names ("text", "label", ...), which is
    logged. Numbers are completed by the names that they stand for, so that a file with its columns
    in another order is read by name.

    Args:
      task: what `generic_task` returns.
      data_dir: folder of its files; not used where these are paths.
      needs_label: whether the label must be named or recognised.

    Raises:
      InputError: a column is not recognised, or the file cannot be read.
    """
    is_complete = task.columns.text_a is not None and (
        task.columns.label is not None or not needs_label)
    if task.kind == "tokens":
        return task
    if task.headerless:
        if is_complete:
            return task
        raise InputError("--noheader: name the columns by number, with --text_column and "
                         "--label_column (the first is 0)")
    named = [column for column in task.columns if column is not None]
    if is_complete and all(as_number(str(column)) is None for column in named):
        return task
    path = _first_file(task, data_dir)
    if path is None or (is_complete and not paths.exists(path)):
        return task   # reading it will say what is missing
    table = table_files.open_table(path, BadRows(path, None))
    if table is None:
        raise InputError(f"{path}: the file is empty; {task.name} needs examples")
    columns = Columns(*(_with_name(table.columns, column) for column in task.columns))
    return dataclasses.replace(task, columns=_recognised(
        path, table.columns, columns, task.kind, needs_label))


def _first_file(task, data_dir):
    """The path of the file whose header counts: train's, or of what there is; None for none."""
    for split in task.files:
        with contextlib.suppress(InputError):
            return find_file(task, data_dir, split)
    if task.columns.text_a is None:
        find_file(task, data_dir, "train")   # raises what is missing
    return None


def _with_name(header, column):
    """A column given by number with the name that it has in the header before the number."""
    if column is None or column in header or as_number(column) is None:
        return column
    number = as_number(column)
    if not -len(header) <= number < len(header) or header.count(header[number]) > 1:
        return column
    return header[number], number


def _recognised(path, header, columns, kind, needs_label):
    """`columns` with those that are None filled by the obvious names in the header."""
    text_a, text_b, label = columns
    if text_a is None and text_b is None:
        for pair in column_names.PAIRS:
            if {name.strip().casefold() for name in header} >= set(pair):
                text_a, text_b = (column_names.obvious(header, [name]) for name in pair)
    taken = [text_b] if isinstance(text_b, str) else []
    text_a = text_a or column_names.obvious(header, column_names.TEXTS, taken)
    names = column_names.SCORES if kind == "regression" else column_names.LABELS
    if label is None:
        label = column_names.obvious(header, names, [*taken, text_a])
    for flag, column, is_needed in (("text", text_a, True), ("label", label, needs_label)):
        if column is None and is_needed:
            raise InputError(f"{path}: name the column of the {flag} with --{flag}_column; "
                             f"the columns are {listed(header)}")
    found = Columns(text_a, text_b, label)
    recognised = [f"--{flag}_column={column}" for flag, before, column in zip(
        ("text", "text_b", "label"), columns, found, strict=True) if before != column]
    if recognised:
        logging.info("%s: recognised %s", os.path.basename(path), ", ".join(recognised))
    return found


def with_labels(task: Task, examples: Sequence) -> Task:
    """`task` with the labels of its training examples, where it has none yet.

    Labels are sorted, by value where every one is an integer, so that class ids do not depend on
    the order of the file; of tags "O", which is no entity, comes first.

    Args:
      task: Task; returned as it is where its labels are known.
      examples: sequence of Example, or of conll.Sentence, read from train.

    Raises:
      InputError: fewer than two labels.
    """
    if task.labels is not None:
        return task
    labels = label_counts(task, examples).keys()
    if len(labels) < 2:
        only = f"only the label {next(iter(labels))!r}" if labels else "no label"
        raise InputError(f"task {task.name}: the training examples have {only}, and a classifier "
                         "needs two; is the label column right?")
    order = _tag_order if task.kind == "tokens" else _label_order(labels)
    return dataclasses.replace(task, labels=tuple(sorted(labels, key=order)))


def label_counts(task: Task, examples: Sequence) -> collections.Counter:
    """{label: how many examples have it}, of tags how many words."""
    if task.kind == "tokens":
        return collections.Counter(tag for sentence in examples for tag in sentence.tags or ())
    return collections.Counter(example.label for example in examples)


def labels_line(task: Task, examples: Sequence) -> str:
    """What is learned, in one line: labels with their counts, tags with their scheme, or scores.

    Args:
      task: with its labels.
      examples: of train.
    """
    if task.kind == "regression":
        scores = [example.label for example in examples]
        return (f"scores: {min(scores):g} to {max(scores):g}, "
                f"mean {sum(scores) / len(scores):.4g}")
    counts, labels = label_counts(task, examples), task.labels or ()
    line = counts_line({label: counts[label] for label in labels if label in counts})
    if task.kind == "tokens":
        return f"tags ({describe(labels, examples)}): {line}"
    pairs = "".join(f"; {first!r} and {other!r} differ in case only, is that meant?"
                    for first, other in look_alikes(labels))
    return f"labels: {line}{pairs}"


def _tag_order(tag):
    return tag != OUTSIDE, tag


def _label_order(labels):
    if all(_INTEGER.fullmatch(label) for label in labels):
        return lambda label: (int(label), label)
    return str
