"""What is done with a path, of this machine or of a file system that TensorFlow knows (gs://...).

Files of another file system are read by way of a copy in this machine's folder for temporary files,
and written by way of one. TensorFlow is loaded for such paths only: data code does without it.
"""
import contextlib
import errno
import glob
import importlib
import os
import shutil
import tempfile

from adapter_bert.errors import InputError


def is_remote(path):
    """Whether a path names its file system, as gs://bucket/folder does."""
    return "://" in os.fspath(path)


def is_known(path):
    """Whether TensorFlow here has the file system of a path."""
    scheme = os.fspath(path).partition("://")[0]
    return not is_remote(path) or scheme in _tensorflow().io.gfile.get_registered_schemes()


def refuse_patterns(path: str) -> None:
    """InputError if TensorFlow would take a path of a checkpoint for a pattern of paths."""
    if set("*?[\\") & set(path):
        raise InputError(f"{path}: TensorFlow reads * ? [ \\ in paths of checkpoints as patterns; "
                         "choose a path without them, or move the folder")


def absolute(path):
    """The path from the root of its file system."""
    return path if is_remote(path) else os.path.abspath(path)


def exists(path):
    """Whether a file or folder is there."""
    return _gfile("exists", path) if is_remote(path) else os.path.exists(path)


def is_folder(path):
    """Whether a folder is there."""
    return _gfile("isdir", path) if is_remote(path) else os.path.isdir(path)


def refuse_pipe(path: str) -> None:
    """InputError for a pipe or device: data files are read more than once."""
    if not is_remote(path) and os.path.exists(path) and not (
            os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path}: is a pipe or device, which cannot be read twice; write its "
                         "content to a file first")


def names_in(folder):
    """The names in a folder; none where there is no such folder."""
    if is_remote(folder):
        found = _gfile("listdir", folder) if exists(folder) else []
        return [name.rstrip("/") for name in found]
    return os.listdir(folder) if os.path.isdir(folder) else []


def matching(pattern):
    """The paths that match a glob."""
    return _gfile("glob", pattern) if is_remote(pattern) else glob.glob(pattern)


def size(path):
    """Bytes of a file."""
    return _gfile("stat", path).length if is_remote(path) else os.path.getsize(path)


def make_folders(folder):
    """Makes a folder, and those that it is in, where they are missing."""
    if is_remote(folder):
        _gfile("makedirs", folder)
    else:
        os.makedirs(folder, exist_ok=True)


def remove(path):
    """Removes a file."""
    if is_remote(path):
        _gfile("remove", path)
    else:
        os.remove(path)


def remove_all(path):
    """Removes a file, or a folder and what is in it."""
    if is_remote(path):
        _gfile("rmtree" if is_folder(path) else "remove", path)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def copy(source, destination):
    """Copies the bytes of a file over what is at `destination`."""
    if is_remote(source) or is_remote(destination):
        _gfile("copy", source, destination, overwrite=True)
    else:
        shutil.copyfile(source, destination)


def move(source, destination):
    """Gives a file of one file system another name there, in the place of what had it."""
    if is_remote(destination):
        _gfile("rename", source, destination, overwrite=True)
    else:
        os.replace(source, destination)


def open_file(path):
    """Opens a file for reading bytes."""
    if not is_remote(path):
        return open(path, "rb")
    here = tempfile.NamedTemporaryFile()   # noqa: SIM115 (the caller closes it)
    try:
        copy(path, here.name)
    except OSError:
        here.close()
        raise
    return here


def append(path, text):
    """Writes a text at the end of a file, which is made where it is missing."""
    if is_remote(path):
        with _as_os_errors(path), _tensorflow().io.gfile.GFile(path, "a") as file:
            file.write(text)
    else:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


@contextlib.contextmanager
def here(path):
    """A path of this machine for what asks for one: a copy of the same name, or the path itself."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        place = os.path.join(folder, os.path.basename(path))
        copy(path, place)
        yield place


def _tensorflow():
    return importlib.import_module("tensorflow")


def _gfile(function, path, *args, **options):
    with _as_os_errors(path):
        return getattr(_tensorflow().io.gfile, function)(path, *args, **options)


@contextlib.contextmanager
def _as_os_errors(path):
    """Turns TensorFlow's errors into those that Python raises for a path of this machine."""
    errors = _tensorflow().errors
    numbers = {errors.NotFoundError: errno.ENOENT, errors.PermissionDeniedError: errno.EACCES,
               errors.AlreadyExistsError: errno.EEXIST, errors.ResourceExhaustedError: errno.ENOSPC}
    try:
        yield
    except errors.OpError as error:
        number = numbers.get(type(error), errno.EIO)
        reason = " ".join((error.message or os.strerror(number)).split())
        raise OSError(number, reason, path) from error
