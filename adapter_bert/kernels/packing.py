"""Weights in the order in which the product's kernel reads them."""
import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert.kernels import library, ops

SIDE = 32   # of a block of a product
CACHE_LINE = 64   # bytes
COPIES = "packed_weights"


class Packing:
    """The packed weights of one graph, each made once.

    A weight that trains is packed at every step. A frozen one is packed when a session starts, into
    a local variable that `copies` lists, which each step reads once.
    """

    def __init__(self):
        self._packed = {}

    def of(self, kernel, turned):
        """The packed form of a kernel, or of its transpose where `turned`: as [I, O] or [O, I]."""
        key = kernel.name, turned
        if key not in self._packed:
            self._packed[key] = (frozen_copy(kernel, turned).value() if is_frozen(kernel)
                                 else ops.pack(kernel, turned))
        return self._packed[key]


def can_pack(shape, dtype):
    """Whether there is a kernel for the product with a weight [I, O] of that shape and type."""
    return (dtype == tf.bfloat16 and len(shape) == 2 and not any(size % SIDE for size in shape)
            and library.has_tiles())


def is_frozen(kernel):
    """Whether a weight is a variable that stays what it is, not a tensor made of one."""
    return not getattr(kernel, "trainable", True)


def frozen_copy(kernel, turned):
    """A local variable that holds a frozen weight packed."""
    packed = tf.Variable(lambda: ops.pack(kernel.initial_value, turned), trainable=False,
                         use_resource=True, collections=[tf.GraphKeys.LOCAL_VARIABLES],
                         name="kernel_packed" + turned * "_turned")
    tf.add_to_collection(COPIES, (kernel.op.name, turned, packed))
    return packed


def packed_array(weights):
    """What `ops.pack` makes of a weight, by NumPy.

    Args:
      weights: array [I, O], both multiples of SIDE.

    Returns:
      Array [I, O] of the same type: panels of SIDE columns, each of pairs of rows; it begins where
      a cache line does.
    """
    rows, columns = weights.shape
    parts = weights.reshape(rows // 2, 2, columns // SIDE, SIDE)
    room = np.empty(weights.nbytes + CACHE_LINE, np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    packed = room[start:start + weights.nbytes].view(weights.dtype)
    packed.reshape(columns // SIDE, rows // 2, SIDE, 2)[:] = parts.transpose(2, 0, 3, 1)
    return packed.reshape(rows, columns)


def copies():
    """[(name of a frozen weight, turned, its packed variable)] of this graph."""
    return tf.get_collection(COPIES)
