"""What a graph is computed with: plain formulas or compiled kernels, on how many towers."""
import dataclasses
import functools
import itertools
import os
import shutil
import subprocess

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging
from tensorflow.core.protobuf import rewriter_config_pb2

from adapter_bert import kernels
from adapter_bert.bert import modeling
from adapter_bert.errors import InputError
from adapter_bert.fields import KERNELS, PRECISIONS
from adapter_bert.kernels.library import cpu_flags

LEAST_ROWS_A_TOWER = 8
_DRIVER_GPUS = "/proc/driver/nvidia/gpus"   # a folder for each GPU of the driver


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

    def line(self, precision: str) -> str:
        """One line on the device, the precision and the kernels of a run.

        Args:
          precision: "float32" or "bfloat16".
        """
        count = f", {self.towers} parallel workers per batch" if self.towers > 1 else ""
        reason = f" ({self.reason})" if self.reason else ""
        kind = "compiled CPU kernels" if self.fused else "plain TensorFlow kernels"
        return f"device {device_name()}, precision {precision}, {kind}{reason}{count}"

    def session_config(self):
        """The ConfigProto: a thread per tower, the graph as it was built; or TensorFlow's choice.

        Rewriting the graph (Grappler) takes 1.7 s of each start, measured on the demo's base. With
        the compiled kernels a step takes the same time without it.
        """
        if self.towers == 1:
            return None
        as_built = tf.GraphOptions(rewrite_options=rewriter_config_pb2.RewriterConfig(
            disable_meta_optimizer=True))
        return tf.ConfigProto(intra_op_parallelism_threads=1,
                              inter_op_parallelism_threads=self.towers, graph_options=as_built)


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
    if not use_tpu:
        warn_of_unused_gpu()
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


def device_name() -> str:
    """The name of the GPU that TensorFlow uses, or of the CPU with the count of its threads."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "unnamed")
        return f"GPU {name}" + (f" and {len(gpus) - 1} more" if len(gpus) > 1 else "")
    model = [line.partition(b":")[2].strip().decode("utf-8", "replace")
             for line in cpu_flags().splitlines() if line.startswith(b"model name")]
    return f"CPU {(*model, 'unnamed')[0]} with {len(os.sched_getaffinity(0))} threads"


@functools.cache
def warn_of_unused_gpu() -> None:
    """Warns once where the machine has an NVIDIA GPU that TensorFlow cannot use.

    TensorFlow's own messages on what is missing are switched off, as they come at every start.
    """
    if not has_gpu() and (gpu := visible_gpu()):
        logging.warning(
            "this machine has a GPU (%s), but TensorFlow cannot use it, so the CPU is used; "
            "`pip install \"tensorflow[and-cuda]==2.15.1\"` installs CUDA, and "
            "TF_CPP_MIN_LOG_LEVEL=0 in the environment shows TensorFlow's reasons", gpu)


def visible_gpu() -> str | None:
    """What shows that the NVIDIA driver sees a GPU; None where nothing does.

    CUDA_VISIBLE_DEVICES of "" or -1 hides the GPUs on purpose.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and chosen.strip() in ("", "-1"):
        return None
    if chosen:
        return f"CUDA_VISIBLE_DEVICES={chosen}"
    if os.path.isdir(_DRIVER_GPUS) and os.listdir(_DRIVER_GPUS):
        return _DRIVER_GPUS
    return _first_of_nvidia_smi()


def _first_of_nvidia_smi() -> str | None:
    """The first GPU that nvidia-smi lists; None where it is not installed or lists none."""
    if not shutil.which("nvidia-smi"):
        return None
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10,
                                check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return listed.partition(" (UUID")[0].strip() or None
