"""Collects everything that is wrong with the rows of a file, and reports it in one message."""
import textwrap

from absl import logging

from adapter_bert.errors import InputError

SHOWN = 20        # rows that a message lists,
SHOWN_OF_ALL = 3   # and where all rows of a file are bad, most often for one reason


class BadRows:
    """The bad rows of one file.

    Args:
      path: of the file, for the messages.
      policy: "refuse" or "skip", the value of --bad_rows; None where the command has no such flag,
        which refuses too.
      unit: what a row is called with its number: "line", "row" or "item".

    Attributes:
      count: how many problems were added.
    """

    def __init__(self, path: str, policy: str | None = "refuse", unit: str = "line"):
        self.path, self.policy, self.unit = path, policy, unit
        self.count = 0
        self._first: list[str] = []
        self._hints: list[str] = []

    def add(self, number: int, problem: str, hint: str = "") -> None:
        """Adds a problem of one row; `hint` is advice for the whole file, listed once."""
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append(f"{self.unit} {number}: {problem}")
        if hint and hint not in self._hints:
            self._hints.append(hint)

    def conclude(self, kept: int, dropped: int | None = None, noun: str = "row") -> None:
        """Reports the bad rows once the file is read.

        Args:
          kept: how many examples remain.
          dropped: how many examples went, where these are not rows (sentences).
          noun: what an example is called.

        Raises:
          InputError: there are bad rows and they are not to be skipped, or nothing remains.
        """
        if not self.count:
            return
        if self.policy != "skip" or not kept:
            raise InputError(self._message(kept))
        dropped = self.count if dropped is None else dropped
        logging.warning("%s: dropped %s bad %s%s, %s remain (--bad_rows=skip): %s", self.path,
                        f"{dropped:,}", noun, "s" * (dropped != 1), f"{kept:,}",
                        self._listed(SHOWN))

    def _message(self, kept: int) -> str:
        advice = "; ".join(self._hints) or "fix or delete " + ("it" if self.count == 1 else "them")
        if self.policy is not None and kept:
            advice += ", or pass --bad_rows=skip"
        if self.count == 1:
            return f"{self.path}, {self._listed(SHOWN)}; {advice}"
        what = f"{self.count:,} bad rows" if kept else "all rows are bad"
        listed_rows = self._listed(SHOWN if kept else SHOWN_OF_ALL)
        return f"{self.path}: {what}: {listed_rows}. To continue, {advice}"

    def _listed(self, most: int) -> str:
        first = self._first[:most]
        more = self.count - len(first)
        return "; ".join(first) + (f"; and {more:,} more" if more else "")


def shown(text: str, limit: int = 60) -> str:
    """A text as a message shows it: quoted, on one line, its beginning if it is long."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}..."


def listed(names, separator: str = ", ") -> str:
    """Names in quotes, shortened where there are many."""
    return textwrap.shorten(separator.join(map(repr, names)), 400, placeholder=" ...")
