"""The weights of a Hugging Face folder, tensor by tensor, whichever of its three forms they have.

    model.safetensors                                   one file
    model.safetensors.index.json, model-0000*-of-*      several, and an index {tensor: file}
    pytorch_model.bin                                   what torch.save writes, read without torch
"""
import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import safetensors

from adapter_bert import files
from adapter_bert.bert import torch_file
from adapter_bert.errors import InputError

SINGLE, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
PICKLE_BYTES = 16 << 30   # the longest pytorch_model.bin that is read into memory


class Tensor(NamedTuple):
    """A tensor of a file, not yet read.

    file: what it is read from.
    key: its name there.
    shape: tuple of ints.
    dtype: "F32", "F16", "BF16", or another name that safetensors has for a type.
    """

    file: object
    key: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """Its values."""
        return self.file.get_tensor(self.key)   # type: ignore[attr-defined]


@contextlib.contextmanager
def opened(folder: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The path to name in messages, and {name: Tensor} of the weights of a folder.

    Raises:
      InputError: there are no weights, a file is damaged, or a pickle holds more than tensors.
    """
    with contextlib.ExitStack() as stack:
        for name, read in ((SINGLE, _single), (INDEX, _sharded), (PICKLE, _pickled)):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                yield path, read(path, stack)
                return
    raise InputError(f"{folder}: holds none of {SINGLE}, {INDEX} and {PICKLE}")


def _single(path: str, stack: contextlib.ExitStack) -> dict[str, Tensor]:
    try:
        file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
    except (safetensors.SafetensorError, FileNotFoundError) as error:
        raise InputError(f"{path}: damaged or no safetensors file ({error}); "
                         "fetch it again") from error
    slices = {key: file.get_slice(key) for key in file.keys()}   # noqa: SIM118 (no dict)
    return {key: Tensor(file, key, tuple(part.get_shape()), part.get_dtype())
            for key, part in slices.items()}


def _sharded(path: str, stack: contextlib.ExitStack) -> dict[str, Tensor]:
    places = files.read_object(path, "weight_map")["weight_map"]
    if not isinstance(places, dict) or not all(
            isinstance(name, str) and name == os.path.basename(name) for name in places.values()):
        raise InputError(f"{path}: its weight_map is not a table of file names; fetch it again")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        tensors |= _single(os.path.join(os.path.dirname(path), name), stack)
    lacking = [key for key in places if key not in tensors]
    if lacking:
        raise InputError(f"{path}: lists {lacking[0]}, which is not in {places[lacking[0]]}; "
                         "fetch both again")
    return tensors


class _Arrays:
    """Arrays in memory, read as safetensors files are."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self._arrays = arrays

    def get_tensor(self, key: str) -> np.ndarray:
        return self._arrays[key]


def _pickled(path: str, stack: contextlib.ExitStack) -> dict[str, Tensor]:
    del stack
    arrays = torch_file.read(os.path.realpath(path), PICKLE_BYTES, integers=True)
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
    return {key: Tensor(_Arrays(arrays), key, value.shape, names[value.dtype.name])
            for key, value in arrays.items()}
