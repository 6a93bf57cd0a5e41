"""A label or a number of each text, in the graph: rows of `savedmodel_single.KINDS`.

Letters: B batch, T tokens, C classes.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.export import graph_tokenizer


def features(manifest, tokenizer, text_a, text_b, is_pair):
    """Rows of texts and of pairs, see graph_tokenizer.features; a text is one row."""
    return graph_tokenizer.features(
        tokenizer, text_a, text_b, is_pair, manifest.max_seq_length
    ), None


def labels(manifest, predictions):
    """What a classification says of rows.

    Args:
      manifest: manifest.Manifest.
      predictions: {"probabilities": float32 [B, C]}.

    Returns:
      {"label": string [B], "probabilities": float32 [B, C], "labels": string [B, C]}, labels in the
      order of the probabilities.
    """
    names, probabilities = tf.constant(manifest.labels), predictions["probabilities"]
    return {"label": tf.gather(names, tf.argmax(probabilities, axis=1)),
            "probabilities": probabilities,
            "labels": of_each(names, tf.shape(probabilities)[0])}


def scores(manifest, predictions):
    """{"score": float32 [B]} of a regression, from `scores`."""
    del manifest
    return {"score": predictions["scores"]}


def of_each(names, count):
    """Names, string [C], once for each row: string [B, C]."""
    return tf.tile(names[None], [count, 1])
