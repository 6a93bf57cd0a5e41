"""Packs as versions of a SavedModel, for TensorFlow Serving and everybody who loads one.

    NAME/1/saved_model.pb, variables/          the graph and its weights
    NAME/1/assets/                             pack.json, labels.txt, vocab.txt; of many packs
                                               pack-TASK.json, labels-TASK.txt, tasks.txt
    NAME/1/assets.extra/tf_serving_warmup_requests

The operations are those of TensorFlow and, where texts come in, one of tensorflow-text,
FastWordpieceTokenizeWithOffsets. TensorFlow Serving's server links both libraries (see
tensorflow_serving/model_servers/BUILD); SERVING_VERSION is the tag of the image that is meant.
"""
import os
import shutil
import urllib.parse

import tensorflow.compat.v1 as tf
from tensorflow.compat.v1 import saved_model

from adapter_bert import files, paths
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.export import savedmodel_signatures, warmup
from adapter_bert.export.savedmodel_multi import ManyTasks
from adapter_bert.export.savedmodel_single import SingleTask
from adapter_bert.packs import store
from adapter_bert.packs.answers import check_head
from adapter_bert.packs.bases import base_of, check_base

SERVING_VERSION = "2.15.1"
LAST_VERSION = 2**63 - 1   # TensorFlow Serving's int64
LONGEST_NAME = 200   # bytes of a task's in the name of a file


def export(bert_dir, packs, output, version=None, ids_only=False):
    """Writes a version of a SavedModel, whole or not at all.

    Args:
      bert_dir: folder of the base, in Google's form.
      packs: list of paths of packs made on it; of more than one, each row names its task.
      output: DIR/NAME, NAME that of the served model.
      version: int from 1; the next after those that are there where None.
      ids_only: word-piece ids come in, not texts: the graph needs no tensorflow-text.

    Returns:
      The path of the version.

    Raises:
      InputError: a pack is not sound or of another base, packs cannot share a graph, or the
        version is there.
    """
    paths.refuse_patterns(paths.absolute(output))
    located, found = checkpoint_io.locate(bert_dir), base_of(bert_dir)
    packs = [store.read(path) for path in packs]
    manifests = [pack.manifest for pack in packs]
    for manifest in manifests:
        check_base(found, manifest)
        check_head(manifest)
    assets, name = _assets(manifests), os.path.basename(os.path.abspath(output))
    with tf.Graph().as_default() as graph:
        served = (SingleTask(located, packs[0], ids_only) if len(packs) == 1
                  else ManyTasks(located, packs, ids_only))
    with files.locked(output):
        path = _place(output, version)
        try:
            with files.new_folder(path) as folder:   # TensorFlow Serving loads it once there
                ways = _write(folder, graph, served)
                longest = max(manifests, key=lambda manifest: manifest.max_seq_length)
                warmup.write(folder, name, ways, longest)
                _write_assets(folder, assets, located.vocab_file)
                os.chmod(folder, os.stat(output).st_mode & 0o777)
        except tf.errors.OpError as error:
            raise InputError(f"{path}: cannot be written ({error.message.splitlines()[0]}); "
                             "make room or name another place") from error
    return path


def _write(folder, graph, served):
    """Writes the graph and its weights; {name: SignatureDef}."""
    with graph.as_default(), tf.Session() as session:
        ways = savedmodel_signatures.signatures(served)
        served.restore(session)
        builder = saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(
            session, [saved_model.tag_constants.SERVING], ways, strip_default_attrs=True,
            saver=tf.train.Saver(tf.global_variables()))
        builder.save()
    return ways


def _assets(manifests):
    """{name of a file: its bytes}: what the packs say of themselves, and their labels."""
    if len(manifests) == 1:
        return _assets_of(manifests[0], "")
    assets = {"tasks.txt": _lines(manifest.task for manifest in manifests)}
    for manifest in manifests:
        name = urllib.parse.quote(manifest.task, safe=" ")   # whose slashes make no folder
        if len(name) > LONGEST_NAME:
            raise InputError(f"{manifest.task[:40]}...: too long a name of a task for that of a "
                             "file; give it another with adapter-bert pack describe --task")
        assets |= _assets_of(manifest, f"-{name}")
    return assets


def _assets_of(manifest, end):
    stem, kind = os.path.splitext(store.MANIFEST_FILE)
    return {f"{stem}{end}{kind}": manifest.to_bytes(),
            f"labels{end}.txt": _lines(manifest.labels)}


def _lines(texts):
    return "".join(f"{one}\n" for one in texts).encode("utf-8")


def _write_assets(folder, assets, vocab_file):
    place = os.path.join(folder, "assets")
    os.makedirs(place, exist_ok=True)
    for name, content in assets.items():
        files.write_bytes(os.path.join(place, name), content)
    shutil.copyfile(vocab_file, os.path.join(place, checkpoint_io.VOCAB_FILE))


def _place(output, version):
    """The path of a version that is not there yet."""
    there = [int(name) for name in os.listdir(output) if name.isascii() and name.isdigit()]
    version = max(there, default=0) + 1 if version is None else version
    if not 1 <= version <= LAST_VERSION:
        raise InputError(f"--version={version}: versions are whole numbers from 1 to "
                         f"{LAST_VERSION}; choose one that is not in {output} yet")
    path = os.path.join(output, str(version))
    if version in there:
        raise InputError(f"{path}: is there already, and versions do not change; leave --version "
                         "out for the next one")
    return path
