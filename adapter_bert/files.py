"""Whole files or none: what is written goes beside its place first and is then renamed."""
import contextlib
import datetime
import fcntl
import glob
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile

from absl import logging

from adapter_bert import paths
from adapter_bert.errors import InputError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def replacing(path):
    """A temporary path beside `path`; it takes the place of `path` when the block ends well.

    The folder is made where it is missing. A block that raises leaves `path` as it was. The
    temporary path of a file elsewhere (gs://...) is one of this machine.

    Raises:
      InputError: the folder cannot be made or written.
    """
    if paths.is_remote(path):
        with tempfile.NamedTemporaryFile() as file:
            yield file.name
            upload(file.name, path)
        return
    folder = os.path.dirname(os.path.abspath(path))
    make_folder(folder)
    handle, temporary = tempfile.mkstemp(
        dir=folder, prefix=f".{os.path.basename(path)}.", suffix=".part")
    os.close(handle)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename:
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}); make room or name "
                         "another place") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def upload(source, path):
    """Copies a file of this machine to another file system: beside its place, then renamed."""
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{name}.part")
    try:
        paths.make_folders(folder)
        paths.copy(source, beside)
        paths.move(beside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); look at the permissions, "
                         "or name another place") from error


@contextlib.contextmanager
def new_folder(path, replace=False):
    """A hidden folder to build in, which becomes `path` when the block ends well.

    A folder elsewhere (gs://...) is built on this machine, and its files are copied one by one.

    Args:
      path: of a folder that is not there, or empty.
      replace: whether a folder that is there is put away.

    Raises:
      InputError: something is there, or nothing can be written.
    """
    path = paths.absolute(path)
    is_there = (paths.exists(path) or os.path.islink(path)) and (
        not paths.is_folder(path) or paths.names_in(path))
    if is_there and not (replace and paths.is_folder(path)):
        raise InputError(f"{path}: exists and is no empty folder; name another one or remove it")
    if paths.is_remote(path):
        with tempfile.TemporaryDirectory() as place:
            yield place
            for name in sorted(os.listdir(place)):
                upload(os.path.join(place, name), os.path.join(path, name))
        return
    parent, name = os.path.split(path)
    make_folder(parent)
    with tempfile.TemporaryDirectory(
            dir=parent, prefix=f".{name}.", suffix=".part", ignore_cleanup_errors=True) as around:
        place = os.path.join(around, "new")
        os.mkdir(place)
        yield place
        for below, _, names in os.walk(place):
            for written in names:
                with open(os.path.join(below, written), "rb") as file:
                    os.fsync(file.fileno())
        if is_there:
            os.rename(path, os.path.join(around, "old"))
        os.rename(place, path)


def make_folder(folder):
    """Makes `folder` where it is missing and checks that files can be written in it."""
    try:
        paths.make_folders(folder)
        if not paths.is_remote(folder):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); "
                         "name a folder that can") from error


@contextlib.contextmanager
def locked(folder):
    """Keeps every other process that locks `folder` out while the block runs.

    The folder is made where it is missing. What a killed process left half-written goes. The lock
    ends with its process, however that ends; the file says who holds it. Other file systems
    (gs://...) have no locks.

    Raises:
      InputError: another process holds the lock, or the folder cannot be written.
    """
    make_folder(folder)
    if paths.is_remote(folder):
        logging.info("%s: cannot be locked there; see that no other run uses it", folder)
        yield
        return
    path = os.path.join(folder, LOCK_FILE)
    handle = _lock(path)
    try:
        for left in glob.glob(os.path.join(glob.escape(folder), ".*.part")):
            if os.path.isdir(left):
                shutil.rmtree(left, ignore_errors=True)
            else:
                os.remove(left)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        os.close(handle)


def _lock(path):
    """The handle of a lock file, locked, after this process was written into it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(handle)):
                os.ftruncate(handle, 0)
                os.write(handle, _this_process().encode())
                return handle
        except BlockingIOError as error:
            holder = os.pread(handle, 1000, 0).decode("utf-8", "replace")
            os.close(handle)
            raise InputError(f"{os.path.dirname(path)}: another run is at work there ({holder}); "
                             "wait for it, or name another folder") from error
        except OSError as error:
            os.close(handle)
            raise InputError(f"{path}: cannot be written ({error.strerror}); make room or name "
                             "another folder") from error
        os.close(handle)   # of a file that another process removed meanwhile


def _this_process():
    """Who holds a lock, and since when."""
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


def sha256(path):
    """The sha256 of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with paths.open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_bytes(path, content):
    """Writes bytes, whole or not at all; InputError where a folder is in their place."""
    if not paths.is_remote(path) and os.path.isdir(path):
        raise InputError(f"{path}: a folder is in the place of the file; remove it")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def write_text(path, text):
    """Writes `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path, value):
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path):
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


def read_object(path, *keys):
    """The dict in a JSON file that has these keys.

    Raises:
      InputError: the file is missing, is not JSON, or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds no JSON object, as files of that name do")
    missing = [key for key in keys if key not in value]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; it is damaged or another's file")
    return value


def open_plain(path, limit):
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


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
