"""Compiles the kernels for this machine, once, and loads them into TensorFlow."""
import ctypes
import functools
import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import types

import tensorflow as tf
from absl import logging

from adapter_bert import cache, files
from adapter_bert.errors import InputError

SOURCE = pathlib.Path(__file__).with_name("kernels.c")
OPTIONS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math",
           "-Wno-psabi", "-fPIC", "-shared")
FOLDER = "kernels"   # in the cache
COMPILERS = (("cc",), ("gcc",), ("clang",), (sys.executable, "-m", "ziglang", "cc"))


class UnavailableError(RuntimeError):
    """The kernels are not available here; the message says why."""


def load() -> types.ModuleType:
    """The module of the kernels' ops, compiled by the first process that needs them.

    Raises:
      UnavailableError: there is no C compiler, it failed, or the cache cannot be written.
    """
    module, reason = _load_once()
    if module is None:
        raise UnavailableError(reason)
    return module


@functools.lru_cache(maxsize=1)
def _load_once() -> tuple[types.ModuleType | None, str]:
    """(module, ""), or (None, why there is none), which one line says once."""
    try:
        path = kernels_path()
        if not (os.path.lexists(path) and cache.is_trusted(str(path.parent))
                and cache.is_trusted(str(path))):
            cache.private_folder(FOLDER)
            build(path)   # replaces what others may have written
        return _load(path), ""
    except (UnavailableError, InputError, OSError) as error:
        logging.warning("compiled kernels are not available, slower plain TensorFlow formulas "
                        "replace them: %s", error)
        return None, str(error)


def _load(path: pathlib.Path) -> types.ModuleType:
    try:
        return tf.load_op_library(str(path))
    except (tf.errors.OpError, OSError) as error:
        raise UnavailableError(f"{path} cannot be loaded ({error}); remove it") from error


@functools.lru_cache(maxsize=1)
def has_tiles() -> bool:
    """Whether the kernels multiply bfloat16 on this CPU, which has to have AVX512-BF16 or AMX."""
    try:
        load()
    except UnavailableError:
        return False
    return bool(ctypes.CDLL(str(kernels_path())).adapter_bert_has_tiles())


def kernels_path() -> pathlib.Path:
    """The file of the compiled kernels, in the cache, see `cache.folder`."""
    return pathlib.Path(cache.folder(FOLDER)) / f"kernels-{fingerprint()}.so"


def fingerprint() -> str:
    """Names what a compiled file depends on: source, options, TensorFlow, and the CPU."""
    parts = (SOURCE.read_bytes(), " ".join(OPTIONS).encode(), tf.__version__.encode(), cpu_flags())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def cpu_flags() -> bytes:
    """The CPU's model and features as Linux tells them; b"" on other systems."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            lines = file.read().split(b"\n\n")[0].splitlines()
    except OSError:
        return b""
    return b"\n".join(line for line in lines if line.startswith((b"flags", b"model name")))


def build(path: pathlib.Path) -> None:
    """Compiles the kernels to `path`, whole or not at all.

    Raises:
      UnavailableError: there is no C compiler, or it failed.
      InputError: the file cannot be written.
    """
    with files.replacing(path) as temporary:
        command = [*compiler(), *OPTIONS, str(SOURCE), "-o", temporary,
                   f"-I{tf.sysconfig.get_include()}", *tf.sysconfig.get_link_flags(), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise UnavailableError(f"{shlex.join(command[:1])} cannot compile them ({reason})")
        os.chmod(temporary, 0o644)   # whatever the umask is: see cache.is_trusted


def compiler() -> tuple[str, ...]:
    """The words that start a C compiler: $CC, or the first of COMPILERS that is there."""
    chosen = shlex.split(os.environ.get("CC", ""))
    for words in ((tuple(chosen),) if chosen else COMPILERS):
        if shutil.which(words[0]) and (len(words) == 1 or has_module(words)):
            return words
    raise UnavailableError("there is no C compiler (apt install gcc, or pip install ziglang)")


def has_module(words: tuple[str, ...]) -> bool:
    """Whether `python -m <module>` of a compiler's words can be run."""
    done = subprocess.run([*words, "--version"], capture_output=True, check=False)
    return done.returncode == 0
