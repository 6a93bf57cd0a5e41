"""A pack on disk: written whole, and read only where every byte is as it was written.

    folder/pack.json             what it says of itself (manifest.Manifest)
    folder/weights.safetensors   {name of a variable: values}, see docs/pack_format.md

or the two in one .zip, uncompressed, of which there is one form for one content.
"""
import dataclasses
import hashlib
import io
import os
import stat
import struct
import zipfile
from typing import NamedTuple

import numpy as np
import safetensors
import tensorflow.compat.v1 as tf
from absl import logging
from safetensors.numpy import save

from adapter_bert import files, paths
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest as manifests
from adapter_bert.plain_text import plain

MANIFEST_FILE, WEIGHTS_FILE = "pack.json", "weights.safetensors"
MANIFEST_LIMIT, WEIGHTS_LIMIT = 1 << 20, 1 << 31
BFLOAT16 = tf.bfloat16.as_numpy_dtype
_DTYPES = {"float32": ("F32", np.dtype("<f4")), "bfloat16": ("BF16", np.dtype(BFLOAT16))}
_ZIP_HEAD = struct.Struct("<4s14xI8x")   # of a member: signature, 14 bytes, size, 8 bytes


class Pack(NamedTuple):
    """A pack in memory.

    manifest: manifest.Manifest.
    weights: {name of a variable: float32 array}.
    """

    manifest: manifests.Manifest
    weights: dict[str, np.ndarray]


def warn(manifest, name):
    """Logs the warning of a pack, where it has one; `name` is its path, or its name on a server."""
    if manifest.warning:
        logging.warning("pack %s: %s", name, manifest.warning)


