"""Write files and folders whole or not at all, and lock folders against other processes.

What is written goes into a hidden folder beside its destination first,

    .NAME.RANDOM.part/.lock    locked while its writer lives
    .NAME.RANDOM.part/NAME     a file that will become NAME
    .NAME.RANDOM.part/new      or a folder that will become NAME
    .NAME.RANDOM.part/old      the folder that NAME was, between the two steps of its replacement

so that a process that is killed at any moment leaves the old NAME or the new one. `clean_up`
removes such folders of dead processes, and puts an old NAME back that has no successor yet.
"""
import contextlib
import ctypes
import datetime
import errno
import glob
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import filelock
from absl import logging

from adapter_bert import paths
from adapter_bert.errors import InputError

LOCK_FILE = ".lock"
_NEW, _OLD = "new", "old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2   # of Linux's renameat2
_CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_HAS_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary path for a file; the file replaces `path` when the block ends without an error.

    The folder of `path` is created if it is missing. A block that raises leaves `path` unchanged.
    For a file on another file system (gs://...) the temporary path is on this machine.

    Raises:
      InputError: the folder cannot be created or written.
    """
    if paths.is_remote(path):
        with tempfile.NamedTemporaryFile() as file:
            yield file.name
            upload(file.name, path)
        return
    folder, name = os.path.split(os.path.abspath(path))
    make_folder(folder)
    try:
        with part_folder(folder, name) as around:
            temporary = os.path.join(around, name)
            with open(temporary, "xb"):
                pass
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except OSError as error:
        if error.filename:
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}); free some space or "
                         "choose another path") from error


def upload(source: str, path: str | os.PathLike[str]) -> None:
    """Copies a file of this machine to another file system: beside its destination, then renamed.

    Raises:
      InputError: it cannot be written there.
    """
    folder, name = os.path.split(os.fspath(path))
    beside = os.path.join(folder, f".{name}.part")
    try:
        paths.make_folders(folder)
        paths.copy(source, beside)
        paths.move(beside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the permissions "
                         "or choose another path") from error


@contextlib.contextmanager
def new_folder(path: str, replace: bool = False) -> Iterator[str]:
    """A hidden folder to fill, which becomes `path` when the block ends without an error.

    A folder on another file system (gs://...) is filled on this machine, and its files are copied
    one by one.

    Args:
      path: of a folder that does not exist, or is empty.
      replace: whether an existing folder is replaced.

    Raises:
      InputError: `path` exists, or nothing can be written there.
    """
    path = paths.absolute(path)
    if not paths.is_remote(path):
        clean_up(os.path.dirname(path))
    is_there = (paths.exists(path) or os.path.islink(path)) and (
        not paths.is_folder(path) or bool(paths.names_in(path)))
    if is_there and not (replace and paths.is_folder(path)):
        raise InputError(f"{path}: exists and is not an empty folder; remove it or choose another "
                         "path")
    if paths.is_remote(path):
        with tempfile.TemporaryDirectory() as place:
            yield place
            for name in sorted(os.listdir(place)):
                upload(os.path.join(place, name), os.path.join(path, name))
        return
    parent, name = os.path.split(path)
    make_folder(parent)
    with part_folder(parent, name) as around:
        place = os.path.join(around, _NEW)
        os.mkdir(place)
        yield place
        _flush_folder(place)
        if not is_there:
            os.rename(place, path)
        elif not _exchange(place, path):
            os.rename(path, os.path.join(around, _OLD))
            os.rename(place, path)   # who is killed before it: clean_up puts the old one back


@contextlib.contextmanager
def part_folder(folder: str, name: str) -> Iterator[str]:
    """A hidden folder in `folder` for an unfinished `name`, removed when the block ends.

    It holds a lock while the block runs, so that `clean_up` of another process leaves it alone.
    """
    around, lock = _locked_part(folder, name)
    try:
        yield around
    finally:
        _restore(around)
        if lock:
            lock.release()
        shutil.rmtree(around, ignore_errors=True)


def _locked_part(folder: str, name: str) -> tuple[str, filelock.BaseFileLock | None]:
    """A new hidden folder and its lock; None on a file system that has no locks."""
    while True:
        around = tempfile.mkdtemp(dir=folder, prefix=f".{name}.", suffix=".part")
        try:
            return around, _lock(os.path.join(around, LOCK_FILE))
        except (filelock.Timeout, FileNotFoundError):   # just cleaned up by another process
            continue
        except OSError as error:
            if error.errno in _HAS_NO_LOCKS:
                return around, None
            shutil.rmtree(around, ignore_errors=True)
            raise


def _restore(around: str) -> None:
    """Puts the old folder back if its writer ended before the new one was in place."""
    old = os.path.join(around, _OLD)
    folder, hidden = os.path.split(around)
    path = os.path.join(folder, hidden[1:].rsplit(".", 2)[0])
    if os.path.lexists(old) and not os.path.lexists(path):
        os.rename(old, path)


def _flush_folder(folder: str) -> None:
    """Waits until all files below a folder are on the disk."""
    for below, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(below, name), "rb") as file:
                os.fsync(file.fileno())


def _exchange(path: str, other: str) -> bool:
    """Swaps two paths in one step, so that neither name is ever missing; False if unsupported."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other),
                 _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), path, None, other)


