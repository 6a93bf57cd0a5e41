"""The kernels as differentiable functions, with the signatures of modeling's plain formulas.

Letters: B batch, T tokens, N heads, H head width, D = N * H hidden.
"""
import tensorflow.compat.v1 as tf

from adapter_bert.kernels import library

FORMS = {"linear": 0, "gelu_erf": 1, "gelu": 2}


def zeros(shape, dtype=tf.float32):
    """Zeros, of which a graph has one tensor per shape: hundreds would take long to build.

    They stand for inputs that are left out.

    Args:
      shape: tuple of ints.
      dtype: tf.DType.
    """
    # Keys that are no text are not exported with a graph.
    held = tf.get_collection_ref((zeros, shape, dtype))
    if not held:
        with tf.control_dependencies(None):   # also outside of a loop in which it is first needed
            held.append(tf.zeros(shape, dtype))
    return held[0]


def pack(kernel, turned=False):
    """A weight in the order in which `linear` reads it.

    Args:
      kernel: bfloat16 [I, O], both multiples of 32.
      turned: bool; pack the transpose.

    Returns:
      bfloat16 [I, O] or [O, I]: the numbers in another order.
    """
    packed = library.load().adapter_bert_pack(kernel=kernel, turned=turned)
    rows, columns = kernel.shape.dims or (None, None)
    packed.set_shape([columns, rows] if turned else [rows, columns])
    return packed


@tf.RegisterGradient("AdapterBertPack")
def pack_grad(_, dkernel):
    """The gradient of `pack`: that of `linear` with respect to the weight as it was."""
    return dkernel


def linear(x, packed, turned, bias, residual, name, rate, seed, trains):
    """dropout(f(x W + b), rate) + residual, see modeling.linear.

    Args:
      x: bfloat16 [..., I].
      packed: bfloat16 [I, O], what `pack` makes of W.
      turned: bfloat16 [O, I], what it makes of W's transpose, for the gradient; [0, 0] without one.
      bias: float32 [O]; [0] for none.
      residual: bfloat16 [..., O], or None.
      name: of f, a key of FORMS.
      rate: float.
      seed: int64 scalar tensor.
      trains: whether there will be a gradient.

    Returns:
      bfloat16 [..., O].
    """
    residual = zeros((0,), x.dtype) if residual is None else residual
    y = library.load().adapter_bert_linear(
        x=x, packed=packed, turned=turned, bias=bias, seed=seed, residual=residual,
        form=FORMS[name], rate=rate, keep=trains and name != "linear").y
    y.set_shape(x.shape[:-1].concatenate(packed.shape[1:]))
    return y


def linear_rows(x, addresses, bias, residual, name):
    """f(x W + b) + residual with a weight a row of the batch, read where it lies; no gradient.

    Args:
      x: bfloat16 [B, T, I].
      addresses: int64 [B], of contiguous bfloat16 arrays [I, O] of this process, weights as
        `packing.packed_array` makes them, which the caller keeps until the op has run.
      bias: float32 [B, O].
      residual: bfloat16 [B, T, O], or None.
      name: of f, a key of FORMS.

    Returns:
      bfloat16 [B, T, O].
    """
    residual = zeros((0,), x.dtype) if residual is None else residual
    y = library.load().adapter_bert_linear_rows(
        x=x, addresses=addresses, bias=bias, residual=residual, form=FORMS[name])
    y.set_shape(x.shape[:-1].concatenate(bias.shape[1:]))
    return y


@tf.RegisterGradient("AdapterBertLinear")
def linear_grad(op, dy, _):
    """The gradient of `linear`; a frozen weight, which is a variable's value, has none."""
    x, packed, turned, bias, seed, residual = op.inputs
    rate, form = op.get_attr("rate"), op.get_attr("form")
    dresidual = None if residual.shape.rank == 1 else dy
    if rate:
        dy = dropout(dy, zeros((0,)), rate, seed)
    if form != FORMS["linear"]:
        dy = through_activation(dy, op.outputs[1], bias, form)
    dx = linear(dy, turned, zeros((0, 0), dy.dtype), zeros((0,)), None, "linear",
                0.0, seed, False)
    dpacked = None
    if packed.op.type == "AdapterBertPack":
        dpacked = shaped(library.load().adapter_bert_linear_weight_grad(x=x, dy=dy), packed)
    dbias = None if bias.shape[0] == 0 else column_sum(dy, bias)
    return dx, dpacked, None, dbias, None, dresidual


