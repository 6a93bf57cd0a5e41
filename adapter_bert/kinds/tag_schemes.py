"""The scheme of tags such as `B-PER`: which letters begin, continue and end an entity.

    IOB       B first, I inside, O outside; in IOB1 an entity begins with I unless it follows
              another one of its type, in IOB2 always with B
    IOBES     E last, S the only word (also BIOES)        BILOU     L last, U the only word
    BMES      M inside, E last, S the only word           BMEWO     M inside, E last, W the only
    IOE       I inside, E last

A scheme needs types (`B-PER`, or `B_PER` throughout), or the bare letters of a whole scheme, as in
word segmentation (B, M, E, S) and in chunks of one type (B, I, O). Other tags are plain, as parts
of speech: each word is an entity of its own.
"""
import collections
import itertools
import re
from collections.abc import Iterable, Sequence

OUTSIDE = "O"   # the tag of a word that belongs to no entity

# The letters of each scheme, and which of IOBES a letter means.
_SCHEMES = {"IOB": "BI", "IOE": "IE", "IOBE": "BIE", "IOBES": "BIES", "BILOU": "BILU",
            "BMES": "BMES", "BMEWO": "BMEW"}
_MEANS = {"M": "I", "L": "E", "U": "S", "W": "S"}
_TYPED = re.compile(r"([BIESLUMW])([-_])(.+)", re.DOTALL)
_MISTYPED = re.compile(r"[BIESLUMW][-_ :/].+|0|o", re.DOTALL | re.IGNORECASE)


def scheme_of(labels: Iterable[str]) -> str | None:
    """The name of the scheme that a whole set of tags has; None where the tags are plain."""
    tags = set(labels) - {OUTSIDE}
    typed = [match for match in map(_TYPED.fullmatch, tags) if match]
    if typed and len(typed) == len(tags):
        if len({match[2] for match in typed}) > 1:
            return None
        return _fitting({match[1] for match in typed})
    if tags in ({"B", "I"}, {"I"}) or tags in [set(letters) for name, letters in _SCHEMES.items()
                                               if len(letters) == 4]:
        return _fitting(tags)
    return None


def _fitting(letters):
    """The first scheme that has all of these letters; None where they belong to several."""
    return next((name for name, own in _SCHEMES.items() if letters <= set(own)), None)


def iobes(labels: Iterable[str]) -> dict[str, str]:
    """{tag: the tag of IOBES that it means}, as seqeval reads it; of plain tags `B-tag`."""
    labels = [*labels]
    if scheme_of(labels) is None:
        return {**{label: f"B-{label}" for label in labels}, OUTSIDE: OUTSIDE}
    means = {label: _MEANS.get(label[0], label[0]) + label[1:].replace("_", "-", 1)
             for label in labels}
    return {**means, OUTSIDE: OUTSIDE}


def odd_tags(counts: collections.Counter) -> dict[str, str]:
    """{tag: what is wrong with it} of tags that are a scheme but for a few.

    A tag that fits no scheme makes entities fall apart unnoticed, so it is reported where the tags
    are meant as a scheme: most of the different ones, or nine of ten words that have one, begin
    with the letters of a scheme, and these are two or more. Tags of which most look like a scheme
    in lower case (`b-per`) are all wrong.

    Args:
      counts: {tag: words}.
    """
    tags = [tag for tag in counts if tag != OUTSIDE]
    if scheme_of(tags) is not None:
        return {}
    typed = {tag: match for tag in tags if (match := _TYPED.fullmatch(tag))}
    is_most = 2 * len(typed) > len(tags) or 10 * sum(counts[tag] for tag in typed) > 9 * sum(
        counts[tag] for tag in tags)
    if is_most and len({match[1] for match in typed.values()}) > 1:
        return _unlike(tags, typed)
    lower = [tag for tag in tags if tag not in typed and _TYPED.fullmatch(tag[:1].upper() + tag[1:])
             and tag[0] in "bi"]
    if 2 * len(lower) > len(tags) and {tag[0] for tag in lower} == {"b", "i"}:
        return {tag: f"tag {tag!r} is in lower case; is it {_corrected(tag)!r}?" for tag in lower}
    return {}


def _unlike(tags, typed):
    """{tag: problem} of those that do not fit the scheme that most typed ones have."""
    separators = collections.Counter(match[2] for match in typed.values())
    separator = separators.most_common(1)[0][0]
    letters = collections.Counter(match[1] for match in typed.values() if match[2] == separator)
    best = max(_SCHEMES, key=lambda name: sum(letters[letter] for letter in _SCHEMES[name]))
    example = min(tag for tag, match in typed.items() if match[2] == separator)
    odd = [tag for tag in tags if tag not in typed or typed[tag][1] not in _SCHEMES[best]
           or typed[tag][2] != separator]
    return {tag: f"tag {tag!r} does not fit the other tags ({best}, as {example!r})"
            + (f"; is it {_corrected(tag, separator)!r}?" if _MISTYPED.fullmatch(tag) else "")
            for tag in odd}


def _corrected(tag, separator="-"):
    """What a mistyped tag probably stands for."""
    if tag in ("0", "o"):
        return OUTSIDE
    return f"{tag[0].upper()}{separator}{tag[2:].upper()}"


def describe(labels: Sequence[str], sentences: Sequence) -> str:
    """The scheme of a task's tags in a few words, for the log.

    Args:
      labels: all tags.
      sentences: of train, with their tags: they show whether IOB is IOB1 or IOB2.
    """
    name = scheme_of(labels)
    if name is None:
        return "plain, each word scored by itself"
    if name != "IOB":
        return f"scheme {name}"
    first = collections.Counter(
        tag[0] for sentence in sentences for before, tag in itertools.pairwise(
            [OUTSIDE, *(sentence.tags or ())])
        if tag != OUTSIDE and (before == OUTSIDE or tag[1:] != before[1:]))
    if not first["I"]:
        return "scheme IOB2"
    return "scheme IOB, B- and I- mixed" if first["B"] else "scheme IOB1"
