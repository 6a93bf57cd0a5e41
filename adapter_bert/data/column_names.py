"""Which column of a table contains what: by name, by number, or by the names people use."""
import difflib
from collections.abc import Sequence

from adapter_bert.data.bad_rows import listed
from adapter_bert.errors import InputError

# A column: a name or number of the header, or several of which the first that is there counts.
Column = int | str | tuple[int | str, ...]

TEXTS = ("text", "sentence", "review", "message", "content", "comment", "utterance", "tweet",
         "document", "body", "query", "question", "review_text", "description", "title")
PAIRS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
         ("text1", "text2"), ("text_a", "text_b"), ("text", "text_pair"))
LABELS = ("label", "labels", "intent", "class", "category", "sentiment", "target", "label_text",
          "topic", "emotion", "tag", "rating", "stars", "score", "y")
SCORES = ("score", "label", "target", "rating", "stars", "similarity", "value", "y")


def position(columns: Sequence[str] | None, width: int, column: Column) -> int | None:
    """The number of a column from 0; None where the table has no such column.

    A name counts as it is, or else without regard to case and white space around it. A number,
    negative ones from the end, also stands in a text, unless that is a name.

    Args:
      columns: names of the header; None for a table without.
      width: how many columns there are.
      column: Column.

    Raises:
      ValueError: several columns have that name.
    """
    for one in column if isinstance(column, tuple) else (column,):
        place = _place(columns or (), width, one)
        if place is not None:
            return place
    return None


def _place(columns, width, column):
    if column in columns:
        places = [place for place, name in enumerate(columns) if name == column]
    else:
        wanted = str(column).strip().casefold()
        places = [place for place, name in enumerate(columns) if name.strip().casefold() == wanted]
    if len(places) > 1:
        raise ValueError(f"{len(places)} columns are named {column!r}; give the column's number, "
                         "the first is 0")
    if places:
        return places[0]
    number = as_number(column)
    return number % width if number is not None and -width <= number < width else None


def as_number(column: int | str) -> int | None:
    """The number that a column is given by; None for a name."""
    text = str(column)
    digits = text.removeprefix("-").removeprefix("+")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def obvious(columns: Sequence[str], names: Sequence[str], but: Sequence[str] = ()) -> str | None:
    """The first column whose name is one of `names`, these in their order of preference.

    Args:
      columns: names of the header.
      names: names that people use.
      but: columns that are taken already.
    """
    plain = {name.strip().casefold(): name for name in reversed(columns) if name not in but}
    return next((plain[name] for name in names if name in plain), None)


def missing(path: str, columns: Sequence[str] | None, width: int, column: Column) -> InputError:
    """The error for a column that a table does not have."""
    name = column[0] if isinstance(column, tuple) else column
    if as_number(name) is not None or columns is None:
        of = f": {listed(columns)}" if columns else ""
        return InputError(f"{path}, line 1: no column {name}; the file has {width} "
                          f"column{'s' * (width != 1)}{of} (the first is 0)")
    near = difflib.get_close_matches(str(name), columns, 1)
    hint = f"; did you mean {near[0]!r}? The" if near else "; the"
    if len(columns) == 1 and "," in columns[0] and path.endswith(".tsv"):
        hint = "; the file has commas and no TABs: give it a name that ends in .csv. The"
    return InputError(f"{path}, line 1: no column is named {name!r}{hint} columns are "
                      f"{listed(columns)}")
