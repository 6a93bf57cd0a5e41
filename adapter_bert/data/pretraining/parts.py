"""Parts of output files in a folder: workers leave them there, one process puts them together.

A part holds a share of every output: their sizes, and one share after the other. Beside the parts
of a chunk lies a JSON file of what they hold, written last; and a note, where a chunk is at fault.
"""
import contextlib
import json
import os

import numpy as np

from adapter_bert.data import beam_files
from adapter_bert.errors import InputError

_SIZE = np.dtype("<u8")
_BLOCK = 1 << 20
DONE = "*.json"


def write(folder, chunk, dupe, shares):
    """Writes a part.

    Args:
      folder: str.
      chunk, dupe: int, of which it is.
      shares: list with a list of bytes for each output.
    """
    contents = list(map(b"".join, shares))
    with beam_files.writing(_part(folder, chunk, dupe)) as file:
        file.write(np.array(list(map(len, contents)), _SIZE).tobytes())
        for content in contents:
            file.write(content)


def write_counts(folder, chunk, counts):
    """Says that the parts of a chunk are whole, and what they hold, a dict of arrays."""
    plain = {name: value.tolist() for name, value in counts.items()}
    with beam_files.writing(_counts(folder, chunk)) as file:
        file.write(json.dumps(plain).encode())


def read_counts(folder, chunk):
    """What the parts of a chunk hold.

    Raises:
      InputError: nothing says that they are whole.
    """
    path = _counts(folder, chunk)
    if not beam_files.exists(path):
        raise InputError(f"{path}: no worker wrote it; name an --output_file in a folder that all "
                         "workers share")
    with beam_files.open_file(path) as file:
        return json.load(file)


def write_note(folder, text):
    """Leaves a note of what is wrong."""
    with beam_files.writing(_note(folder)) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def read_note(folder):
    """The note that a worker left; "" where there is none."""
    if not beam_files.exists(_note(folder)):
        return ""
    with beam_files.open_file(_note(folder)) as file:
        return file.read().decode()


def put_together(folder, chunks, dupes, paths):
    """Writes files of the shares of all parts, and removes the parts.

    The shares of a duplicate of all chunks come before those of the next duplicate.

    Args:
      folder: str.
      chunks, dupes: int, how many.
      paths: list of str, the files.
    """
    with contextlib.ExitStack() as stack:
        wholes = [stack.enter_context(beam_files.writing(path)) for path in paths]
        for dupe in range(dupes):
            for chunk in range(chunks):
                with beam_files.open_file(_part(folder, chunk, dupe)) as part:
                    _share_out(part, wholes)
                beam_files.remove(_part(folder, chunk, dupe))


def _share_out(part, wholes):
    sizes = np.frombuffer(part.read(_SIZE.itemsize * len(wholes)), _SIZE).tolist()
    for whole, size in zip(wholes, sizes, strict=True):
        for start in range(0, size, _BLOCK):
            whole.write(part.read(min(_BLOCK, size - start)))


def _part(folder, chunk, dupe):
    return os.path.join(folder, f"{chunk:06}-{dupe:03}")


def _counts(folder, chunk):
    return os.path.join(folder, f"{chunk:06}.json")


def _note(folder):
    return os.path.join(folder, "note.txt")
