r"""Tables in files: TSV, CSV, JSON Lines, a JSON list, Parquet.

A .tsv file has no quoting: a quote is a character, every TAB separates two columns. A .csv file is
quoted as RFC 4180 says; its columns are separated by commas or, where the file shows it, by
semicolons, TABs or |. Blank lines are no rows.
"""
import collections
import csv
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from absl import logging

from adapter_bert import paths
from adapter_bert.data.bad_rows import BadRows, shown
from adapter_bert.data.text_lines import TextLines
from adapter_bert.errors import InputError

ENDINGS = (".tsv", ".csv", ".jsonl", ".json", ".parquet")
_TSV, _JSON, _PARQUET = (".tsv", ".txt"), (".jsonl", ".ndjson", ".json"), (".parquet", ".pq")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_SNIFFED = 20            # rows that show the separator of a CSV file, objects that show the keys
_NO_TEXT = re.compile("[\0\ud800-\udfff]")   # what UTF-8 cannot write, and NUL
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)

Row = tuple[int, Sequence[str | None]]


class Table(NamedTuple):
    """A table that is open for reading.

    columns: names of the columns, None where the file has none.
    width: how many columns the first row has.
    rows: function (numbers of the columns that are needed) -> iterator of (number, cells); rows
      that cannot be read are added to the bad rows. A cell that is not needed may be None; of a
      needed one None stands for a missing value.
    first: (number, cells) of the first row of a TSV or CSV file, where that names the columns.
    """

    columns: list[str] | None
    width: int
    rows: Callable[[Sequence[int]], Iterator[Row]]
    first: Row | None = None


def open_table(path: str, bad: BadRows, header: bool = True,
               is_tsv: bool = False) -> Table | None:
    """Opens a file of any of the forms above.

    Args:
      path: str; the ending says which form it is.
      bad: collects the rows that cannot be read.
      header: whether the first row of a TSV or CSV file names the columns.
      is_tsv: whether a file of another ending is TSV.

    Returns:
      Table; None where the file is empty.

    Raises:
      InputError: the file cannot be read, or is no table.
    """
    ending = os.path.splitext(path)[1].lower()
    if paths.is_folder(path):
        raise InputError(f"{path}: cannot be read (Is a directory); name a file, or a folder with "
                         "train and dev files with --data_dir")
    if ending in _SHEETS:
        raise InputError(f"{path} is a spreadsheet; save it as CSV (in Excel: 'CSV UTF-8') and "
                         "name that file")
    if ending in _JSON:
        return _json_table(path, bad)
    if ending in _PARQUET:
        return _parquet_table(path, bad)
    if ending not in (".csv", *_TSV) and not is_tsv:
        raise InputError(f"{path}: the ending {ending!r} says no known form; tables end in "
                         f"{', '.join(ENDINGS)}")
    rows = _csv_file(path, bad) if ending == ".csv" else _tsv_rows(TextLines(path), bad)
    return table_of(rows, header)


def table_of(rows: Iterator[Row], header: bool) -> Table | None:
    """The Table of an iterator of rows; None where there are none."""
    first = next(rows, None)
    if first is None:
        return None
    if header:
        return Table(list(map(str, first[1])), len(first[1]), lambda needed: rows, first)
    return Table(None, len(first[1]), lambda needed: itertools.chain([first], rows))


def without_header(table: Table) -> Table:
    """The Table whose first row is data, and does not name the columns."""
    def rows(needed):
        yield table.first
        yield from table.rows(needed)
    return Table(None, table.width, rows) if table.first else table


def _tsv_rows(lines, bad):
    for number, text in lines:
        text = text.removesuffix("\n").removesuffix("\r")
        if text.strip() and not lines.report(number, bad):
            yield number, text.split("\t")


def _csv_file(path, bad):
    # The limit, 128 kB unless raised, belongs to the csv module; no text is longer than its file.
    lines = TextLines(path, splits_at_cr=True)
    csv.field_size_limit(max(csv.field_size_limit(), paths.size(path)))
    delimiter, numbered = delimited(lines)
    if delimiter != ",":
        logging.log_first_n(logging.INFO, "%s: columns are separated by %r", 1, path, delimiter)
    return _csv_rows(numbered, lines, delimiter, bad)


def delimited(numbered: Iterator[tuple[int, str]]) -> tuple[str, Iterator[tuple[int, str]]]:
    """What separates the columns of a CSV file, and its lines without one that only says so."""
    head = list(itertools.islice(numbered, _SNIFFED))
    separator = _SEPARATOR_LINE.fullmatch(head[0][1]) if head else None
    delimiter = separator[1] if separator else _delimiter([text for _, text in head])
    return delimiter, itertools.chain(head[bool(separator):], numbered)


