"""Fast kernels for CPU, handed to the model in the place of its plain formulas."""
import functools

import tensorflow.compat.v1 as tf

import modeling
from adapter_bert.kernels import ops
from adapter_bert.kernels.library import UnavailableError, load

__all__ = ["UnavailableError", "fused_formulas", "load"]


def fused_formulas(next_seed):
    """modeling.Formulas of compiled kernels; what these do not cover stays plain.

    Args:
      next_seed: function () -> int64 scalar tensor, another one at each call; for dropout.
    """
    return modeling.Formulas(
        add_bias, activate, functools.partial(dropout, next_seed), add_norm,
        functools.partial(attend, next_seed))


def add_bias(x, bias):
    """See modeling.add_bias."""
    bias = as_vector(bias)
    return (ops if bias.shape.rank == 1 else modeling).add_bias(x, bias)


def activate(x, bias, name):
    """See modeling.activate."""
    bias = as_vector(bias)
    return (ops if name in ops.FORMS and bias.shape.rank == 1 else modeling).activate(x, bias, name)


def dropout(next_seed, x, bias, rate):
    """See modeling.random_dropout."""
    if not rate:
        return x if bias is None else add_bias(x, bias)
    if bias is None or bias.shape.rank != 1:
        x, bias = x if bias is None else add_bias(x, bias), tf.zeros([0])
    return ops.dropout(x, bias, rate, next_seed())


def as_vector(bias):
    """A bias [1, O] as [O]; others as they are."""
    return bias[0] if bias.shape.rank == 2 and bias.shape[0] == 1 else bias


def add_norm(x, residual, gamma, beta):
    """See modeling.add_norm."""
    return (ops if gamma.shape.rank == 1 else modeling).add_norm(x, residual, gamma, beta)


def attend(next_seed, query, key, value, bias, heads, rate):
    """See modeling.attend."""
    seed = next_seed() if rate else tf.constant(0, tf.int64)
    return ops.attend(query, key, value, bias, heads, rate, seed)
