"""An argparse parser whose mistakes are one line, with the nearest known flag."""
import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from adapter_bert.errors import InputError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviated flags that raises InputError instead of exiting.

    Args:
      fill: function (Parser) that adds the flags when this parser is used for the first time, so
        that other commands do not wait for the modules that it imports.
      is_intermixed: whether positional arguments may stand between flags, as in PACK --flag FILE.
      *args, **options: of argparse.ArgumentParser.

    Attributes:
      booleans: names of the flags that are written --name, --noname or --name=false.
    """

    def __init__(self, *args: Any, fill: Callable[["Parser"], None] | None = None,
                 is_intermixed: bool = False, **options: Any):
        super().__init__(*args, **{"allow_abbrev": False, **options})
        self._fill, self._is_intermixed = fill, is_intermixed
        self.booleans: set[str] = set()

    def error(self, message: str) -> NoReturn:
        """Raises InputError where argparse would print its usage."""
        raise InputError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; InputError for a flag that this parser does not have."""
        if self._fill:
            fill, self._fill = self._fill, None
            fill(self)
        words = self._with_values(sys.argv[1:] if args is None else args)
        if self._is_intermixed:
            self._is_intermixed = False   # it calls this method
            return self.parse_known_intermixed_args(words, namespace)
        found, others = super().parse_known_args(words, namespace)
        if unknown := next((word for word in others if is_flag(word)), None):
            self.error(unknown_flag(unknown, self._option_string_actions))
        return found, others

    def _with_values(self, words: Sequence[str]) -> list[str]:
        """The words with --name as --name=true and --noname as --name=false, for booleans."""
        values = {f"--{name}": f"--{name}=true" for name in self.booleans} | {
            f"--no{name}": f"--{name}=false" for name in self.booleans}
        return [values.get(word, word) for word in words]


def is_flag(word: str) -> bool:
    """Whether a word of the command line is a flag, not a value such as "-" or "-0.5"."""
    return len(word) > 2 and word.startswith("--") or (
        word.startswith("-") and word[1:2].isidentifier())


def unknown_flag(word: str, known: Iterable[str]) -> str:
    """The message for an unknown flag.

    Args:
      word: the flag as it was typed, with or without a value.
      known: flags of the command, such as "--bert_dir".
    """
    name = word.partition("=")[0]
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"unknown flag {name}" + (f"; did you mean {near[0]}?" if near else "")
