"""The fingerprints of checkpoints that were computed before, kept in the cache.

To read and hash a base takes 0.2 s (22M parameters) to a second (110M) of every command. A kept
fingerprint counts while the checkpoint's files have the number, size and times that they had.
"""
import contextlib
import os
import re
import time
from collections.abc import Callable
from typing import Any

from adapter_bert import cache, files, paths
from adapter_bert.errors import InputError

FILE = "fingerprints.json"
MOST_KEPT = 100
SETTLED_SECONDS = 2   # a file that changed later than that may change again within its time stamp


def remembered(prefix: str, compute: Callable[[], str]) -> str:
    """The fingerprint of a checkpoint: the kept one where its files are unchanged.

    Args:
      prefix: of the checkpoint.
      compute: reads the checkpoint and returns its fingerprint.
    """
    state = state_of(prefix)
    if state is None:
        return compute()
    key = os.path.realpath(prefix)
    entry = _kept().get(key)
    if isinstance(entry, dict) and entry.get("state") == state and re.fullmatch(
            r"[0-9a-f]{64}", str(entry.get("fingerprint"))):
        return entry["fingerprint"]
    fingerprint = compute()
    if state_of(prefix) == state:
        _keep(key, {"state": state, "fingerprint": fingerprint})
    return fingerprint


def state_of(prefix: str) -> list[list[Any]] | None:
    """What changes when a file of a checkpoint does: [[name, inode, bytes, times in ns], ...].

    None where that is not known: for a file of another machine, or one that has just been written.
    """
    if paths.is_remote(prefix):
        return None
    folder, name = os.path.split(os.path.realpath(prefix))
    found = {file: os.stat(os.path.join(folder, file)) for file in paths.names_in(folder)
             if file.startswith(f"{name}.")}
    settled = time.time() - SETTLED_SECONDS
    if any(max(stat.st_mtime, stat.st_ctime) > settled for stat in found.values()):
        return None
    return [[file, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            for file, stat in sorted(found.items())]


def _kept() -> dict[str, Any]:
    """The contents of the file in the cache; {} if it cannot be read."""
    try:
        known = files.read_json(os.path.join(cache.folder(), FILE))
    except InputError:
        return {}
    return known if isinstance(known, dict) else {}


def _keep(key: str, entry: dict[str, Any]) -> None:
    """Adds an entry, as the newest, to the file in the cache; nothing where it is read-only."""
    known = {name: value for name, value in _kept().items() if name != key}
    newest = dict([*known.items(), (key, entry)][-MOST_KEPT:])
    with contextlib.suppress(OSError, InputError):
        files.write_json(os.path.join(cache.writable_folder(), FILE), newest)
