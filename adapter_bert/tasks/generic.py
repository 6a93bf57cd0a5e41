"""A task out of anybody's TSV or CSV files: which columns hold what is told, not looked up."""
import dataclasses
import re

from adapter_bert.errors import InputError
from adapter_bert.tasks.conll import OUTSIDE
from adapter_bert.tasks.table import CONLL_FILES, Columns, Task

_METRICS = {"classification": ("accuracy", "macro_f1"), "regression": ("pearson", "spearman"),
            "tokens": ("f1",)}
_FILES = {"train": "train", "dev": "dev", "test": "test"}
_INTEGER = re.compile(r"[+-]?[0-9]+")


def generic_task(text_column, text_b_column, label_column, header=True, kind="classification"):
    """A task of the files train, dev and test, each .tsv (no quoting, as GLUE) or .csv (RFC 4180).

    Words and their tags are in CoNLL files instead, of the names in table.CONLL_FILES.

    Args:
      text_column: str or int, name of the column in the header or its number from 0 (-1 is the
        last); a name that looks like a number is a name where the header holds it.
      text_b_column: the same for the second text of a pair; None or "" for single texts and words.
      label_column: the same for the label or score; test files may do without it.
      header: bool, whether the first line of each file names the columns; CoNLL files have none.
      kind: "classification", "tokens" (labels found in train, see `with_labels`) or "regression".

    Returns:
      Task named "custom"; its labels are () for a regression, else None.

    Raises:
      InputError: the kind is unknown, a column is given by name while there is no header, or words
        have a second text.
    """
    if kind not in _METRICS:
        raise InputError(f"a custom task is classes, a number or tokens, not {kind!r}")
    is_conll = kind == "tokens"
    if text_b_column == "":
        text_b_column = None
    columns = Columns(text_column, text_b_column, label_column)
    if is_conll and text_b_column is not None:
        raise InputError(f"--text_b_column={text_b_column}: tokens have one column of words only")
    for column in columns:
        if (is_conll or not header) and column is not None and not _INTEGER.fullmatch(str(column)):
            raise InputError(f"column {column!r}: files without a header have no names; "
                             "give the column's number, the first is 0")
    return Task("custom", columns, columns if is_conll else columns._replace(label=None),
                () if kind == "regression" else None, _METRICS[kind], kind,
                headerless=() if header else tuple(_FILES),
                files=CONLL_FILES if is_conll else _FILES,
                submissions={"test": "predictions.tsv"})


def with_labels(task, examples):
    """`task` with the labels that its training examples hold, where it has none yet.

    Labels are sorted, by value where every one is an integer, so that class ids do not depend on
    the order of the file; of tags "O", which is no name, comes first.

    Args:
      task: Task; returned as it is where its labels are known.
      examples: sequence of Example, or of conll.Sentence, read from train.

    Raises:
      InputError: fewer than two labels.
    """
    if task.labels is not None:
        return task
    if task.kind == "tokens":
        labels = {tag for sentence in examples for tag in sentence.tags}
    else:
        labels = {example.label for example in examples}
    if len(labels) < 2:
        raise InputError(f"task {task.name}: labels found in train: {', '.join(labels) or 'none'}; "
                         "expected two or more, is the label column right?")
    order = _tag_order if task.kind == "tokens" else _label_order(labels)
    return dataclasses.replace(task, labels=tuple(sorted(labels, key=order)))


def _tag_order(tag):
    return tag != OUTSIDE, tag


def _label_order(labels):
    if all(_INTEGER.fullmatch(label) for label in labels):
        return lambda label: (int(label), label)
    return str
