r"""Rows of files of texts for batch prediction: a bad one is reported, the others go on.

    .txt     one text a line
    .tsv     no quoting: every TAB parts two columns
    .csv     quoted as RFC 4180 says, with commas or what else parts the columns
    .jsonl   an object a line

All are UTF-8 with lines that end in \n or \r\n, as those for training are. Blank lines are no rows,
except for those in a .txt file before its end, which are empty texts.
"""
import csv
import functools
import itertools
import os
import re
from typing import Any, NamedTuple

from adapter_bert.data.table_files import cell_text, delimited
from adapter_bert.errors import InputError
from adapter_bert.serve import strict_json

_LONGEST_CELL = 1 << 30
_ESCAPED = re.compile("[\udc80-\udcff]")   # what surrogateescape makes of bytes that are not UTF-8


class Asked(NamedTuple):
    """Where the texts are: names of columns, numbers from 0 where a table has no header."""
    text_column: str | None = None
    text_b_column: str | None = None
    header: bool = True


class Row(NamedTuple):
    """A row with its texts, one or two; `line` is the first of those it stands on, from 1."""
    source: str
    line: int
    fields: dict[str, Any]
    texts: tuple[str, ...]


class Bad(NamedTuple):
    """A row that is left out, and why."""
    source: str
    line: int
    reason: str


def read(path, file, asked):
    """Every row of a file.

    Args:
      path: str; its ending says what the file is.
      file: the open file, in bytes.
      asked: Asked.

    Yields:
      Row, or Bad.
    """
    parse, records = _KINDS[_ending(path)](file, asked)
    for line, record in _without_blank(records, _ending(path) == ".txt"):
        try:
            fields = parse(_of_text(record))
            yield Row(path, line, fields, _texts(fields, asked))
        except ValueError as error:
            yield Bad(path, line, str(error))


def check(path, asked):
    """Raises InputError where the ending of a file and the columns asked for do not go together."""
    ending, columns = _ending(path), asked.text_column or asked.text_b_column
    if ending not in _KINDS:
        raise InputError(f"{path}: files end in {', '.join(_KINDS)}; this one must be renamed or "
                         "left out of --input")
    if ending == ".txt" and columns:
        raise InputError(f"{path}: one text a line, no column {columns!r}; leave the columns out")
    if ending != ".txt" and asked.text_column is None:
        raise InputError(f"{path}: --text_column is missing, the column that holds the texts")


def check_columns(path, file, asked):
    """Raises InputError where the first line of a table lacks a column that is asked for."""
    if _ending(path) not in (".tsv", ".csv"):
        return
    parse, _ = _KINDS[_ending(path)](file, asked)
    names = parse.args[0]
    try:
        if names:
            _texts(_named(names, asked, names), asked)
    except ValueError as error:
        raise InputError(f"{path}, line 1: {error}") from error


def _ending(path):
    return os.path.splitext(path)[1].lower()


def _texts(fields, asked):
    """The texts of a row."""
    names = [asked.text_column or "text", asked.text_b_column]
    return tuple(_text(fields, name) for name in names if name is not None)


def _text(fields, name):
    if name not in fields:
        found = ", ".join(map(repr, fields)) or "none"
        raise ValueError(f"no column is named {name!r}; found {found[:400]}")
    try:
        text = cell_text(fields[name])
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error
    if text is None:
        raise ValueError(f"{name!r}: found no value, expected a text")
    return text


def _lines_of_text(file, asked):
    return lambda text: {"text": text}, _lines(file)


def _objects(file, asked):
    return _object, _lines(file)


def _tsv(file, asked):
    return _table(((line, text.split("\t") if text else []) for line, text in _lines(file)), asked)


def _csv(file, asked):
    return _table(_csv_records(file), asked)


_KINDS = {".txt": _lines_of_text, ".tsv": _tsv, ".csv": _csv, ".jsonl": _objects}


def _table(records, asked):
    """The function that names the cells of a record, and the records below the header."""
    if asked.header:
        names = next((names for _, names in records if names), [])
        return functools.partial(_named, names, asked), records
    seen, width = [], 0
    for line, cells in records:
        seen.append((line, cells))
        if not isinstance(cells, ValueError):
            width = len(cells)
            break
    names = list(map(str, range(width)))
    return functools.partial(_named, names, asked), itertools.chain(seen, records)


def _named(names, asked, cells):
    """{name of the column: cell}; ValueError where a name that is asked for is not the only one."""
    names = _of_text(names)
    for name in (asked.text_column or "text", asked.text_b_column):
        if names.count(name) > 1:
            raise ValueError(f"two columns are named {name!r}; rename one")
    if len(cells) != len(names):
        raise ValueError(f"column count {len(cells)}, expected {len(names)} as in line 1")
    return dict(zip(_distinct(names), cells, strict=True))


def _distinct(names):
    """Names of columns; from the second of a name on, with the number of the column from 1."""
    if len(set(names)) == len(names):
        return names
    return [name if names.index(name) == place else f"{name} (column {place + 1})"
            for place, name in enumerate(names)]


def _object(line):
    """The object in a line of JSON."""
    try:
        value = strict_json.loads(line.encode("utf-8"))
    except InputError as error:
        raise ValueError(str(error).replace("the body", "the line")) from error
    if not isinstance(value, dict):
        raise ValueError(f"found {line!r:.60}, expected a JSON object")
    return value


def _of_text(record):
    """`record`, a text or a list of them, if it is sound; a ValueError in its place is raised."""
    if isinstance(record, ValueError):
        raise record
    for text in [record] if isinstance(record, str) else record:
        if byte := _ESCAPED.search(text):
            raise ValueError(f"found byte 0x{ord(byte[0]) - 0xdc00:02x}, expected UTF-8; save the "
                             "file as UTF-8")
        if "\0" in text:
            raise ValueError("found a NUL character, expected text; is the file damaged?")
    return record


def _csv_records(file):
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    delimiter, lines = delimited(_lines(file, keep_ends=True))
    numbers: list[int] = []   # of the lines of the record that is read

    def texts():
        for number, text in lines:
            numbers.append(number)
            yield text

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        numbers.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield numbers[0], ValueError(
                f'not CSV ({error}); a text in quotes writes each quote as ""')
            continue
        if cells is None:
            return
        yield numbers[0], cells


def _lines(file, keep_ends=False):
    """(number from 1, text) of each line; bytes that are not UTF-8 are kept as surrogates."""
    for number, raw in enumerate(iter(file.readline, b""), 1):
        text = raw.decode("utf-8", "surrogateescape")
        text = text.removeprefix("\ufeff") if number == 1 else text
        yield number, text if keep_ends else text.removesuffix("\n").removesuffix("\r")


def _without_blank(records, only_at_end):
    blank = []
    for line, record in records:
        if record == "" or record == []:
            blank.append((line, record))
        else:
            yield from blank if only_at_end else ()
            blank = []
            yield line, record