def clean_up(folder: str | os.PathLike[str]) -> None:
    """Removes what killed processes left unfinished in `folder`; what a live one writes stays."""
    for around in glob.glob(os.path.join(glob.escape(os.fspath(folder)), ".*.part")):
        if not os.path.isdir(around) or os.path.islink(around):
            continue
        with contextlib.suppress(OSError):   # its writer lives, or it is another user's
            lock = _lock(os.path.join(around, LOCK_FILE))
            try:
                _restore(around)
                shutil.rmtree(around)
            finally:
                lock.release()


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Creates `folder` if it is missing and checks that files can be written in it.

    Raises:
      InputError: they cannot.
    """
    try:
        paths.make_folders(folder)
        if not paths.is_remote(folder):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); "
                         "choose a folder that can") from error


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps every other process that locks `folder` out while the block runs.

    The folder is created if it is missing, and cleaned up. The lock ends with its process, however
    that ends, and the lock file names the process. Other file systems (gs://...) have no locks.

    Raises:
      InputError: another process holds the lock, or the folder cannot be written.
    """
    make_folder(folder)
    if paths.is_remote(folder):
        logging.info("%s: cannot be locked there; make sure that no other run uses it", folder)
        yield
        return
    path = os.path.join(folder, LOCK_FILE)
    lock = _lock_or_refuse(path)
    try:
        clean_up(folder)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)   # before the release: afterwards it may be another process's
        lock.release()


def _lock_or_refuse(path: str) -> filelock.BaseFileLock:
    """The lock of a lock file, after this process was written into it."""
    try:
        lock = _lock(path)
    except filelock.Timeout as error:
        raise InputError(f"{os.path.dirname(path)}: another run is at work there ({_holder(path)});"
                         " wait for it or choose another folder") from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        # A link that was put there since is not followed: it could name any file.
        opened = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        with open(opened, "w", encoding="utf-8") as file:
            file.write(_this_process())
    except OSError as error:
        lock.release()
        raise _unwritable(path, error) from error
    return lock


def _unwritable(path: str, error: OSError) -> InputError:
    if error.errno == errno.ELOOP:
        return InputError(f"{path}: is a symbolic link, which a lock file must not be; remove it")
    return InputError(f"{path}: cannot be written ({error.strerror}); free some space or choose "
                      "another folder")


def _holder(path: str) -> str:
    """The process that a lock file names."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1000) or "unknown process"
    except OSError:
        return "unknown process"


def _lock(path: str, timeout: float = 0) -> filelock.BaseFileLock:
    """A lock by the kernel's flock, which ends with its process.

    Raises:
      filelock.Timeout: another process holds it.
      OSError: the file cannot be opened, or the file system has no locks.
    """
    # Another kind of lock, which filelock would fall back to, outlives a killed process.
    lock = filelock.FileLock(path, timeout, thread_local=False, fallback_to_soft=False)
    lock.acquire()
    return lock


def _this_process() -> str:
    """Who holds a lock, and since when."""
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


def sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with paths.open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_all(path: str) -> str:
    """The sha256 of a file, or of the names and contents of all files below a folder."""
    if not os.path.isdir(path):
        return sha256(path)
    digest = hashlib.sha256()
    for name in sorted(os.path.relpath(os.path.join(below, name), path)
                       for below, _, names in os.walk(path) for name in names):
        digest.update(f"{name} {sha256(os.path.join(path, name))}\n".encode())
    return digest.hexdigest()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes bytes, whole or not at all; InputError if `path` is a folder."""
    if not paths.is_remote(path) and os.path.isdir(path):
        raise InputError(f"{path}: is a folder, and a file is to be written; remove it")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def one_line_a_key(value: dict[str, Any]) -> str:
    """A dict as JSON text with one line per key, however long: compact, but still readable."""
    lines = (f" {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file, with or without a byte order mark.

    Raises:
      InputError: the file is missing or is not JSON.
    """
    try:
        with paths.open_file(path) as file:
            return json.loads(file.read().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error


def read_object(path: str | os.PathLike[str], *keys: str) -> dict[str, Any]:
    """The dict in a JSON file that has these keys.

    Raises:
      InputError: the file is missing, is not JSON, or contains something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: contains no JSON object, as files of this name do")
    missing = [key for key in keys if key not in value]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; it is damaged, or was written by "
                         "another program")
    return value


def open_plain(path: str, limit: int) -> BinaryIO:
    """Opens a file for reading bytes, if it is a plain file of at most `limit` bytes.

    Raises:
      InputError: it is missing, a link, a folder, a device, or longer.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: not a plain file that can be read ({error.strerror}); "
                         "links are not followed") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        os.close(handle)
        raise InputError(f"{path}: not a plain file, or of more than {limit:,} bytes")
    return os.fdopen(handle, "rb")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
