"""Which process does a run: a file in a folder that processes and machines share.

A claim is a file that its owner keeps locked. It appears with content and lock at once (a link to a
file that is locked already), so of several processes one has it. The lock ends with its process, so
on one machine a claim without a lock is nobody's. Locks of other machines may not be seen; there a
claim is nobody's when it has not been touched for STALE_SECONDS, and its owner touches it more
often. Limits: the folder's file system must link atomically (local ones and NFS do), clocks must
agree to some minutes, and a machine that sleeps longer than STALE_SECONDS may do a run a second
time, which costs time and changes no result. Machines are told apart by their names.
"""
import contextlib
import fcntl
import json
import os
import platform
import tempfile
import threading
import time

TOUCH_SECONDS, STALE_SECONDS, ALONE = 30, 600, ".alone"


@contextlib.contextmanager
def claimed(folder, name):
    """Whether this process has the claim of a name, for as long as the block runs.

    Args:
      folder: of the claims; made where it is missing.
      name: str, a file name.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    _remove_dead(path)
    handle = _take(folder, path)
    if handle is None:
        yield False
        return
    is_over = threading.Event()
    toucher = threading.Thread(target=_touch, args=(handle, is_over), daemon=True)
    toucher.start()
    try:
        yield True
    finally:
        is_over.set()
        toucher.join()
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):   # else it is another's by now
                os.remove(path)
        os.close(handle)


@contextlib.contextmanager
def alone(folder):
    """Keeps other processes that ask for the same out while the block runs; they wait.

    Args:
      folder: of the claims; made where it is missing.
    """
    os.makedirs(folder, exist_ok=True)
    handle = os.open(os.path.join(folder, ALONE), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def owners(folder):
    """{name: {"host", "pid"}} of the claims in a folder."""
    found = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if not name.startswith("."):
            with contextlib.suppress(OSError, ValueError), open(
                    os.path.join(folder, name), encoding="utf-8") as file:
                found[name] = json.load(file)
    return found


def sweep_out(folder):
    """Removes what processes that were killed while taking a claim left behind."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
            if name.startswith(".") and name != ALONE and (
                    time.time() - os.path.getmtime(path) > STALE_SECONDS):
                os.remove(path)


def _take(folder, path):
    """The locked file that is now the claim; None where another process was faster."""
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, json.dumps({"host": platform.node(), "pid": os.getpid()}).encode())
        os.fsync(handle)
        os.link(temporary, path)
        return handle
    except FileExistsError:
        os.close(handle)
        return None
    finally:
        os.remove(temporary)


def _remove_dead(path):
    """Removes a claim whose owner is gone. Only who holds the lock of a claim removes it."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(handle)
        is_dead = _host(handle) == platform.node() or (
            time.time() - status.st_mtime > STALE_SECONDS)
        if is_dead and os.path.samestat(status, os.stat(path)):
            os.remove(path)
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        os.close(handle)


def _host(handle):
    """The host that an open claim names; None where a crash of the machine left it damaged."""
    try:
        return json.loads(os.read(handle, 1000))["host"]
    except (ValueError, KeyError, TypeError):
        return None


def _touch(handle, is_over):
    """Tells other machines now and then that the owner lives."""
    while not is_over.wait(TOUCH_SECONDS):
        with contextlib.suppress(OSError):   # a share that is away for a moment, too
            os.utime(handle)
