"""Documents to records for pre-training, under the names that BERT reads.

Letters: R rows, T places (max_seq_length), P predictions of a row at most.
"""
import numpy as np

from adapter_bert.data.example_codec import Feature, Rows
from adapter_bert.data.pretraining import masking, pairs

_PLACES_AT_ONCE = 1 << 17   # of rows that are made together, so that they stay in a core's cache


def feature_spec(max_seq_length, max_predictions_per_seq):
    """The features of a record; their names and lengths are BERT's."""
    return (*(Feature(name, np.int64, False, max_seq_length)
              for name in ("input_ids", "input_mask", "segment_ids")),
            *(Feature(name, np.int64, False, max_predictions_per_seq)
              for name in ("masked_lm_positions", "masked_lm_ids")),
            Feature("masked_lm_weights", np.float32, False, max_predictions_per_seq),
            Feature("next_sentence_labels", np.int64, False, 1))


def make(documents, settings, pieces, random):
    """Instances of documents, in random order.

    Args:
      documents: pairs.Documents.
      settings: PretrainingSettings.
      pieces: masking.Pieces.
      random: np.random.Generator.

    Yields:
      example_codec.Rows of some instances, and their counts, a dict of int and of int arrays.
    """
    limit = settings.max_seq_length - 3   # [CLS], [SEP] and [SEP]
    packed = pairs.pack(documents, limit, settings.short_seq_prob, random)
    packed = pairs.truncate(packed, limit, random)
    order = random.permutation(len(packed.a_start))
    rows = max(1, _PLACES_AT_ONCE // settings.max_seq_length)
    for start in range(0, len(order), rows):
        some = packed.rows(order[start:start + rows])
        yield _rows(documents.pieces, some, settings, pieces, random)


def _rows(ids, packed, settings, pieces, random):
    """Rows of pairs of segments, and their counts."""
    laid = masking.lay_out(ids, packed, settings.max_seq_length, pieces)
    masked = masking.mask(laid.ids, _places(laid, settings, pieces, random), pieces, random)
    place = np.arange(settings.max_seq_length)
    is_there = place < laid.lengths
    columns = {
        "input_ids": masked.ids, "input_mask": is_there,
        "segment_ids": is_there & (place >= laid.b_place),
        "masked_lm_positions": masked.positions, "masked_lm_ids": masked.labels,
        "masked_lm_weights": masked.weights, "next_sentence_labels": packed.is_random_next}
    lengths = laid.lengths[:, 0]
    return Rows(lengths, columns), {
        "instances": len(lengths), "random_next": int(packed.is_random_next.sum()),
        "predictions": int(masked.weights.sum()), "masked": int(masked.is_mask.sum()),
        "kept": int(masked.is_kept.sum()),
        "lengths": np.bincount(lengths, minlength=settings.max_seq_length + 1)}


def _places(laid, settings, pieces, random):
    """The places that are to be predicted, as `masking.choose` gives them."""
    most = settings.max_predictions_per_seq
    wanted = np.rint(laid.lengths * settings.masked_lm_prob).astype(np.int64)
    wanted = np.clip(wanted, 1, most)                                     # [R, 1]
    if settings.do_whole_word_mask:
        continues = pieces.continues[laid.ids]
        return masking.choose_words(laid.is_text, continues, wanted, most, random)
    return masking.choose(laid.is_text, wanted, most, random)
