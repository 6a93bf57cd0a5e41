"""Packs as versions of a SavedModel, for TensorFlow Serving and everybody who loads one.

    NAME/1/saved_model.pb, variables/          the graph and its weights
    NAME/1/assets/                             pack.json, labels.txt, vocab.txt
    NAME/1/assets.extra/tf_serving_warmup_requests

The operations are those of TensorFlow and, where texts come in, one of tensorflow-text,
FastWordpieceTokenizeWithOffsets. TensorFlow Serving's server links both libraries (see
tensorflow_serving/model_servers/BUILD); SERVING_VERSION is the tag of the image that is meant.
"""
import contextlib
import glob
import os
import shutil
import tempfile

import tensorflow.compat.v1 as tf
from tensorflow.compat.v1 import saved_model

from adapter_bert import base, files
from adapter_bert.errors import InputError
from adapter_bert.packs import store
from adapter_bert.packs.bases import base_of, check_base
from adapter_bert.serving import signatures, warmup
from adapter_bert.serving.single import SingleTask

SERVING_VERSION = "2.15.1"


def export(bert_dir, packs, output, version=None, ids_only=False):
    """Writes a version of a SavedModel, whole or not at all.

    Args:
      bert_dir: folder of the base, in Google's form.
      packs: list of one path of a pack made on it.
      output: DIR/NAME, NAME that of the served model.
      version: int from 1; the next after those that are there where None.
      ids_only: word-piece ids come in, not texts: the graph needs no tensorflow-text.

    Returns:
      The path of the version.

    Raises:
      InputError: the pack is not sound or of another base, or the version is there.
    """
    if len(packs) != 1:
        raise InputError(f"{len(packs)} packs: a SavedModel holds one; export each to an --output "
                         "of its own")
    pack, located = store.read(packs[0]), base.locate(bert_dir)
    check_base(base_of(bert_dir), pack.manifest)
    with files.locked(output):
        path = _place(output, version)
        with _made_whole(path) as folder:
            _write(folder, located, pack, ids_only, os.path.basename(os.path.abspath(output)))
    return path


def _write(folder, located, pack, ids_only, name):
    """Fills the folder of a version."""
    with tf.Graph().as_default(), tf.Session() as session:
        task = SingleTask(located, pack, ids_only)
        ways = signatures.signatures(task)
        task.restore(session)
        builder = saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(
            session, [saved_model.tag_constants.SERVING], ways, strip_default_attrs=True,
            saver=tf.train.Saver(tf.global_variables()))
        builder.save()
    warmup.write(folder, name, ways, pack.manifest.max_seq_length)
    assets = os.path.join(folder, "assets")
    os.makedirs(assets, exist_ok=True)
    files.write_bytes(os.path.join(assets, store.MANIFEST_FILE), pack.manifest.to_bytes())
    files.write_text(os.path.join(assets, "labels.txt"),
                     "".join(f"{label}\n" for label in pack.manifest.labels))
    shutil.copyfile(located.vocab_file, os.path.join(assets, base.VOCAB_FILE))


def _place(output, version):
    """The path of a version that is not there yet."""
    there = [int(name) for name in os.listdir(output) if name.isascii() and name.isdigit()]
    version = max(there, default=0) + 1 if version is None else version
    if version < 1:
        raise InputError(f"--version={version}: versions are whole numbers from 1")
    path = os.path.join(output, str(version))
    if version in there:
        raise InputError(f"{path}: is there already, and versions do not change; leave --version "
                         "out for the next one")
    return path


@contextlib.contextmanager
def _made_whole(path):
    """A hidden folder beside `path`, renamed to it when the block ends well, else removed.

    TensorFlow Serving loads a version as soon as its folder is there.
    """
    place, name = os.path.split(os.path.abspath(path))
    for left in glob.glob(os.path.join(glob.escape(place), ".*.new")):   # by a killed process
        shutil.rmtree(left)
    folder = tempfile.mkdtemp(".new", f".{name}.", place)
    try:
        yield folder
        os.chmod(folder, os.stat(place).st_mode & 0o777)
        os.rename(folder, path)
    except tf.errors.OpError as error:
        raise InputError(f"{path}: cannot be written ({error.message.splitlines()[0]}); "
                         "make room or name another place") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
