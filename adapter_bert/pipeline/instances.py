"""Pairs of segments as records for pre-training, under the names that BERT reads.

Letters: R rows, T places (max_seq_length), P predictions of a row at most.
"""
from typing import NamedTuple

import numpy as np

from adapter_bert.pipeline import masking, pairs
from adapter_bert.pipeline.messages import Feature, Rows

_PLACES_AT_ONCE = 1 << 18   # of rows that are made together, so that they stay in a core's cache


class Form(NamedTuple):
    """What instances are like, as the flags of those names say."""

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float
    short_seq_prob: float
    do_whole_word_mask: bool


def feature_spec(form):
    """The features of a record; their names and lengths are BERT's."""
    places, predictions = form.max_seq_length, form.max_predictions_per_seq
    return (*(Feature(name, np.int64, False, places)
              for name in ("input_ids", "input_mask", "segment_ids")),
            *(Feature(name, np.int64, False, predictions)
              for name in ("masked_lm_positions", "masked_lm_ids")),
            Feature("masked_lm_weights", np.float32, False, predictions),
            Feature("next_sentence_labels", np.int64, False, 1))


def make(documents, form, pieces, random):
    """Instances of documents, in random order.

    Args:
      documents: pairs.Documents.
      form: Form.
      pieces: masking.Pieces.
      random: np.random.Generator.

    Yields:
      messages.Rows of some instances, and their counts, a dict of int and of int arrays.
    """
    limit = form.max_seq_length - 3   # [CLS], [SEP] and [SEP]
    packed = pairs.truncate(pairs.pack(documents, limit, form.short_seq_prob, random), limit, random)
    order = random.permutation(len(packed.a_start))
    rows = max(1, _PLACES_AT_ONCE // form.max_seq_length)
    for start in range(0, len(order), rows):
        yield _rows(documents.pieces, packed.rows(order[start:start + rows]), form, pieces, random)


def _rows(ids, packed, form, pieces, random):
    laid = masking.lay_out(ids, packed, form.max_seq_length, pieces)
    wanted = np.rint(laid.lengths * form.masked_lm_prob).astype(np.int64)
    wanted = np.clip(wanted, 1, form.max_predictions_per_seq)            # [R, 1]
    if form.do_whole_word_mask:
        places = masking.choose_words(laid.is_text, pieces.continues[laid.ids], wanted,
                                      form.max_predictions_per_seq, random)
    else:
        places = masking.choose(laid.is_text, wanted, form.max_predictions_per_seq, random)
    masked, place = masking.mask(laid.ids, places, pieces, random), np.arange(form.max_seq_length)
    is_there = place < laid.lengths
    lengths = laid.lengths[:, 0]
    return Rows(lengths, {
        "input_ids": masked.ids, "input_mask": is_there,
        "segment_ids": is_there & (place >= laid.b_place),
        "masked_lm_positions": masked.positions, "masked_lm_ids": masked.labels,
        "masked_lm_weights": masked.weights, "next_sentence_labels": packed.is_random_next,
    }), _counts(lengths, masked, packed.is_random_next, form.max_seq_length)


def _counts(lengths, masked, is_random_next, max_seq_length):
    """What the statistics are made of."""
    return {"instances": len(lengths), "random_next": int(is_random_next.sum()),
            "predictions": int(masked.weights.sum()), "masked": int(masked.is_mask.sum()),
            "kept": int(masked.is_kept.sum()),
            "lengths": np.bincount(lengths, minlength=max_seq_length + 1)}
