"""Texts in files of their own, in a folder for each label, as 20 newsgroups comes.

    20news-bydate-train/rec.autos/101551     the folders of labels, or folders that hold these

A file begins with header lines up to the first blank one. Those that name the group go, as they did
from the version that is sorted by date; the others stay, since the paper says nothing of them.
"""
import os
import re

from adapter_bert.errors import InputError

_NAMES_THE_GROUP = re.compile(r"(?:newsgroups|xref|path|followup-to):", re.IGNORECASE)


def rows(folder):
    """(number from 1, [label, text]) of each file, in the order of the sorted paths.

    Args:
      folder: path of a folder; files that lie in it itself, hidden files (as `._101551` and
        `.DS_Store`) and hidden folders (as `.git`) are skipped.

    Raises:
      InputError: a file cannot be read.
    """
    for number, path in enumerate(sorted(_files(folder)), 1):
        yield number, [os.path.basename(os.path.dirname(path)), _text(path)]


def _files(folder):
    for below, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        if os.path.abspath(below) != os.path.abspath(folder):
            yield from (os.path.join(below, name) for name in names if not name.startswith("."))


def _text(path):
    """The text of a file in Latin-1 without the header lines that name its group."""
    try:
        with open(path, encoding="latin-1") as file:
            head, blank, body = file.read().partition("\n\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    kept = [line for line in head.split("\n") if not _NAMES_THE_GROUP.match(line)]
    return "\n".join(kept) + blank + body
