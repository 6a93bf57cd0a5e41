"""A class of each word: token classification, as of named entities (Devlin et al. 2019, 5.3).

Letters: B batch, T tokens, C classes.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.kinds.heads.output import HEAD_DROPOUT, Loss, Output, of_tokens


def token_logits(bert, features, width, dropout):
    """The logits of every token, which `tokens` and `spans` are made of; for serving.

    Args:
      bert, features, width, dropout: as of `tokens`.

    Returns:
      Output with `logits` float32 [B, T, C].
    """
    del features
    return Output({"logits": of_tokens(dropout(bert.get_sequence_output(), HEAD_DROPOUT), width)},
                  {})


def best_classes(logits):
    """The class of each token and how probable it is.

    Args:
      logits: float32 [B, T, C].

    Returns:
      {"label_ids": int32 [B, T], "probabilities": float32 [B, T]}.
    """
    label_ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return {"label_ids": label_ids,
            "probabilities": tf.gather(tf.nn.softmax(logits), label_ids, batch_dims=2)}


def tokens(bert, features, width, dropout):
    """Softmax over the classes at the first piece of each word, cross-entropy over all words.

    Args:
      bert: modeling.BertModel.
      features: {name: tensor}; with `label_ids` int [B, T], and `word_starts` int [B, T] that is 1
        at the first piece of a word, where its label is read, and 0 elsewhere; or without both.
      width: C.
      dropout: function (x, rate) -> x.

    Returns:
      Output with `label_ids` int32 [B, T] and `probabilities` float32 [B, T], those of the labels.
    """
    logits = token_logits(bert, features, width, dropout).predictions["logits"]   # [B, T, C]
    predictions = best_classes(logits)
    if "label_ids" not in features:
        return Output(predictions, {})
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=features["label_ids"], logits=logits)                   # [B, T]
    is_scored = tf.cast(features["word_starts"], tf.float32)
    return Output(predictions, {"loss": Loss(tf.reduce_sum(losses * is_scored, axis=1),
                                             tf.reduce_sum(is_scored, axis=1))})
