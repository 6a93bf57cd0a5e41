"""Pairs of segments to rows of ids of which some are masked.

    [CLS] the film [MASK] good [SEP] it was fin [MASK] [SEP]    segments 0 0 0 0 0 0 1 1 1 1 1

Source: `create_masked_lm_predictions` of google-research/bert, create_pretraining_data.py, for many
rows at once. Letters: R rows, T places (max_seq_length), P predictions of a row at most, V pieces
of the vocabulary.
"""
from typing import NamedTuple

import numpy as np

_MASK_SHARE, _KEPT_SHARE = 0.8, 0.1   # the rest is replaced by a piece of the vocabulary


class Pieces(NamedTuple):
    """What is asked of a vocabulary.

    size: V.
    cls, sep, mask: the ids of [CLS], [SEP] and [MASK].
    continues: bool [V], whether a piece continues a word.
    """

    size: int
    cls: int
    sep: int
    mask: int
    continues: np.ndarray


def pieces_of(vocab):
    """Pieces of a dict of token to id."""
    continues = np.zeros(len(vocab), bool)
    continues[[index for token, index in vocab.items() if token.startswith("##")]] = True
    return Pieces(len(vocab), vocab["[CLS]"], vocab["[SEP]"], vocab["[MASK]"], continues)


class Masked(NamedTuple):
    """Places that are to be predicted.

    ids: int32 [R, T], with what stands at those places.
    positions, labels: int [R, P], the places and what stood there; zeros where a row has no more.
    weights: bool [R, P], whether there is a prediction.
    is_mask, is_kept: bool [R, P], whether [MASK] stands there now, or what stood there.
    """

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    is_mask: np.ndarray
    is_kept: np.ndarray


class Laid(NamedTuple):
    """Pairs laid out in rows.

    ids: int32 [R, T], zeros after the last [SEP].
    is_text: bool [R, T], whether a place holds a piece of a text.
    b_place: int64 [R, 1], where segment 1 begins.
    lengths: int64 [R, 1], ids of a row with [CLS] and [SEP].
    """

    ids: np.ndarray
    is_text: np.ndarray
    b_place: np.ndarray
    lengths: np.ndarray


def lay_out(ids, pairs, width, pieces):
    """Rows `[CLS] a [SEP] b [SEP]`.

    Args:
      ids: int32 [pieces] of the documents.
      pairs: pairs.Pairs of at most `width` - 3 pieces.
      width: T.
      pieces: Pieces.

    Returns:
      Laid.
    """
    place, row = np.arange(width), np.arange(len(pairs.a_start))
    b_place = pairs.a_length[:, None] + 2
    lengths = b_place + pairs.b_length[:, None] + 1
    source = np.where(place < b_place, pairs.a_start[:, None] - 1, pairs.b_start[:, None] - b_place)
    source += place                                                      # [R, T]
    rows = ids.take(source, mode="clip")
    is_text = place < lengths
    rows *= is_text
    for special, there in ((pieces.cls, 0), (pieces.sep, b_place[:, 0] - 1),
                           (pieces.sep, lengths[:, 0] - 1)):
        rows[row, there] = special
        is_text[row, there] = False
    return Laid(rows, is_text, b_place, lengths)


def choose(is_text, wanted, most, random):
    """Draws places of text at random.

    Args:
      is_text: bool [R, T].
      wanted: int [R, 1], how many; all, where a row has fewer.
      most: P.
      random: np.random.Generator.

    Returns:
      int [R, P], ascending, T where a row has no more.
    """
    width = is_text.shape[1]
    return _first(_shuffled(is_text, random)[:, :most], np.arange(most) < wanted, width)


def choose_words(is_text, continues, wanted, most, random):
    """Draws whole words at random: a word that would make too many places is passed over.

    Args:
      is_text, wanted, most, random: as for `choose`.
      continues: bool [R, T], whether a piece belongs to the word of the one before.

    Returns:
      As `choose`.
    """
    width, place = is_text.shape[1], np.arange(is_text.shape[1])
    follows = np.pad(is_text, [(0, 0), (1, 0)])[:, :-1]
    begins = is_text & ~(continues & follows)
    word = np.maximum.accumulate(np.where(begins, place, 0), axis=1)     # of a piece: its first's
    number = word + (width + 1) * np.arange(len(word))[:, None]          # in all rows
    sizes = np.bincount(number[is_text], minlength=len(word) * (width + 1))
    chosen = _greedy(_shuffled(begins, random), sizes.reshape(len(word), -1), wanted)
    is_chosen = is_text & np.take_along_axis(chosen, word, axis=1)
    return _first(np.where(is_chosen, place, width), True, width)[:, :most]


def mask(ids, places, pieces, random):
    """Puts [MASK], or any piece, or what stood there, where a prediction is asked for: 80/10/10.

    Args:
      ids: int32 [R, T], beginning with [CLS].
      places: int [R, P], as `choose` gives them.
      pieces: Pieces.
      random: np.random.Generator.

    Returns:
      Masked.
    """
    weights = places < ids.shape[1]
    positions = np.where(weights, places, 0)
    labels = np.take_along_axis(ids, positions, axis=1)                  # [R, P]
    drawn, other = random.random(labels.shape), random.integers(0, pieces.size, labels.shape)
    is_mask, is_kept = weights & (drawn < _MASK_SHARE), ~weights | (drawn >= 1 - _KEPT_SHARE)
    masked = ids.copy()
    np.put_along_axis(masked, positions, np.where(
        is_mask, pieces.mask, np.where(is_kept, labels, other)), axis=1)
    return Masked(masked, positions, np.where(weights, labels, 0), weights, is_mask,
                  is_kept & weights)


def _greedy(order, sizes, wanted):
    """Which words are taken, bool [R, T + 1]: one after the other while they fit."""
    row, left = np.arange(len(order)), wanted[:, 0].copy()
    chosen = np.zeros(sizes.shape, bool)
    for word in order.T:
        fits = (sizes[row, word] <= left) & (word < sizes.shape[1] - 1)
        chosen[row, word] = fits
        left -= sizes[row, word] * fits
        if not left.any():
            break
    return chosen


def _shuffled(is_wanted, random):
    """The places of a row that are wanted, in random order, then T: int [R, T].

    Numbers of a random upper and the place as lower part are sorted, of 32 bits, which is fast. So
    two upper parts are the same once in some thousand rows, and then the order is of the places.
    """
    rows, width = is_wanted.shape
    bits = int(width).bit_length()
    drawn = random.integers(0, 1 << 64, (is_wanted.size + 1) // 2, np.uint64).view(np.uint32)
    keys = drawn[:is_wanted.size].reshape(rows, width) >> bits << bits | np.arange(
        width, dtype=np.uint32)
    keys = np.sort(np.where(is_wanted, keys, np.uint32(0xFFFFFFFF)), axis=1)
    return np.minimum(keys & np.uint32((1 << bits) - 1), width).astype(np.int64)


def _first(places, is_valid, width):
    """The valid ones of each row ascending, then `width`."""
    return np.sort(np.where(is_valid, places, width), axis=1)