def _delimiter(head):
    """The character that cuts most rows into as many columns as the first."""
    shares = {}
    for delimiter in ",;\t|":
        widths = [len(cells) for cells in csv.reader(head, delimiter=delimiter) if cells]
        first = widths[0] if widths else 1
        shares[delimiter] = widths.count(first) / len(widths) if first > 1 else 0
    return max(shares, key=lambda delimiter: shares[delimiter])   # a comma where all are equal


def _csv_rows(numbered, lines, delimiter, bad):
    """Rows of CSV. Where one is broken, its first line is bad and the next ones are read again."""
    again: collections.deque = collections.deque()
    used: list[tuple[int, str]] = []

    def feed():
        while again or (line := next(numbered, None)) is not None:
            used.append(again.popleft() if again else line)
            yield used[-1][1]

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        used.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            bad.add(used[0][0], f"the row that begins here is not CSV ({error})",
                    'write each quote inside a quoted text as ""')
            again.extendleft(reversed(used[1:]))
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)
            continue
        if cells is None:
            return
        # A row of separators alone is blank, as spreadsheets leave them; "" in quotes is a text.
        is_row = any(cell.strip() for cell in cells) or any('"' in text for _, text in used)
        if is_row and not any([lines.report(number, bad) for number, _ in used]):
            yield used[0][0], cells


def _json_table(path, bad):
    lines = TextLines(path)
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        return None
    if first[1].lstrip().startswith("["):
        bad.unit = "item"
        objects = _objects_of_list(path, first[1] + "".join(text for _, text in lines), lines, bad)
    else:
        objects = _objects_of_lines(itertools.chain([first], lines), lines, bad)
    head = list(itertools.islice(objects, _SNIFFED))
    if not head and not bad.count:
        return None
    if not head:
        bad.conclude(0)
    columns = list(dict.fromkeys(key for _, item in head for key in item))
    return _table_of_objects(columns, itertools.chain(head, objects), bad)


def _objects_of_list(path, text, lines, bad):
    for problem, _ in lines.problems.values():
        raise InputError(f"{path}: {problem}; save the file as UTF-8")
    try:
        items = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            yield number, item
        else:
            bad.add(number, f"found {shown(str(item))}, expected an object")


def _object(pairs):
    """The dict of a JSON object; ValueError where a key is repeated, so that one value is lost."""
    item = dict(pairs)
    if len(item) < len(pairs):
        key, _ = collections.Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(key)} is there twice")
    return item


def _objects_of_lines(numbered, lines, bad):
    for number, text in numbered:
        if not text.strip() or lines.report(number, bad):
            continue
        try:
            item = json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            bad.add(number, f"not readable as JSON ({str(error)[:100]})")
            continue
        if isinstance(item, dict):
            yield number, item
        else:
            bad.add(number, f"found {shown(str(item))}, expected an object, one on each line")


def _table_of_objects(columns, objects, bad):
    def rows(needed):
        for number, item in objects:
            cells: list[str | None] = [None] * len(columns)
            try:
                for place in needed:
                    cells[place] = cell_text(item.get(columns[place]))
            except ValueError as error:
                bad.add(number, f"column {columns[place]!r}: {error}")
            else:
                yield number, cells
    return Table(columns, len(columns), rows)


def _parquet_table(path, bad):
    import pyarrow
    import pyarrow.parquet
    paths.refuse_pipe(path)
    try:
        file = pyarrow.parquet.ParquetFile(paths.open_file(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not readable as Parquet "
                         f"({' '.join(str(error).split())[:100]})") from error
    bad.unit = "row"
    columns = file.schema_arrow.names
    if not file.metadata.num_rows:
        return None if not columns else Table(columns, len(columns), lambda needed: iter(()))
    names = _class_names(file.schema_arrow.metadata)

    def rows(needed):
        wanted = [columns[place] for place in needed]
        batches = file.iter_batches(batch_size=4096, columns=wanted)
        items = (item for batch in batches for item in batch.to_pylist())
        items = (_with_names(item, names) for item in items) if names else items
        yield from _table_of_objects(columns, enumerate(items, 1), bad).rows(needed)

    return Table(columns, len(columns), rows)


def _class_names(metadata) -> dict[str, list[str]]:
    """{column: names of its classes} that Hugging Face's `datasets` leaves beside class numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {column: feature["names"] for column, feature in features.items()
                if feature.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _with_names(item, names):
    return {column: names[column][value] if column in names and isinstance(value, int)
            and 0 <= value < len(names[column]) else value for column, value in item.items()}


def cell_text(value: Any) -> str | None:
    """A value of JSON or Parquet as the text of a cell; None for a missing one.

    Raises:
      ValueError: the value is neither a text nor a number.
    """
    if isinstance(value, str):
        if not value.isascii() and _NO_TEXT.search(value) or "\0" in value:
            raise ValueError(f"found {shown(value)}, which is no text")
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (int, float)):
        return str(value)
    raise ValueError(f"found {shown(str(value))}, expected a text or a number")
