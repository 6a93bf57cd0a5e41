"""Whether texts and a vocabulary agree on upper and lower case."""
import os
import re
from collections.abc import Iterable
from typing import Any

from adapter_bert import files, paths
from adapter_bert.errors import InputError

_SPECIAL = re.compile(r"\[.*\]|<.*>")   # [UNK]; Google's Chinese vocabulary has <S> and <T>


def check_casing(do_lower_case: bool, vocab_file: str, vocabulary: Iterable[str]) -> None:
    """Refuses a casing that the base contradicts.

    Texts with capitals become mostly [UNK] if they are not lower-cased for a lower-case vocabulary.

    Args:
      do_lower_case: whether texts are lower-cased.
      vocab_file: path of the vocabulary.
      vocabulary: its tokens.

    Raises:
      InputError: tokenizer_config.json beside `vocab_file` says otherwise; or it is not there, no
        token has a capital letter, and texts keep theirs.
    """
    recorded = recorded_casing(vocab_file)
    if recorded not in (None, do_lower_case):
        raise InputError(f"--do_lower_case={do_lower_case}, but tokenizer_config.json beside "
                         f"{vocab_file} says {recorded}; give "
                         f"--do_lower_case={str(recorded).lower()}")
    if recorded is None and not do_lower_case and is_lower_case(vocabulary):
        raise InputError(f"--do_lower_case=False, but no token of {vocab_file} has a capital "
                         "letter, so that words with one become [UNK]; give --do_lower_case=true")


def recorded_casing(vocab_file: str) -> Any:
    """do_lower_case of the tokenizer_config.json beside a vocabulary; None if it is not there.

    Raises:
      InputError: the file is not a JSON object.
    """
    path = os.path.join(os.path.dirname(vocab_file), "tokenizer_config.json")
    return files.read_object(path).get("do_lower_case") if paths.exists(path) else None


def is_lower_case(vocabulary: Iterable[str]) -> bool:
    """Whether tokens have small letters and none has a capital; special tokens do not count."""
    letters = "".join(token for token in vocabulary if not _SPECIAL.fullmatch(token))
    return any(map(str.islower, letters)) and not any(map(str.isupper, letters))
