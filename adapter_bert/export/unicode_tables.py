"""What BERT's tokenization makes of every character, as tables that a graph can look up.

Everything is measured with `tokenization` itself and with this Python's `str.lower` and
`unicodedata`, so that the graph follows the Python that exported it.
"""
import functools
import itertools
import unicodedata
from typing import NamedTuple

import numpy as np

from adapter_bert.bert import tokenization

CODE_POINTS = 0x110000
SIGMA, FINAL_SIGMA = 0x3A3, CODE_POINTS   # the latter: a capital sigma that ends its word
ITSELF = -1   # in a replacement: the character that is replaced
SPACE, NOTHING = ord(" "), 0   # NOTHING: dropped in the end, and marks are not ordered across it
OTHER, CASED, SKIPPED = range(3)   # what a capital sigma sees in its neighbours
PAGE = 256
_UNASSIGNED = ("Cn", "Co", "Cs")   # most of all code points; they have no case and no parts
_STAND_INS = dict(zip(
    map(chr, [*range(0xFDD0, 0xFDF0), *(plane + end for plane in range(0, CODE_POINTS, 1 << 16)
                                        for end in (0xFFFE, 0xFFFF))]),
    (one for one in map(chr, range(CODE_POINTS)) if unicodedata.category(one) == "Cf"),
    strict=False))


class Pages(NamedTuple):
    """A number for each code, in pages of which equal ones are kept once.

    Of code c: numbers[PAGE * page_of[c // PAGE] + c % PAGE].

    page_of: int32 [pages of codes].
    numbers: int32 [PAGE * different pages].
    """

    page_of: np.ndarray
    numbers: np.ndarray


class Characters(NamedTuple):
    """The tables of one casing.

    replacement_of: Pages, for each code point and for FINAL_SIGMA a row of the replacements.
    splits: int32 [rows + 1], where each replacement begins in `replacements`, and the end of all.
    replacements: int32, code points of one replacement after the other, and ITSELF, SPACE, NOTHING.
    neighbour: Pages, OTHER, CASED or SKIPPED for each code point; None where case stays.
    ordered: int32, code points that canonical ordering moves and that are not dropped.
    classes: int32, their combining classes.
    """

    replacement_of: Pages
    splits: np.ndarray
    replacements: np.ndarray
    neighbour: Pages | None
    ordered: np.ndarray
    classes: np.ndarray


def standing_in(token):
    """A token with the characters that `tf.strings.unicode_encode` cannot write replaced.

    Those are the 66 of Unicode that are never to be one ("noncharacters"); Python's tokenization
    takes them for letters. In the tables and in a vocabulary format characters stand for them,
    which no other text yields, since they are dropped. None for a token that no text yields.
    """
    is_met = token.split() == [token] and token != "##" and all(map(tokenization.cleaned, token))
    return "".join(_STAND_INS.get(one, one) for one in token) if is_met else None


@functools.lru_cache
def characters(do_lower_case):
    """The Characters of `tokenization.BasicTokenizer(do_lower_case)`."""
    replace = _lowered if do_lower_case else _cased
    numbers: dict[tuple[int, ...], int] = {}
    rows = [numbers.setdefault(replace(chr(code)), len(numbers)) for code in range(CODE_POINTS)]
    rows.append(numbers.setdefault((ord("ς"),), len(numbers)))
    ordered = [code for code in range(CODE_POINTS) if do_lower_case and _is_ordered(chr(code))]
    return Characters(
        _pages(rows), np.cumsum([0, *map(len, numbers)], dtype=np.int32),
        np.fromiter(itertools.chain.from_iterable(numbers), np.int32),
        _pages([_neighbour(chr(code)) for code in range(CODE_POINTS)]) if do_lower_case else None,
        np.array(ordered, np.int32),
        np.array([unicodedata.combining(chr(code)) for code in ordered], np.int32))


@functools.lru_cache
def marks():
    """The code points of nonspacing marks in order, int32."""
    return np.array([code for code in range(CODE_POINTS)
                     if unicodedata.category(chr(code)) == "Mn"], np.int32)


def _cased(character):
    """What stands for a character where case and accents stay."""
    return _codes(_apart(tokenization.cleaned(character)), character)


def _lowered(character):
    """What stands for a character in lower case, decomposed, without the marks that are dropped.

    A mark without a combining class is dropped too, but after the others were put in order.
    """
    if unicodedata.category(character) in _UNASSIGNED:
        return _cased(character)
    lower = tokenization.cleaned(character).lower()
    kept = "".join(map(tokenization.without_ordered_mark, lower))
    marks = "".join(map(_without_mark, unicodedata.normalize("NFD", kept)))
    return _codes(_apart(marks), character)


def _without_mark(character):
    if unicodedata.category(character) != "Mn":
        return character
    return "" if unicodedata.combining(character) else chr(NOTHING)


def _apart(text):
    return "".join(map(tokenization.punctuation_apart, text))


def _codes(text, character):
    if text == character and not (text in _STAND_INS or text.isspace()):
        return (ITSELF,)
    text = "".join(" " if one.isspace() else _STAND_INS.get(one, one) for one in text)
    return tuple(ITSELF if one == character and one != " " else ord(one) for one in text)


def _neighbour(character):
    """What `str.lower` takes a character for when it stands between a letter and a capital sigma.

    A cased one makes the sigma final, one that is skipped leaves it to the letter.
    """
    if unicodedata.category(character) in _UNASSIGNED:
        return OTHER
    cleaned = tokenization.cleaned(character)
    if f"1{cleaned}Σ".lower().endswith("ς"):
        return CASED
    return SKIPPED if f"a{cleaned}Σ".lower().endswith("ς") else OTHER


def _is_ordered(character):
    return unicodedata.combining(character) and unicodedata.category(character) != "Mn"


def _pages(values):
    """Pages of a list with a number for each code."""
    padded = np.zeros(-(-len(values) // PAGE) * PAGE, np.int32)
    padded[:len(values)] = values
    pages, page_of = np.unique(padded.reshape([-1, PAGE]), axis=0, return_inverse=True)
    return Pages(page_of.reshape(-1).astype(np.int32), pages.reshape(-1))
