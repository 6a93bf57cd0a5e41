"""Where an answer starts and ends: extractive question answering (Devlin et al. 2019, 4.2).

Letters: B batch, T tokens.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.kinds.heads.output import Output, of_tokens, once

_PADDING = -1e9   # a logit of what is no token


def spans(bert, features, width, dropout):
    """Softmax over the tokens for the start and for the end, the mean of both cross-entropies.

    Args:
      bert: modeling.BertModel.
      features: {name: tensor}, with `start_positions` and `end_positions` int [B], the token 0
        where a window has no answer, or without.
      width: 2.
      dropout: unused: BERT drops nothing here.

    Returns:
      Output with `start_logits` and `end_logits` float32 [B, T].
    """
    del dropout
    padding = _PADDING * (1.0 - tf.cast(features["input_mask"], tf.float32))       # [B, T]
    start, end = tf.unstack(of_tokens(bert.get_sequence_output(), width), axis=2)  # [B, T] each
    start, end = start + padding, end + padding
    predictions = {"start_logits": start, "end_logits": end}
    if "start_positions" not in features:
        return Output(predictions, {})
    losses = [tf.nn.sparse_softmax_cross_entropy_with_logits(labels=features[name], logits=logits)
              for name, logits in (("start_positions", start), ("end_positions", end))]
    return Output(predictions, once(tf.add_n(losses) / 2.0))
