"""A class of each word: token classification, as of named entities (Devlin et al. 2019, 5.3).

Letters: B batch, T tokens, C classes.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.heads.output import HEAD_DROPOUT, Loss, Output, of_tokens


def tokens(bert, features, width, dropout):
    """Softmax over the classes at the first piece of each word, cross-entropy over all words.

    Args:
      bert: modeling.BertModel.
      features: {name: tensor}; `word_starts` int [B, T] is 1 at the first piece of a word and 0
        elsewhere; with `label_ids` int [B, T], read there, or without.
      width: C.
      dropout: function (x, rate) -> x.

    Returns:
      Output with `label_ids` and `word_starts` int32 [B, T], and `probabilities` float32
      [B, T, C].
    """
    logits = of_tokens(dropout(bert.get_sequence_output(), HEAD_DROPOUT), width)  # [B, T, C]
    predictions = {"label_ids": tf.argmax(logits, axis=-1, output_type=tf.int32),
                   "probabilities": tf.nn.softmax(logits),
                   "word_starts": features["word_starts"]}
    if "label_ids" not in features:
        return Output(predictions, {})
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=features["label_ids"], logits=logits)                   # [B, T]
    is_scored = tf.cast(features["word_starts"], tf.float32)
    return Output(predictions, {"loss": Loss(tf.reduce_sum(losses * is_scored, axis=1),
                                             tf.reduce_sum(is_scored, axis=1))})
