"""Labels that differ only in white space or in their Unicode form are the same label."""
import unicodedata
from collections.abc import Iterable

from absl import logging

from adapter_bert.data.bad_rows import listed, shown

MOST_SHOWN = 20


def normalized(label: str) -> str:
    """A label without white space around it, single spaces inside, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", " ".join(label.split()))


class LabelNames:
    """Normalises the labels of one file and counts those that changed.

    Args:
      known: the labels of the task, or None where those of the file are yet to be collected. A
        label counts as known where it is equal after normalisation, and then has the known form.
    """

    def __init__(self, known: Iterable[str] | None = None):
        self._known = None if known is None else {
            **{normalized(label): label for label in known}, **{label: label for label in known}}
        self._names: dict[str, str] = {}
        self.changed = 0

    def __call__(self, cell: str) -> str:
        """The label of a cell.

        Raises:
          ValueError: the cell has no label, or one that is not known; with what was expected.
        """
        name = self._names.get(cell)
        if name is None:
            name = self._names[cell] = self._named(cell)
        if name != cell:
            self.changed += 1
        return name

    def _named(self, cell):
        if self._known is not None and cell in self._known:
            return self._known[cell]
        name = normalized(cell)
        if self._known is None:
            if not name or any(character in cell.strip() for character in "\t\r\n"):
                raise ValueError(f"found label {shown(cell)}, expected a name without TAB or "
                                 "line break")
            return name
        if name not in self._known:
            expected = listed(dict.fromkeys(self._known.values()), " or ")
            raise ValueError(f"found label {shown(cell)}, expected {expected}")
        return self._known[name]

    def has_read(self, name: str) -> bool:
        """Whether a label, normalised, was among those read so far."""
        return name in self._names.values()

    def log(self, path: str) -> None:
        """Says once how many labels were changed."""
        if self.changed:
            logging.info("%s: removed extra white space from, or normalised (Unicode NFC), %s",
                         path, counted(self.changed, "label"))


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 label", "1,203 labels"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counts_line(counts) -> str:
    """Labels with their counts in one line, the most frequent of many: "good 1,203, bad 90"."""
    shown = sorted(counts, key=lambda label: -counts[label])[:MOST_SHOWN]
    listed = ", ".join(f"{label[:60]} {counts[label]:,}" for label in (
        shown if len(counts) > MOST_SHOWN else counts))
    more = len(counts) - MOST_SHOWN
    return listed + (f", and {more:,} more labels" if more > 0 else "")


def look_alikes(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of labels that differ in upper and lower case only."""
    first: dict[str, str] = {}
    return [(first[label.casefold()], label) for label in labels
            if first.setdefault(label.casefold(), label) != label]
