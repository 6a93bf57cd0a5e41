"""A class or a number of each text, from the pooled output.

Letters: B batch, C classes.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.kinds.heads.output import HEAD_DROPOUT, Output, of_text, once


def classification(bert, features, width, dropout):
    """Softmax over the classes, cross-entropy.

    Args:
      bert: modeling.BertModel.
      features: {name: tensor}, with `label_ids` int [B] or without.
      width: C.
      dropout: function (x, rate) -> x.

    Returns:
      Output with `logits` and `probabilities` float32 [B, C].
    """
    logits = of_text(dropout(bert.get_pooled_output(), HEAD_DROPOUT), width)   # [B, C]
    predictions = {"logits": logits, "probabilities": tf.nn.softmax(logits)}
    if "label_ids" not in features:
        return Output(predictions, {})
    return Output(predictions, once(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=features["label_ids"], logits=logits)))


def regression(bert, features, width, dropout):
    """One number, squared error.

    Args:
      bert, features, width, dropout: as of `classification`; width is 1, label_ids float [B].

    Returns:
      Output with `scores` float32 [B].
    """
    scores = of_text(dropout(bert.get_pooled_output(), HEAD_DROPOUT), width)[:, 0]   # [B]
    if "label_ids" not in features:
        return Output({"scores": scores}, {})
    return Output({"scores": scores}, once(tf.square(scores - features["label_ids"])))
