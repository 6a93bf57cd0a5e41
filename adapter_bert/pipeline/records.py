"""TFRecord files that are written whole, once, and trusted only with the metadata beside them."""
import hashlib
import json
import os

import tensorflow.compat.v1 as tf

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.pipeline.features import serialize

FORMAT_VERSION = 1


def write_once(path, rows, spec, fingerprint):
    """Writes a TFRecord file, or keeps the one that was made of the same inputs.

    The metadata file, `path` + ".json", is removed first and written last, so that a file without
    it, or with one that does not fit, is never trusted.

    Args:
      path: where the TFRecord file goes.
      rows: iterable of dicts, see features.serialize; not read where the file is kept.
      spec: tuple of features.Feature.
      fingerprint: hex digest of everything that the rows are made of.

    Returns:
      The metadata: {"count", "sha256", "fingerprint", "tokens", "reused"}.
    """
    known = read_metadata(path, fingerprint)
    if known:
        return {**known, "reused": True}
    if os.path.exists(metadata_path(path)):
        os.remove(metadata_path(path))
    count = tokens = 0
    with files.replacing(path) as temporary, tf.io.TFRecordWriter(temporary) as writer:
        for row in rows:
            writer.write(serialize(spec, row))
            count += 1
            tokens += len(row["input_ids"])
    metadata = {"count": count, "sha256": files.sha256(path), "fingerprint": fingerprint,
                "tokens": tokens}
    files.write_json(metadata_path(path), metadata)
    return {**metadata, "reused": False}


def metadata_path(path):
    """Where the metadata of a TFRecord file lies."""
    return path + ".json"


def read_metadata(path, fingerprint):
    """The metadata of a TFRecord file of these inputs; None where there is no sound one."""
    try:
        metadata = files.read_object(metadata_path(path), "count", "sha256", "fingerprint",
                                     "tokens")
        is_sound = (metadata["fingerprint"], metadata["sha256"]) == (
            fingerprint, files.sha256(path))
        return metadata if is_sound else None
    except (InputError, OSError):
        return None


def fingerprint_of(examples, **inputs):
    """Hex sha256 of examples and of everything else that a record depends on."""
    digest = hashlib.sha256(json.dumps({"format": FORMAT_VERSION, **inputs},
                                       sort_keys=True).encode())
    for example in examples:
        digest.update(json.dumps(example).encode())
    return digest.hexdigest()
