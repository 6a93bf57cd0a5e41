"""Files of this machine, and of the other file systems that Beam knows, as gs://bucket/file."""
import contextlib
import glob
import os
import shutil
import tempfile

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from adapter_bert import files
from adapter_bert.errors import InputError


def is_remote(path):
    """Whether a path is one of another file system."""
    return "://" in path


def inputs(pattern):
    """The paths of the files that match a glob, or of the one file of that very name, sorted."""
    if os.path.isfile(pattern):
        return [pattern]
    return [path for path in matches(pattern) if not os.path.isdir(path)]


def matches(pattern):
    """The paths that match, sorted; Beam's own search finds none in the current folder."""
    if not is_remote(pattern):
        return sorted(glob.glob(pattern, recursive=True))
    return sorted(found.path for found in _matched(pattern))


def escaped(path):
    """A glob that matches the path alone."""
    return path if is_remote(path) else glob.escape(path)


def exists(path):
    """Whether there is a file."""
    return FileSystems.exists(path) if is_remote(path) else os.path.exists(path)


def size(path):
    """The bytes of a file."""
    return _matched(path)[0].size_in_bytes if is_remote(path) else os.path.getsize(path)


def open_file(path):
    """Opens a file for reading bytes."""
    if is_remote(path):
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return open(path, "rb")


@contextlib.contextmanager
def writing(path):
    """Opens a file for writing bytes; what is written goes again where the block raises.

    Raises:
      InputError: there is no room, or the file cannot be made.
    """
    if is_remote(path):
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield file
        return
    try:
        with open(path, "wb") as file:
            yield file
    except OSError as error:
        remove(path)
        raise InputError(f"{path}: cannot be written ({error.strerror}); make room or name another "
                         "place") from error


def remove(path):
    """Removes a file, if there is one; of another file system, a folder too."""
    if is_remote(path):
        if exists(path):
            FileSystems.delete([path])
        return
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


@contextlib.contextmanager
def work_folder(path):
    """A hidden folder beside `path` for what is not whole yet, which goes when the block ends.

    What a killed process left there goes first.

    Raises:
      InputError: another process is at work on `path`, or nothing can be written.
    """
    folder, slash, name = path.rpartition("/")
    around = f"{folder}{slash}.{name}.work"
    if is_remote(path):
        remove(around)
        FileSystems.mkdirs(around)
        try:
            yield around
        finally:
            remove(around)
        return
    with files.locked(around):
        for left in filter(os.DirEntry.is_dir, os.scandir(around)):
            shutil.rmtree(left.path)
        try:
            yield tempfile.mkdtemp(dir=around)
        finally:
            shutil.rmtree(around)


def put_in_place(source, path):
    """Gives a whole file its name, in the place of what had it."""
    if is_remote(path):
        remove(path)
        FileSystems.rename([source], [path])
        return
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    os.replace(source, path)


def _matched(pattern):
    """What Beam knows of the files that match."""
    try:
        return FileSystems.match([pattern])[0].metadata_list
    except (BeamIOError, ValueError) as error:   # for one, a library for gs:// is not installed
        raise InputError(f"{pattern}: {error}") from error
