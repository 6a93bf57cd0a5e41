"""What every head gives, and the layer that most of them are.

Letters: B batch, T tokens, D hidden, C outputs.
"""
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from adapter_bert.bert import modeling

HEAD_DROPOUT = 0.1
HEAD_STDDEV = 0.02


class Loss(NamedTuple):
    """A loss by example: the sum over what is scored in it, and how much that is; float32 [B]."""

    sums: tf.Tensor
    counts: tf.Tensor


class Output(NamedTuple):
    """What a head makes of a batch.

    predictions: {name: tensor with a row an example}.
    losses: {name: Loss}, which are added up; empty without labels.
    """

    predictions: dict[str, tf.Tensor]
    losses: dict[str, Loss]


def batch_loss(output):
    """The loss of a batch: of each Loss the mean over all that is scored; float32 scalar."""
    return tf.add_n([tf.reduce_sum(loss.sums) / tf.maximum(tf.reduce_sum(loss.counts), 1.0)
                     for loss in output.losses.values()])


def shared_loss(output, summed=None):
    """The losses of a batch that several workers share: a worker's part of it, and the whole.

    The parts are what workers have to differentiate: their gradients add up to the whole's. Counts
    have a sum of their own, which follows from the labels: no gradient waits for others' losses.

    Args:
      output: Output of this worker's part of the batch.
      summed: function (list of tensors, name) -> their sums over all workers; None for one alone.

    Returns:
      Float32 scalars twice.
    """
    if not summed:
        return (batch_loss(output),) * 2
    sums = tf.stack([tf.reduce_sum(loss.sums) for loss in output.losses.values()])
    counts = tf.stack([tf.reduce_sum(loss.counts) for loss in output.losses.values()])
    (all_counts,), (all_sums,) = summed([counts], "counts"), summed([sums], "losses")
    all_counts = tf.maximum(all_counts, 1.0)
    return tf.reduce_sum(sums / all_counts), tf.reduce_sum(all_sums / all_counts)


def once(losses):
    """{"loss": Loss} of examples that are scored once each; losses float32 [B]."""
    return {"loss": Loss(losses, tf.ones_like(losses))}


def of_text(pooled, width):
    """pooled W^T + b of each text.

    Args:
      pooled: float [B, D].
      width: C.

    Returns:
      float [B, C].
    """
    weights, bias = weights_and_bias(pooled, width)
    if weights.shape.rank == 3:
        logits = tf.matmul(weights, pooled[:, :, None])[:, :, 0] + bias
        return tf.ensure_shape(logits, bias.shape)   # else TensorFlow's optimizer warns
    return tf.matmul(pooled, weights, transpose_b=True) + bias


def of_tokens(sequence, width):
    """x W^T + b of each token.

    Args:
      sequence: float [B, T, D].
      width: C.

    Returns:
      float32 [B, T, C].
    """
    weights, bias = weights_and_bias(sequence, width)
    x = tf.cast(sequence, tf.float32)
    logits = modeling.product(x, tf.linalg.matrix_transpose(weights)) + modeling.over_tokens(bias)
    return tf.ensure_shape(logits, [None, None, width])   # else TensorFlow's optimizer warns


def weights_and_bias(x, width):
    """The reference's `output_weights` [C, D] and `output_bias` [C]; or [B, C, D] and [B, C]."""
    weights = tf.get_variable("output_weights", [width, x.shape[-1]],
                              initializer=tf.truncated_normal_initializer(stddev=HEAD_STDDEV))
    return weights, tf.get_variable("output_bias", [width], initializer=tf.zeros_initializer())


def variable_shapes(config, width):
    """{name: shape tuple} of the variables of `weights_and_bias`; config is a BertConfig."""
    return {"output_weights": (width, config.hidden_size), "output_bias": (width,)}
