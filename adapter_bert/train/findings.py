"""What a report shows of one evaluated split, whatever its kind of head, and its text as Markdown.

Each kind of head has one module that computes Findings (`class_report`, `number_report`,
`tag_report`, `answer_report`); `report` writes them down and knows no kind.
"""
import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from adapter_bert.plain_text import plain

# Characters that Markdown, or HTML in Markdown, gives a meaning to.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$&])")
_NUMBER = re.compile(r"[*+-]*[0-9][0-9.,]*[ %s*]*|–|")
MOST_CHARACTERS = 40
MOST_MISTAKES = 50   # in errors.csv


class Baseline(NamedTuple):
    """What a model scores that has learned nothing.

    name: what it answers, for people: "majority class".
    scores: {metric: float}.
    """

    name: str
    scores: dict[str, float]


class Table(NamedTuple):
    """A table of the report; columns of numbers are aligned on the right."""

    title: str
    header: Sequence[str]
    rows: list[list[str]]
    note: str = ""


class Picture(NamedTuple):
    """A picture of the report.

    name: of its PNG file, without the ending.
    title: heading in the report.
    caption: one or two sentences that say how to read it.
    draw: function (module `figures`) -> matplotlib Figure; it is an argument because Matplotlib
      takes a second to import.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Any], Any]


class Sheet(NamedTuple):
    """Rows for a CSV file."""

    header: Sequence[str]
    rows: list[list[Any]]


class Findings(NamedTuple):
    """What was found out about the predictions for one split.

    summary: one sentence on how good they are, in Markdown, for a reader who knows no metric.
    details: JSON values for results.json.
    mistakes: the worst of them, the most confident first.
    mistakes_note: what `mistakes` holds, in a few words.
    sheets: {name of a CSV file without the ending: Sheet} with what tables leave out.
    """

    summary: str
    details: dict[str, Any]
    tables: list[Table]
    pictures: list[Picture]
    mistakes: Sheet
    mistakes_note: str
    sheets: dict[str, Sheet]


def clipped(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text on one line of at most so many characters, with an ellipsis where it is cut."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most - 1].rstrip() + "…"


def escaped(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text from the data as Markdown shows it literally, on one line, clipped.

    Control characters are written as escapes: a viewer could be a terminal.
    """
    return _SPECIAL.sub(r"\\\1", plain(clipped(text, most)))


def percent(share: float) -> str:
    """A share in [0, 1] for people: "83.6 %"."""
    return f"{100 * share:.1f} %"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things: "1 example", "1,024 examples"; `plural` where it is not noun + "s"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def markdown_table(table: Table) -> str:
    """A Table in Markdown, with its title and note; cells must be escaped already."""
    marks = ["---:" if table.rows and all(map(_NUMBER.fullmatch, column)) else "---"
             for column in zip(*table.rows, strict=True)] or ["---"] * len(table.header)
    lines = [f"| {' | '.join(row)} |" for row in (table.header, marks, *table.rows)]
    title = [f"**{table.title}**", ""] if table.title else []
    return "\n".join([*title, *lines, *(["", table.note] if table.note else [])])


def csv_text(sheet: Sheet) -> str:
    """A Sheet as CSV (RFC 4180)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(sheet.header)
    writer.writerows(sheet.rows)
    return text.getvalue()