def read(path, accept=lambda manifest: None):
    """The pack at `path`, a folder or a .zip.

    Args:
      path: of the pack.
      accept: called with its Manifest before any of its weights is read; may raise InputError.

    Raises:
      InputError: there is none, or it is not exactly what was written.
    """
    path = os.fspath(path)
    try:
        found, content = (_read_folder if os.path.isdir(path) else _read_zip)(path, accept)
        return Pack(found, _weights(found, content))
    except InputError:   # names its file
        raise
    except (ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: {plain(error, 400)}") from error


def write(path, pack, dtype="float32"):
    """Writes a pack, as a .zip where `path` ends so, else as a folder.

    Args:
      path: where it goes; a pack that is there is replaced.
      pack: Pack; its manifest's `weights` are written anew.
      dtype: "float32", or "bfloat16" for half the bytes and 8 bits of precision.

    Returns:
      The Pack as it was written.

    Raises:
      InputError: the pack cannot be read back, or something else lies at `path`.
    """
    path = os.fspath(path)
    check_place(path)
    written, content = to_bytes(path, pack, dtype)
    text = written.manifest.to_bytes()
    if path.endswith(".zip"):
        files.write_bytes(path, _zip(text, content))
    else:
        with files.new_folder(path, replace=True) as place:
            files.write_bytes(os.path.join(place, WEIGHTS_FILE), content)
            files.write_bytes(os.path.join(place, MANIFEST_FILE), text)
    return written


def opened(pack):
    """A Pack of itself, or of the path of one; sound in both cases."""
    if not isinstance(pack, Pack):
        return read(pack)
    to_bytes("the pack in memory", pack, "float32")
    return pack


def check_place(path):
    """InputError where a pack cannot go to `path`: it is no path, or something else is there."""
    if not path.strip():
        raise InputError("the pack has no path; name a folder, or a file that ends in .zip")
    if paths.is_folder(path):
        others = set(paths.names_in(path)) - {MANIFEST_FILE, WEIGHTS_FILE}
        if path.endswith(".zip") or others:
            raise InputError(f"{path}: a folder that holds other things than a pack; name a new "
                             "folder, or a file that ends in .zip")
    elif (paths.exists(path) or os.path.islink(path)) and not (
            path.endswith(".zip") and _begins_as_pack(path)):
        raise InputError(f"{path}: another file is there, which is no pack; remove it or name "
                         "another place")


def _begins_as_pack(path):
    with paths.here(path) as place, files.open_plain(
            place, MANIFEST_LIMIT + WEIGHTS_LIMIT) as file:
        head = file.read(_ZIP_HEAD.size + len(MANIFEST_FILE))
    return head[:4] == b"PK\3\4" and head[_ZIP_HEAD.size:] == MANIFEST_FILE.encode()


def to_bytes(path, pack, dtype):
    """A Pack as it is read back, and the bytes of its weights; errors name `path`."""
    if dtype not in _DTYPES:
        raise InputError(f"{dtype}: packs hold {' or '.join(_DTYPES)}")
    content = save({name: np.ascontiguousarray(pack.weights[name], _DTYPES[dtype][1])
                    for name in sorted(pack.weights)})
    found = dataclasses.replace(pack.manifest, weights=manifests.Weights(
        dtype, len(content), hashlib.sha256(content).hexdigest()))
    try:
        check_text(found)
        weights = _weights(found, content)
        if len(content) > WEIGHTS_LIMIT:
            raise ValueError(f"weights of {len(content):,} bytes, more than {WEIGHTS_LIMIT:,}")
    except ValueError as error:
        raise InputError(f"{path}: not written: {error}") from error
    return Pack(found, weights), content


def check_text(found):
    """ValueError where a Manifest would not be read back."""
    text = found.to_bytes()
    if len(text) > MANIFEST_LIMIT:
        raise ValueError(f"a {MANIFEST_FILE} of {len(text):,} bytes, more than "
                         f"{MANIFEST_LIMIT:,}; labels or texts are too long")
    if found.weights:
        manifests.parse(text)


def to_zip(path, pack, dtype="float32"):
    """The bytes of a pack as a .zip; errors name `path`."""
    written, content = to_bytes(path, pack, dtype)
    return _zip(written.manifest.to_bytes(), content)


def _read_folder(path, accept):
    with files.open_plain(os.path.join(path, MANIFEST_FILE), MANIFEST_LIMIT) as file:
        found = manifests.parse(file.read())
    accept(found)
    limit = min(found.weights.bytes, WEIGHTS_LIMIT)
    with files.open_plain(os.path.join(path, WEIGHTS_FILE), limit) as file:
        return found, file.read()


def _read_zip(path, accept):
    with files.open_plain(path, MANIFEST_LIMIT + WEIGHTS_LIMIT) as file:
        head = file.read(_ZIP_HEAD.size).ljust(_ZIP_HEAD.size, b"\0")
        signature, size = _ZIP_HEAD.unpack(head)
        if signature != b"PK\3\4":
            raise ValueError("neither a pack's folder nor its .zip")
        name = file.read(len(MANIFEST_FILE))
        if name != MANIFEST_FILE.encode() or size > MANIFEST_LIMIT:
            raise ValueError(f"a .zip that does not begin with a {MANIFEST_FILE} as packs have it; "
                             "unpack it and name the folder")
        text = file.read(size)
        found = manifests.parse(text)
        accept(found)
        around = len(_zip(text, b""))   # all but the weights
        if os.fstat(file.fileno()).st_size != around + found.weights.bytes:
            raise ValueError("cut off, or too long; fetch it again")
        file.seek(2 * _ZIP_HEAD.size + len(name) + size + len(WEIGHTS_FILE))
        content = file.read(found.weights.bytes)
        file.seek(0)
        if file.read() != _zip(text, content):
            raise ValueError("damaged, or no .zip that adapter-bert wrote; fetch it again, or "
                             "unpack it and name the folder")
        return found, content


def _weights(found, content):
    """{name: float32 array} of the bytes of weights, which must be those of a Manifest."""
    if (len(content), hashlib.sha256(content).hexdigest()) != (
            found.weights.bytes, found.weights.sha256):
        raise ValueError(f"{WEIGHTS_FILE} is damaged: its sha256 is not the one that "
                         f"{MANIFEST_FILE} names; fetch it again")
    code, numpy_dtype = _DTYPES[found.weights.dtype]
    tensors = {name: (tuple(value["shape"]), value["dtype"], value["data"])
               for name, value in safetensors.deserialize(content)}
    wanted = {name: (shape, code) for name, shape in found.shapes().items()}
    held = {name: (shape, dtype) for name, (shape, dtype, _) in tensors.items()}
    if wanted != held:
        differing = sorted(name for name in wanted.keys() | held.keys()
                           if wanted.get(name) != held.get(name))
        raise ValueError(
            "weights missing, extra or of another shape or type: "
            + checkpoint_io.some_of(
                f"{name} {held.get(name, 'missing')}, not {wanted.get(name, 'there')}"
                for name in differing
            )
        )
    stored = {name: np.frombuffer(data, numpy_dtype).reshape(shape)
              for name, (shape, _, data) in tensors.items()}
    if save({name: stored[name] for name in sorted(stored)}) != content:
        raise ValueError(f"{WEIGHTS_FILE} holds more than its weights; write it with adapter-bert")
    weights = {name: value.astype(np.float32) for name, value in stored.items()}
    bad = sorted(name for name, value in weights.items() if not np.isfinite(value).all())
    if bad:
        raise ValueError(f"values that are no finite numbers in {checkpoint_io.some_of(bad)}")
    return weights


def _zip(text, content):
    """The .zip of a pack.json and its weights: one for one content, whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in ((MANIFEST_FILE, text), (WEIGHTS_FILE, content)):
            member = zipfile.ZipInfo(name)   # dated 1980
            member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, data)
    return buffer.getvalue()
