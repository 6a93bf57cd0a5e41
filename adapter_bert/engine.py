"""What a graph is computed with: plain formulas or compiled kernels, on how many towers."""
import dataclasses
import itertools
import os

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

import modeling
from adapter_bert import kernels
from adapter_bert.errors import InputError
from adapter_bert.fields import KERNELS, PRECISIONS
from adapter_bert.kernels.library import cpu_flags

LEAST_ROWS_A_TOWER = 8


@dataclasses.dataclass(frozen=True)
class Engine:
    """How a graph is computed.

    fused: whether compiled kernels stand in the place of the plain formulas.
    towers: parts that a batch is cut into, one a core.
    reason: why the kernels are plain where nobody asked for that.
    """

    fused: bool = False
    towers: int = 1
    reason: str = ""

    def formulas(self, seed=0, trains=True):
        """The modeling.Formulas.

        Args:
          seed: int, that of dropout; of no account where nothing drops.
          trains: whether gradients will be asked for.
        """
        places = Places(seed)
        if self.fused:
            return kernels.fused_formulas(places.next_seed, trains)
        return modeling.plain_formulas(places.dropout)

    def line(self, precision):
        """What a person is told of it."""
        count = f", a batch in {self.towers} parts side by side" if self.towers > 1 else ""
        reason = f" ({self.reason})" if self.reason else ""
        return f"{precision} products, {'fused' if self.fused else 'plain'} kernels{reason}{count}"

    def session_config(self):
        """The ConfigProto: a thread a tower, the graph rewritten once; or TensorFlow's own choice.

        A second round of rewriting takes 1.5 s of a start and changes no step's time.
        """
        if self.towers == 1:
            return None
        once = tf.GraphOptions(rewrite_options=rewriter_config_pb2.RewriterConfig(
            meta_optimizer_iterations=rewriter_config_pb2.RewriterConfig.ONE))
        return tf.ConfigProto(intra_op_parallelism_threads=1,
                              inter_op_parallelism_threads=self.towers, graph_options=once)


class Places:
    """Seeds of dropout that depend on the run's seed, the step and the place in the graph alone.

    So a run that goes on from a checkpoint drops what it would have dropped without the break.
    """

    def __init__(self, seed):
        self._first = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        self._count = itertools.count()

    def next_place(self):
        """The number of one more place, from 0 to 2^31 - 1."""
        return (self._first + next(self._count)) % 2**31

    def next_seed(self):
        """Place and step as an int64 scalar tensor."""
        step = tf.cast(tf.train.get_or_create_global_step(), tf.int64)
        return step + (self.next_place() << 32)

    def dropout(self, x, rate):
        """0 with probability `rate`, x / (1 - rate) else."""
        if not rate:
            return x
        step = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
        return tf.nn.experimental.stateless_dropout(
            x, rate=rate, seed=tf.stack([np.int32(self.next_place()), step]), rng_alg="philox")


def choose_engine(wanted, use_tpu, rows):
    """The engine of --kernels.

    Args:
      wanted: "auto", "plain" or "fused".
      use_tpu: bool.
      rows: examples a batch.

    Raises:
      InputError: fused kernels are asked for and are not to be had.
    """
    if wanted not in KERNELS:
        raise InputError(f"kernels {wanted!r}: not one of {', '.join(KERNELS)}")
    if wanted == "plain" or use_tpu or has_gpu():
        if wanted == "fused":
            raise InputError("--kernels=fused: these kernels are for the CPU; give --kernels=auto")
        return Engine()
    try:
        kernels.load()
    except kernels.UnavailableError as error:
        if wanted == "fused":
            raise InputError(f"--kernels=fused: {error}") from error
        return Engine(reason=str(error))
    return Engine(True, max(1, min(len(os.sched_getaffinity(0)), rows // LEAST_ROWS_A_TOWER)))


def choose_precision(wanted, use_tpu):
    """"float32" or "bfloat16": for "auto" what the device multiplies faster in, as far as we know.

    Args:
      wanted: "auto", "float32" or "bfloat16".
      use_tpu: bool.
    """
    if wanted not in PRECISIONS:
        raise InputError(f"precision {wanted!r}: not one of {', '.join(PRECISIONS)}")
    if wanted != "auto":
        return wanted
    if use_tpu or has_gpu():
        return "float32"
    flags = cpu_flags().split()
    return "bfloat16" if b"amx_bf16" in flags or b"avx512_bf16" in flags else "float32"


def has_gpu():
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))
