r"""Lines of a text file, with the lines that are not UTF-8 marked instead of stopping the reader.

Only \n and \r\n end a line, since real text contains U+2028, U+0085, \v and \f; a file without any
\n, as old Macs wrote them, is split at \r.
"""
import io
import re
from collections.abc import Iterator

from adapter_bert import paths
from adapter_bert.data.bad_rows import BadRows
from adapter_bert.errors import InputError

_SAVE_AS = "save the table as CSV (in Excel: 'CSV UTF-8') and name that file"
_MAGIC = {b"PK\x03\x04": f"is an Excel workbook or another ZIP archive, not text; {_SAVE_AS}",
          b"\xd0\xcf\x11\xe0": f"is an Excel workbook, not text; {_SAVE_AS}",
          b"\x1f\x8b": "is compressed with gzip; unpack it with gunzip first",
          b"PAR1": "is a Parquet file; give it a name that ends in .parquet",
          b"\xff\xfe": "is UTF-16, expected UTF-8; save the file as UTF-8",
          b"\xfe\xff": "is UTF-16, expected UTF-8; save the file as UTF-8"}
_ESCAPED = re.compile("[\udc80-\udcff]+")   # what `surrogateescape` makes of bytes


class TextLines:
    """The numbered lines of a text file; iterate over it once.

    Args:
      path: of the file.
      splits_at_cr: whether a lone carriage return ends a line too, as the CSV reader needs it.

    Attributes:
      problems: {number: (problem, hint)} of the lines read so far that are not UTF-8 text, see
        `BadRows.add`.

    Raises:
      InputError: the file cannot be read, or is no text file.
    """

    def __init__(self, path: str, splits_at_cr: bool = False):
        self._file = _open(path, None if splits_at_cr else "\n")
        self.problems: dict[int, tuple[str, str]] = {}
        self._lines = self._numbered()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self._lines

    def __next__(self) -> tuple[int, str]:
        return next(self._lines)

    def report(self, number: int, bad: BadRows) -> bool:
        """Whether a line is not UTF-8 text; if so it is added to the bad rows."""
        if number not in self.problems:
            return False
        bad.add(number, *self.problems[number])
        return True

    def _numbered(self):
        """(number from 1, text with its line end) of each line."""
        with self._file as file:
            first = file.readline()
            lines = [first] if first else []
            if "\r" in first and not first.endswith("\n"):
                lines = first.replace("\r\n", "\n").split("\r")
            for number, text in enumerate(_chained(lines, file), 1):
                if not text.isascii() or "\0" in text:
                    self._check(number, text)
                yield number, text

    def _check(self, number, text):
        escaped = _ESCAPED.search(text)
        if escaped:
            raw = text.encode("utf-8", "surrogateescape")
            before = text[:escaped.start()].encode("utf-8")
            self.problems[number] = (
                f"found byte 0x{raw[len(before)]:02x} at position {len(before)}, expected UTF-8",
                _encoding_hint(raw, text))
        elif "\0" in text:
            self.problems[number] = ("found a NUL character, expected text",
                                     "write the file again, it may be damaged")


def _chained(lines, file):
    yield from lines
    yield from file


def _open(path, newline):
    """The text file behind its byte order mark; `newline` as for io.TextIOWrapper, None as ""."""
    if paths.is_folder(path):
        raise InputError(f"{path}: cannot be read (Is a directory); name a file in it")
    paths.refuse_pipe(path)
    try:
        file = paths.open_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    start = file.read(4)
    try:
        refuse_other_forms(path, start)
    except InputError:
        file.close()
        raise
    file.seek(3 if start.startswith(b"\xef\xbb\xbf") else 0)
    return io.TextIOWrapper(file, "utf-8", "surrogateescape", newline or "")


def refuse_other_forms(name: str, start: bytes) -> None:
    """InputError where a file that begins with these bytes is no UTF-8 text, but known."""
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise InputError(f"{name} {what}")


def _encoding_hint(raw: bytes, text: str) -> str:
    """What the encoding of a line that is not UTF-8 may be, and what to do.

    Western text has single bytes above 127; where they stand in rows, other alphabets are likelier.
    """
    longest = max(map(len, _ESCAPED.findall(text)))
    if longest > 2:
        return ("the file has another encoding than UTF-8 (Windows-1251, GB18030 or Shift JIS, "
                "perhaps); save it as UTF-8")
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:
        return "save the file as UTF-8"
    return ("the file seems to be Windows-1252 (Latin-1); save it as UTF-8 (in Excel: 'CSV UTF-8') "
            "or convert it with `iconv -f WINDOWS-1252 -t UTF-8`")
