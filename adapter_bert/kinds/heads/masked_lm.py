"""What BERT itself was trained on: masked words and next sentences (Devlin et al. 2019, 3.1).

Letters: B batch, T tokens, P predictions, D hidden, V vocabulary.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.bert import modeling
from adapter_bert.kinds.heads.output import Loss, Output, of_text, once

NEXT, WIDTH = "cls/seq_relationship", 2   # of a pair: the second follows the first, or is random
WORDS = "cls/predictions"


def masked_lm(bert, features, width, dropout):
    """Softmax over the vocabulary at the masked tokens, and over {follows, random} of the pair.

        loss = sum_p w_p cross-entropy_p / sum_p w_p  +  mean cross-entropy of the pairs

    Args:
      bert: modeling.BertModel.
      features: {name: tensor}; `masked_lm_positions` int [B, P]; with `masked_lm_ids` int [B, P],
        `masked_lm_weights` float [B, P], 0 where there is no prediction, and
        `next_sentence_labels` int [B], or without.
      width: 2, of the pairs.
      dropout: unused: BERT drops nothing here.

    Returns:
      Output with `masked_lm_predictions` int32 [B, P] and `next_sentence_predictions` int32 [B];
      with labels also `masked_lm_hits` and `next_sentence_hits` float32 [B], the weight of what is
      predicted right.
    """
    del dropout
    words = word_logits(bert, features["masked_lm_positions"])              # [B, P, V]
    with tf.variable_scope(NEXT):
        pairs = of_text(bert.get_pooled_output(), width)                    # [B, 2]
    predictions = {"masked_lm_predictions": tf.argmax(words, axis=-1, output_type=tf.int32),
                   "next_sentence_predictions": tf.argmax(pairs, axis=-1, output_type=tf.int32)}
    if "masked_lm_ids" not in features:
        return Output(predictions, {})
    weights = features["masked_lm_weights"]
    losses, hits = compared(words, predictions["masked_lm_predictions"],
                            features["masked_lm_ids"])                      # [B, P] each
    pair_losses, pair_hits = compared(pairs, predictions["next_sentence_predictions"],
                                      features["next_sentence_labels"])     # [B] each
    predictions |= {"masked_lm_hits": tf.reduce_sum(hits * weights, axis=1),
                    "next_sentence_hits": pair_hits}
    return Output(predictions, {
        "masked_lm": Loss(tf.reduce_sum(losses * weights, axis=1), tf.reduce_sum(weights, axis=1)),
        "next_sentence": once(pair_losses)["loss"]})


def compared(logits, predicted, labels):
    """Cross-entropies, and 1 where the label is predicted.

    Args:
      logits: float32 [..., C].
      predicted, labels: int32 [...].

    Returns:
      Two tensors, float32 [...].
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return losses, tf.cast(tf.equal(predicted, labels), tf.float32)


def word_logits(bert, positions):
    """LayerNorm(f(x W + b)) E^T + c of the tokens at these positions, E the word embeddings.

    The product with E is computed in the type of the model's activations.

    Args:
      bert: modeling.BertModel.
      positions: int [B, P].

    Returns:
      float32 [B, P, V].
    """
    table, layer = bert.get_embedding_table(), modeling.Layer(
        bert.config, -1, {}, modeling.plain_formulas())
    x = tf.gather(bert.get_sequence_output(), positions, batch_dims=1)      # [B, P, D]
    x = tf.cast(x, bert.get_embedding_output().dtype)
    with tf.variable_scope(WORDS):
        with tf.variable_scope("transform"):
            x = modeling.dense(layer, x, x.shape[-1], activation=bert.config.hidden_act)
            x = modeling.add_norm(x, 0.0, *modeling.norm_weights(x.shape[-1]))
        bias = tf.get_variable("output_bias", [table.shape[0]], initializer=tf.zeros_initializer())
    batch, count, width = modeling.shape_list(x)
    rows = tf.matmul(tf.reshape(x, [batch * count, width]), tf.cast(table, x.dtype),
                     transpose_b=True)                                      # [B * P, V]
    return tf.reshape(tf.cast(rows, tf.float32) + bias, [batch, count, table.shape[0]])


def variable_shapes(config, width):
    """{name: shape tuple} of the variables; config is a BertConfig."""
    del width
    return shapes(config.hidden_size, config.vocab_size)


def shapes(hidden_size, vocab_size):
    """{name: shape tuple} of the variables, under the names of Google's checkpoints."""
    transform = f"{WORDS}/transform"
    return {
        f"{transform}/dense/kernel": (hidden_size, hidden_size),
        f"{transform}/dense/bias": (hidden_size,),
        f"{transform}/LayerNorm/gamma": (hidden_size,),
        f"{transform}/LayerNorm/beta": (hidden_size,),
        f"{WORDS}/output_bias": (vocab_size,),
        f"{NEXT}/output_weights": (WIDTH, hidden_size), f"{NEXT}/output_bias": (WIDTH,)}
