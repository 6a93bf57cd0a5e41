"""A warning when unusually many word pieces are [UNK]: a wrong vocabulary or casing."""
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging

UNKNOWN = "[UNK]"
# Of texts that fit the vocabulary, tweets included, at most 0.2 % of the pieces are [UNK]; of
# English texts with capitals and a lower-case vocabulary 13 % and more.
UNUSUAL = 0.05
_SAMPLE = 1000   # examples, which take some 50 ms


def warn_of_unknown_words(tokenizer: Any, examples: Sequence[Any], source: str) -> None:
    """Logs one warning if more than 5 % of the word pieces of examples are [UNK].

    At most 1,000 examples are looked at, evenly spaced.

    Args:
      tokenizer: tokenization.FullTokenizer.
      examples: texts, or examples of a task (kinds.Example, Sentence, SquadExample).
      source: what the warning calls them.
    """
    step = max(1, len(examples) // _SAMPLE)
    texts = list(itertools.chain.from_iterable(map(_texts, examples[::step])))
    ids, _ = tokenizer.encode_ragged(texts)
    warn_of_share(int(np.sum(ids == tokenizer.vocab[UNKNOWN])), len(ids), source)


def warn_of_share(unknown: int, pieces: int, source: str) -> None:
    """Logs one warning if `unknown` is more than 5 % of `pieces`."""
    if unknown > UNUSUAL * pieces:
        logging.warning(
            "%s: %.0f %% of the word pieces are %s, so the model cannot see these words; does the "
            "vocabulary fit the language, and --do_lower_case the base?", source,
            100 * unknown / pieces, UNKNOWN)


def _texts(example: Any) -> Iterable[str]:
    """The texts of an example of any kind."""
    if isinstance(example, str):
        return [example]
    fields = [getattr(example, name, None) for name in ("text_a", "text_b", "question", "context")]
    return [*filter(None, fields), *getattr(example, "words", ())]
