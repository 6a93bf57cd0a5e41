"""Sharing packs: a hub is a folder of NAME.zip files and the index.json that describes them.

Packs are pushed to a folder on this machine; they are pulled from there, from the same folder on
the web, or from Hugging Face's hub. The pack's file goes into the folder first, then the index, so
that no index names a file that is not there. What is pulled takes its place only when every byte
is checked. Importing this module does not import TensorFlow; what opens a pack does.
"""
import contextlib
import fcntl
import glob
import hashlib
import logging
import math
import os
from collections.abc import Iterator

import filelock

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.packs import index
from adapter_bert.packs.hub_sources import Mismatch, source_of

LOCK_FILE = ".lock"


def entries(hub):
    """What a hub holds: a list of index.Entry, ordered by name.

    Args:
      hub: folder, http:// or https:// address of one, or hf://owner/repo[@revision].

    Raises:
      InputError: there is no hub, or its index is damaged.
    """
    return index.parse(source_of(hub).read_index(), f"{hub}: {index.INDEX_FILE}")


def push(pack_path, hub, name, overwrite=False):
    """Puts a pack into a hub.

    Args:
      pack_path: folder or .zip of the pack.
      hub: folder; made where it is missing.
      name: what the hub shall call it.
      overwrite: whether another pack of that name is replaced.

    Returns:
      Whether anything was written: False where this very pack is there by that name.

    Raises:
      InputError: the pack or the hub is damaged, the hub is no folder, or the name is taken.
    """
    folder = _pushable(hub)
    index.check_name(name)
    entry, content = _zipped(pack_path, name)
    with _locked(folder):
        path = os.path.join(folder, entry.file)
        held = index.read(folder) if os.path.lexists(_index_of(folder)) else []
        is_there = os.path.lexists(path) and _sum_of(path) == (entry.bytes, entry.sha256)
        if is_there and entry in held:
            return False
        if os.path.lexists(path) and not is_there and not overwrite:
            raise InputError(f"{path}: another pack has this name; push with another --name, or "
                             "with --overwrite")
        text = index.to_bytes([*(other for other in held if other.name != name), entry])
        if not is_there:
            _write(path, content)
        _write(_index_of(folder), text)
        return True


def pull(hub, name, destination):
    """Brings a pack of a hub to this machine, whole and checked, or not at all.

    A .zip whose connection broke is kept as a hidden .part file beside the destination, and the
    next pull goes on from there.

    Args:
      hub: as for `entries`.
      name: of the pack there.
      destination: path that ends in .zip for a file; else a folder to make.

    Returns:
      Whether anything was written: False where this very pack is there.

    Raises:
      InputError: no such hub or pack, damage, or another thing in the place of the destination.
    """
    entry, destination = _find(hub, name), os.path.abspath(destination)
    if _is_there(destination, entry):
        return False
    try:
        _bring(hub, entry, destination)
    except InputError as error:
        again = _find(hub, name)   # a pack that was just replaced is younger than the index read
        if again == entry and not isinstance(error, Mismatch):
            raise
        _bring(hub, again, destination)
    return True


def fetch(hub: str, entry: index.Entry, folder: str) -> str:
    """The path of the very pack that an entry describes, whole and checked, on this machine.

    Args:
      hub: as for `entries`. A pack of a hub that is a folder is read where it lies.
      entry: of the hub.
      folder: where packs of other hubs are kept under their sha256, so that each is downloaded
        once, whatever its hub calls it.

    Raises:
      Mismatch: the hub has another pack by that name now.
      InputError: it cannot be downloaded, or `folder` cannot be written.
    """
    if "://" not in hub:
        return os.path.join(hub, entry.file)
    path = os.path.join(os.path.abspath(folder), f"{entry.sha256}.zip")
    if os.path.lexists(path):
        if _sum_of(path) == (entry.bytes, entry.sha256):
            return path
        os.remove(path)   # damaged since
    _bring(hub, entry, path)
    return path


def make_index(folder):
    """Writes a folder's index.json from the packs in it, without those that are damaged.

    A pack that the index of now describes, by size and sha256, is not opened again.

    Returns:
      The list of index.Entry; a warning is logged for each .zip that is left out.
    """
    folder = _pushable(folder)
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder")
    with _locked(folder):
        _refuse_other_index(folder)
        known = _known(folder)
        found = []
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.zip"))):
            try:
                found.append(_described(path, known))
            except InputError as error:
                logging.warning("left out: %s", error)
        _write(_index_of(folder), index.to_bytes(found))
    return found


def _refuse_other_index(folder):
    """InputError where index.json is another program's."""
    if os.path.lexists(_index_of(folder)) and not index.read_bytes(folder).startswith(
            index.BEGINNING):
        raise InputError(f"{_index_of(folder)}: not the index of a hub; move it away first")


def _described(path, known):
    """The Entry of a pack's file; `known` is {(name, bytes, sha256): Entry}."""
    from adapter_bert.packs import store  # imports TensorFlow
    name = os.path.basename(path).removesuffix(".zip")
    index.check_name(name)
    size, digest = _sum_of(path)
    if (name, size, digest) in known:
        return known[name, size, digest]
    return _entry(name, store.read(path).manifest, size, digest)


def _known(folder):
    """{(name, bytes, sha256): Entry} of a folder's index; {} where there is none to be trusted."""
    if not os.path.lexists(_index_of(folder)):
        return {}
    try:
        return {(entry.name, entry.bytes, entry.sha256): entry for entry in index.read(folder)}
    except InputError as error:
        logging.warning("the index is made from nothing: %s", error)
        return {}


