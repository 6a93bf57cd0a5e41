"""Text of others (packs, hubs, requests, file names) as terminals and logs may show it.

A control character could move the cursor, forge a log line or turn the direction of writing. All
that a terminal does not show as a character of its own is written as an escape instead.
"""
import copy
import logging

# Of the characters that Python does not count as printable: they join letters of Persian and of
# Indian scripts, and the parts of an emoji, and do nothing else.
JOINERS = "\u200c\u200d"


def plain(text: object, most: int | None = None) -> str:
    """One line of printable characters; others are escaped as in Python: \\n, \\x1b, \\u202e.

    Args:
      text: whatever; str(text) is taken.
      most: characters of it that are kept; None for all.
    """
    line = str(text)
    if most is not None and len(line) > most:
        line = f"{line[:most]}..."
    return line if line.isprintable() else "".join(map(_escaped, line))


def plain_lines(text: str) -> str:
    """A text of several lines, each plain."""
    return "\n".join(map(plain, text.split("\n")))


def plain_json(text: str) -> str:
    """JSON with the same value in which all characters but line ends are printable."""
    return "".join(letter if letter.isprintable() or letter == "\n" else json_escape(letter)
                   for letter in text)


def json_escape(letter: str) -> str:
    """A character as JSON escapes it: \\u202e, or a surrogate pair."""
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place:place + 2].hex()}" for place in range(0, len(units), 2))


def _escaped(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


class PlainFormatter(logging.Formatter):
    """Writes every message as one plain line, and tracebacks below it as plain lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        record = copy.copy(record)
        record.msg, record.args = plain(record.getMessage()), None
        return super().format(record)

    def formatException(self, ei) -> str:   # noqa: N802 (logging's name)
        """The traceback of an exception, whose message may be a stranger's text."""
        return plain_lines(super().formatException(ei))
