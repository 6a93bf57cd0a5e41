"""A tag of each word of texts, in the graph: a row of `savedmodel_single.KINDS`.

Letters: B batch, T tokens, C classes, W words of a text.
"""
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from adapter_bert.export import graph_tokenizer
from adapter_bert.export.graph_labels import of_each
from adapter_bert.kinds.heads import best_classes


class Asked(NamedTuple):
    """The words of texts.

    words: string RaggedTensor [B, W], as they stand there.
    spans: int64 RaggedTensor [B, W, 2], where.
    places: int64 RaggedTensor [B, W], the place of each word's first piece in its row; 0 for none.
    """

    words: tf.RaggedTensor
    spans: tf.RaggedTensor
    places: tf.RaggedTensor


def features(manifest, tokenizer, text_a, text_b, is_pair):
    """Rows `[CLS] words [SEP]`, as those of kinds.words: each word is cut by itself.

    Args:
      manifest: manifest.Manifest.
      tokenizer: graph_tokenizer.GraphTokenizer.
      text_a: string [B].
      text_b, is_pair: of no account.

    Returns:
      {"input_ids", "input_mask", "segment_ids"} int32 [B, T], and Asked.
    """
    del text_b, is_pair
    codes = graph_tokenizer.code_points(text_a)
    spans = tokenizer.words(codes)  # [B, W, 2]
    words = graph_tokenizer.parts(
        codes, spans.value_rowids(), spans.values
    )  # [all words, characters]
    pieces = tokenizer.ids(graph_tokenizer.of_parts(words))  # [all words, pieces]
    ids = spans.with_values(pieces).merge_dims(1, 2)                   # [B, pieces]
    most = tf.constant(manifest.max_seq_length, tf.int64)
    length = tf.minimum(ids.row_lengths() + 2, most)[:, None]
    columns = graph_tokenizer.laid_out(
        ids.values, ids.row_starts(), ids.row_starts(), length, length, tokenizer.cls, tokenizer.sep
    )
    places = 1 + pieces.row_starts() - tf.gather(ids.row_starts(), spans.value_rowids())
    is_there = (places < most - 1) & (pieces.row_lengths() > 0)
    return columns, Asked(spans.with_values(graph_tokenizer.encoded(words)), spans,
                          spans.with_values(tf.where_v2(is_there, places, 0)))


def outputs(manifest, predictions):
    """What is said of rows.

    Args:
      manifest: manifest.Manifest.
      predictions: {"logits": float32 [B, T, C]}.

    Returns:
      {"probabilities": float32 [B, T, C], "labels": string [B, C]}.
    """
    logits = predictions["logits"]
    return {"probabilities": tf.nn.softmax(logits),
            "labels": of_each(tf.constant(manifest.labels), tf.shape(logits)[0])}


def answers(manifest, asked, predictions):
    """What is said of texts.

    Args:
      manifest: manifest.Manifest.
      asked: Asked.
      predictions: {"logits": float32 [B, T, C]}.

    Returns:
      {"words": string, "label": string, "start": int64, "end": int64, "probability": float32}, each
      [B, W]. A word beyond max_seq_length has the label "" and the probability 0; behind a text's
      last one words and labels are "", starts and ends -1.
    """
    places = asked.places.to_tensor()
    of_tokens = best_classes(predictions["logits"])
    label_ids, probabilities = (tf.gather(of_tokens[name], places, batch_dims=1)
                                for name in ("label_ids", "probabilities"))
    spans = asked.spans.to_tensor(-1, shape=[None, None, 2])
    return {"words": asked.words.to_tensor(""), "start": spans[:, :, 0], "end": spans[:, :, 1],
            "label": tf.where_v2(places > 0, tf.gather(manifest.labels, label_ids), ""),
            "probability": tf.where_v2(places > 0, probabilities, 0.0)}
