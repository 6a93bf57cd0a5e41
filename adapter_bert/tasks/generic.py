"""A task out of anybody's TSV or CSV files: which columns hold what is told, not looked up."""
import dataclasses
import re

from adapter_bert.errors import InputError
from adapter_bert.tasks.table import Columns, Task

_METRICS = {"classification": ("accuracy", "macro_f1"), "regression": ("pearson", "spearman")}
_INTEGER = re.compile(r"[+-]?[0-9]+")


def generic_task(text_column, text_b_column, label_column, header=True, kind="classification"):
    """A task of the files train, dev and test, each .tsv (no quoting, as GLUE) or .csv (RFC 4180).

    Args:
      text_column: str or int, name of the column in the header or its number from 0 (-1 is the
        last); a name that looks like a number is a name where the header holds it.
      text_b_column: the same for the second text of a pair; None or "" for single texts.
      label_column: the same for the label or score; test files may do without it.
      header: bool, whether the first line of each file names the columns.
      kind: "classification" (labels found in train, see `with_labels`) or "regression".

    Returns:
      Task named "custom"; its labels are None for classification.

    Raises:
      InputError: the kind is unknown, or a column is given by name while there is no header.
    """
    if kind not in _METRICS:
        raise InputError(f"a custom task is classes or a number, not {kind!r}")
    if text_b_column == "":
        text_b_column = None
    columns = Columns(text_column, text_b_column, label_column)
    for column in columns:
        if not header and column is not None and not _INTEGER.fullmatch(str(column)):
            raise InputError(f"column {column!r}: files without a header have no names; "
                             "give the column's number, the first is 0")
    return Task("custom", columns, columns._replace(label=None),
                None if kind == "classification" else (), _METRICS[kind], kind,
                headerless=() if header else ("train", "dev", "test"),
                files={"train": "train", "dev": "dev", "test": "test"},
                submissions={"test": "predictions.tsv"})


def with_labels(task, examples):
    """`task` with the labels that its training examples hold, where it has none yet.

    Labels are sorted, by value where every one is an integer, so that class ids do not depend on
    the order of the file.

    Args:
      task: Task; returned as it is where its labels are known.
      examples: sequence of Example read from train.

    Raises:
      InputError: fewer than two labels.
    """
    if task.labels is not None:
        return task
    labels = {example.label for example in examples}
    if len(labels) < 2:
        raise InputError(f"task {task.name}: labels found in train: {', '.join(labels) or 'none'}; "
                         "expected two or more, is the label column right?")
    return dataclasses.replace(task, labels=tuple(sorted(labels, key=_label_order(labels))))


def _label_order(labels):
    if all(_INTEGER.fullmatch(label) for label in labels):
        return lambda label: (int(label), label)
    return str
