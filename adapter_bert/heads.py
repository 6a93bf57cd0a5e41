"""What stands on top of BERT: logits, loss and predictions of a task.

Letters: B batch, D hidden, C classes.
"""
from typing import NamedTuple

import tensorflow.compat.v1 as tf

HEAD_DROPOUT = 0.1
HEAD_STDDEV = 0.02


class Output(NamedTuple):
    """What a head makes of a batch.

    predictions: {name: tensor with a row an example}.
    losses: float32 [B], one an example; None without labels.
    """

    predictions: dict[str, tf.Tensor]
    losses: tf.Tensor | None


def classification(pooled, num_labels, label_ids=None):
    """Softmax over the classes, cross-entropy.

    Args:
      pooled: float [B, D], after dropout.
      num_labels: C.
      label_ids: int [B], or None.

    Returns:
      Output with `probabilities` float [B, C].
    """
    logits = linear(pooled, num_labels)                                # [B, C]
    losses = None
    if label_ids is not None:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)
    return Output({"logits": logits, "probabilities": tf.nn.softmax(logits)}, losses)


def regression(pooled, num_labels, label_ids=None):
    """One number, squared error.

    Args:
      pooled: float [B, D], after dropout.
      num_labels: 1.
      label_ids: float [B], or None.

    Returns:
      Output with `scores` float [B].
    """
    scores = linear(pooled, num_labels)[:, 0]                          # [B]
    losses = None if label_ids is None else tf.square(scores - label_ids)
    return Output({"scores": scores}, losses)


def linear(pooled, width):
    """pooled W^T + b with the reference's `output_weights` [C, D] and `output_bias` [C].

    The weights may be one a row: [B, C, D] and [B, C].
    """
    weights = tf.get_variable("output_weights", [width, pooled.shape[-1]],
                              initializer=tf.truncated_normal_initializer(stddev=HEAD_STDDEV))
    bias = tf.get_variable("output_bias", [width], initializer=tf.zeros_initializer())
    if weights.shape.rank == 3:
        logits = tf.matmul(weights, pooled[:, :, None])[:, :, 0] + bias
        return tf.ensure_shape(logits, bias.shape)   # else TensorFlow's optimizer warns
    return tf.matmul(pooled, weights, transpose_b=True) + bias


def variable_shapes(hidden_size, num_labels):
    """{name: shape tuple} of the variables that `linear` makes."""
    return {"output_weights": (num_labels, hidden_size), "output_bias": (num_labels,)}


HEADS = {"classification": classification, "regression": regression}
