"""Fast kernels for CPU, handed to the model in the place of its plain formulas."""
import functools

import tensorflow.compat.v1 as tf

from adapter_bert.bert import modeling
from adapter_bert.kernels import ops, packing
from adapter_bert.kernels.library import UnavailableError, load
from adapter_bert.kernels.ops import pack
from adapter_bert.kernels.packing import copies

__all__ = ["UnavailableError", "copies", "fused_formulas", "load", "pack"]


def fused_formulas(next_seed, trains=True):
    """modeling.Formulas of compiled kernels; what these do not cover stays plain.

    Args:
      next_seed: function () -> int64 scalar tensor, another one at each call; for dropout.
      trains: whether gradients will be asked for.
    """
    return modeling.Formulas(
        functools.partial(linear, packing.Packing(), next_seed, trains),
        functools.partial(dropout, next_seed), functools.partial(add_norm, trains),
        functools.partial(attend, next_seed))


def linear(weights, next_seed, trains, x, kernel, bias, activation="linear", rate=0.0,
           residual=None):
    """See modeling.linear."""
    seed = next_seed() if rate else ops.zeros((), tf.int64)
    if is_covered(bias, activation) and packing.can_pack(kernel.shape.as_list(), x.dtype):
        turned = weights.of(kernel, turned=True) if trains else ops.zeros((0, 0), x.dtype)
        return ops.linear(x, weights.of(kernel, turned=False), turned, bias, residual, activation,
                          rate, seed, trains)
    y = finished(modeling.product(x, kernel), bias, activation, rate, seed)
    return y if residual is None else y + residual


def is_covered(bias, activation):
    """Whether there are kernels for f(x + b)."""
    return bias.shape.rank == 1 and activation in ops.FORMS


def finished(x, bias, activation, rate, seed):
    """dropout(f(x + b), rate), after a product."""
    if not is_covered(bias, activation):
        x, bias = modeling.activate(x, bias, activation), ops.zeros((0,))
    elif activation != "linear" or not rate:   # else the dropout adds the bias
        x, bias = ops.activate(x, bias, activation), ops.zeros((0,))
    return ops.dropout(x, bias, rate, seed) if rate else x


def dropout(next_seed, x, rate):
    """See modeling.random_dropout."""
    return ops.dropout(x, ops.zeros((0,)), rate, next_seed()) if rate else x


def add_norm(trains, x, residual, gamma, beta):
    """See modeling.add_norm."""
    is_covered = gamma.shape.rank == 1 or not trains
    return (ops if is_covered else modeling).add_norm(x, residual, gamma, beta)


def attend(next_seed, query, key, value, bias, heads, rate):
    """See modeling.attend."""
    seed = next_seed() if rate else ops.zeros((), tf.int64)
    return ops.attend(query, key, value, bias, heads, rate, seed)