def activate(x, bias, name):
    """f(x + b) for an f of FORMS.  float [..., F], float32 [F] -> as x."""
    return shaped(library.load().adapter_bert_activate(x=x, bias=bias, form=FORMS[name]), x)


@tf.RegisterGradient("AdapterBertActivate")
def activate_grad(op, dy):
    """The gradient of `activate`."""
    x, bias = op.inputs
    if op.get_attr("form") == FORMS["linear"]:
        return dy, column_sum(dy, bias)
    dx = through_activation(dy, x, bias, op.get_attr("form"))
    return dx, column_sum(dx, bias)


def through_activation(dy, x, bias, form):
    """dy f'(x + b).  float [..., F] twice, float32 [F], a value of FORMS -> as dy."""
    return shaped(library.load().adapter_bert_activate_grad(dy=dy, x=x, bias=bias, form=form), dy)


def dropout(x, bias, rate, seed):
    """0 with probability `rate`, (x + bias) / (1 - rate) else.

    Args:
      x: float [..., F].
      bias: float32 [F]; [0] for none.
      rate: float.
      seed: int64 scalar tensor.
    """
    return shaped(library.load().adapter_bert_dropout(x=x, bias=bias, seed=seed, rate=rate), x)


@tf.RegisterGradient("AdapterBertDropout")
def dropout_grad(op, dy):
    """The gradient of `dropout`: the same mask, made again."""
    _, bias, seed = op.inputs
    dx = dropout(dy, zeros((0,)), op.get_attr("rate"), seed)
    return dx, None if bias.shape[0] == 0 else column_sum(dx, bias), None


def fill(stack, slots, addresses):
    """Copies rows into a stack in place: stack[slots[i]] from the memory at addresses[i].

    One copy and no other: feeding the rows would copy them three times.

    Args:
      stack: a variable [S, ...], float32 or bfloat16, that is no resource.
      slots: int32 [k].
      addresses: int64 [k], of contiguous arrays of stack's type and row shape, which the caller
        keeps until the op has run.

    Returns:
      int32 [k], the slots.
    """
    return library.load().adapter_bert_fill(stack=stack, slots=slots, addresses=addresses)


def column_sum(x, like):
    """The sum over all axes but the last, in float32.  float [..., F] -> float32 [F]."""
    return shaped(library.load().adapter_bert_column_sum(x=x), like)


def add_norm(x, residual, gamma, beta):
    """LayerNorm(x + residual).

    float [B, T, D] twice, float32 [D] twice -> as x; or, without a gradient, float32 [B, D] twice.
    """
    return shaped(library.load().adapter_bert_add_norm(
        x=x, residual=residual, gamma=gamma, beta=beta).y, x)


@tf.RegisterGradient("AdapterBertAddNorm")
def add_norm_grad(op, dy, *_):
    """The gradient of `add_norm`."""
    x, residual, gamma, beta = op.inputs
    dx, dgamma, dbeta = library.load().adapter_bert_add_norm_grad(
        dy=dy, x=x, residual=residual, gamma=gamma, mean=op.outputs[1], inverse=op.outputs[2])
    dx = shaped(dx, x)
    return dx, dx, shaped(dgamma, gamma), shaped(dbeta, beta)


def attend(query, key, value, bias, heads, rate, seed):
    """softmax(Q K^T / sqrt(H) + bias) V, head by head, with dropout of the softmax.

    Args:
      query, key, value: float [B, T, D].
      bias: float32 [B, T], 0 for a token to see and far below for one to pass over.
      heads: N.
      rate: float, the share of attention weights to drop.
      seed: int64 scalar tensor.

    Returns:
      The context, as query.
    """
    return shaped(library.load().adapter_bert_attend(
        query=query, key=key, value=value, bias=bias, seed=seed, heads=heads,
        rate=rate).context, query)


@tf.RegisterGradient("AdapterBertAttend")
def attend_grad(op, dcontext, _):
    """The gradient of `attend`; the attention weights are computed again."""
    query, key, value, bias, seed = op.inputs
    gradients = library.load().adapter_bert_attend_grad(
        dcontext=dcontext, query=query, key=key, value=value, bias=bias, seed=seed,
        context=op.outputs[0], norms=op.outputs[1], heads=op.get_attr("heads"),
        rate=op.get_attr("rate"))
    return *(shaped(gradient, query) for gradient in gradients), None, None


def shaped(tensor, like):
    """`tensor` with the static shape of `like`."""
    tensor.set_shape(like.shape)
    return tensor
