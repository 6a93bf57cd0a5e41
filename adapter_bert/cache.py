"""The folder for what can be computed or downloaded again: kernels, packs of hubs, bases."""
import os
import stat

from adapter_bert import files
from adapter_bert.errors import InputError

VARIABLE = "ADAPTER_BERT_CACHE"


def folder(*names: str) -> str:
    """A folder of the cache, which may not exist yet.

    The cache is $ADAPTER_BERT_CACHE, else $XDG_CACHE_HOME/adapter-bert, else
    ~/.cache/adapter-bert.

    Args:
      *names: of folders below that of the cache.

    Raises:
      InputError: neither variable is set, and this user has no home folder.
    """
    root = os.path.expanduser(os.environ.get(VARIABLE, ""))
    if not root:
        parent = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(parent):   # as its specification says
            parent = os.path.expanduser("~/.cache")
        if not os.path.isabs(parent):
            raise InputError(f"no folder for the cache: this user has no home folder; set "
                                 f"the environment variable {VARIABLE} to a folder")
        root = os.path.join(parent, "adapter-bert")
    return os.path.join(root, *names)


def writable_folder(*names: str) -> str:
    """`folder`, created if it is missing.

    Raises:
      InputError: it cannot be written.
    """
    place = folder(*names)
    try:
        files.make_folder(place)
    except InputError as error:
        raise InputError(f"{error}: set the environment variable {VARIABLE} to it") from error
    return place


def private_folder(*names: str) -> str:
    """`writable_folder`, which only this user can change; for files that are run.

    Raises:
      InputError: it cannot be written, or others can change it.
    """
    place = writable_folder(*names)
    if os.lstat(place).st_uid == os.getuid() and not os.path.islink(place):
        os.chmod(place, 0o700)
    if not is_trusted(place):
        raise InputError(f"{place}: is a link, or a folder that other users can change, so nothing "
                         f"is run from it; remove it, or set the environment variable {VARIABLE}")
    return place


def is_trusted(path: str) -> bool:
    """Whether a file or folder belongs to this user or to root, and nobody else may write it."""
    state = os.lstat(path)
    return (not stat.S_ISLNK(state.st_mode) and state.st_uid in (0, os.getuid())
            and not state.st_mode & 0o022)