def _bring(hub, entry, destination):
    """Fetches a pack to beside its destination, checks it, and moves it there."""
    folder, base = os.path.split(destination)
    files.make_folder(folder)
    part = os.path.join(folder, f".{base}.{entry.sha256[:16]}.part")
    with _open_part(part) as file:
        try:
            source_of(hub).fetch(entry, file)
            _check(part, file, entry)
            _place(part, entry, destination)
        except Mismatch:
            file.truncate(0)
            raise
        finally:
            if os.path.lexists(part) and os.fstat(file.fileno()).st_size == 0:
                os.remove(part)


@contextlib.contextmanager
def _open_part(path):
    """A file of which the beginning may be there; no other pull has it open."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); remove it") from error
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{path}: another pull is at work on it; wait for it") from error
        if not os.path.lexists(path) or not os.path.samestat(os.stat(path), os.fstat(handle)):
            raise InputError(f"{path}: another pull has just ended; see what it made")
        yield file


def _check(part, file, entry):
    """Mismatch where the file is not the pack that the entry describes."""
    from adapter_bert.packs import store  # imports TensorFlow
    file.flush()
    os.fsync(file.fileno())
    if _sum_of(part) != (entry.bytes, entry.sha256):
        raise Mismatch(f"{entry.file}: its size or sha256 is not the one in the index; pull "
                       "again, or tell the hub's owner to run adapter-bert pack index")
    try:
        manifest = store.read(part).manifest
    except InputError as error:
        raise Mismatch(f"{entry.file}: {error}") from error
    if _entry(entry.name, manifest, entry.bytes, entry.sha256) != entry:
        raise Mismatch(f"{entry.file}: the index describes another pack; tell the hub's owner to "
                       "run adapter-bert pack index")


def _place(part, entry, destination):
    """Moves a checked file to its destination, or what it holds to a folder."""
    from adapter_bert.packs import store  # imports TensorFlow
    if _is_there(destination, entry):   # since the pull began
        os.remove(part)
    elif destination.endswith(".zip"):
        os.replace(part, destination)
    else:
        pack = store.read(part)
        store.write(destination, pack, pack.manifest.weights.dtype)
        os.remove(part)


def _is_there(path, entry):
    """Whether the pack of an entry lies at `path`; False where nothing does.

    Raises:
      InputError: something else does.
    """
    if not os.path.lexists(path):
        return False
    try:
        if path.endswith(".zip"):
            size, digest = _sum_of(path)
        else:
            there, _ = _zipped(path, entry.name)
            size, digest = there.bytes, there.sha256
    except InputError as error:
        raise InputError(f"{path}: is in the way ({error}); remove it or name another") from error
    if (size, digest) != (entry.bytes, entry.sha256):
        raise InputError(f"{path}: another pack is there; name another place, or remove it")
    return True


def _sum_of(path):
    """(bytes, sha256) of a plain file; links are not followed."""
    digest = hashlib.sha256()
    with files.open_plain(path, index.PACK_LIMIT) as file:
        while block := file.read(1 << 20):
            digest.update(block)
        return file.tell(), digest.hexdigest()


def _zipped(path, name):
    """The Entry of a pack by a name, and the bytes of its .zip."""
    from adapter_bert.packs import store  # imports TensorFlow
    pack = store.read(path)
    content = store.to_zip(path, pack, pack.manifest.weights.dtype)
    return _entry(name, pack.manifest, len(content), hashlib.sha256(content).hexdigest()), content


def _entry(name, manifest, size, digest):
    """What an index says of a pack with this manifest.Manifest, in a file of this size and sum."""
    adapter = manifest.adapter
    return index.Entry(
        name, f"{name}.zip", size, digest, manifest.task, manifest.head, manifest.labels,
        manifest.tuning, adapter and {"size": adapter.size, "placement": _place_of(adapter)},
        manifest.base.name, manifest.base.fingerprint,
        sum(math.prod(shape) for shape in manifest.shapes().values()),
        manifest.metrics, manifest.license, manifest.description)


def _place_of(adapter):
    """Where an AdapterConfig puts bottlenecks; of other adapters what they are."""
    is_bottleneck = adapter.adapter_fn == "feedforward_adapter"
    return adapter.placement if is_bottleneck else adapter.adapter_fn


def _find(hub, name):
    """The entry of a name."""
    index.check_name(name)
    for entry in entries(hub):
        if entry.name == name:
            return entry
    raise InputError(f"{hub}: holds no pack {name}; see adapter-bert pack list")


def _pushable(hub):
    """The folder that a hub is."""
    source_of(hub)   # says so where it is no hub at all
    if "://" in hub:
        raise InputError(f"{hub}: packs are put into a folder; push to a folder and upload that, "
                         "e.g. hf upload owner/repo FOLDER .")
    return hub


def _index_of(folder):
    return os.path.join(folder, index.INDEX_FILE)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Waits until no other process changes a hub; the lock ends with its process."""
    files.make_folder(folder)
    path = os.path.join(folder, LOCK_FILE)
    # Everybody who may write in the folder may also lock it.
    lock = filelock.FileLock(path, mode=0o666, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); remove it if it is a link "
                         "or another user's") from error
    try:
        files.clean_up(folder)
        yield
    finally:
        lock.release()


def _write(path, content):
    """Writes bytes, whole or not at all, and on the disk before what is written next."""
    files.write_bytes(path, content)
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
