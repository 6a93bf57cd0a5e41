"""TFRecord files that are written whole, once, and trusted only with the metadata beside them."""
import contextlib
import hashlib
import json
import os
import shutil

import tensorflow.compat.v1 as tf

from adapter_bert import files, paths, processes
from adapter_bert.data.example_codec import serialize
from adapter_bert.errors import InputError

FORMAT_VERSION = 1
ROWS_A_PROCESS = 1000


def write_once(path, rows_between, count, spec, fingerprint):
    """Writes a TFRecord file on all cores, or keeps the one that was made of the same inputs.

    The metadata file, `path` + ".json", is removed first and written last, so that a file without
    it, or with one that does not fit, is never trusted.

    Args:
      path: where the TFRecord file goes.
      rows_between: function (start, stop) -> iterable of example_codec.Rows of these examples; not
        called where the file is kept.
      count: examples in all, each of which makes one record or more.
      spec: tuple of features.Feature.
      fingerprint: hex digest of everything that the rows are made of.

    Returns:
      The metadata: {"count", "sha256", "fingerprint", "tokens", "cut", "reused"}, count that of
      records and cut that of those whose text was cut (not in files of earlier versions).
    """
    known = read_metadata(path, fingerprint)
    if known:
        return {**known, "reused": True}
    if paths.exists(metadata_path(path)):
        paths.remove(metadata_path(path))
    with files.replacing(path) as temporary:
        written, tokens, cut = write_parts(temporary, rows_between, count, spec)
    metadata = {"count": written, "sha256": files.sha256(path), "fingerprint": fingerprint,
                "tokens": tokens, "cut": cut}
    files.write_json(metadata_path(path), metadata)
    return {**metadata, "reused": False}


def write_parts(path, rows_between, count, spec):
    """Writes examples 0 to `count`, a part a process, and puts the parts together.

    Returns (records, tokens, records of texts that were cut).

    A TFRecord file after another is a TFRecord file.
    """
    parts = max(1, min(len(os.sched_getaffinity(0)), count // ROWS_A_PROCESS))
    if parts == 1:
        return write_rows(path, rows_between(0, count), spec)
    ends = [count * part // parts for part in range(parts + 1)]
    paths = [f"{path}.{part}" for part in range(parts)]

    def write_part(part):
        return write_rows(paths[part], rows_between(ends[part], ends[part + 1]), spec)

    try:
        counts = processes.map_forked(write_part, range(parts))
        os.replace(paths[0], path)
        with open(path, "ab") as whole:
            for part in paths[1:]:
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, whole, 1 << 20)
    finally:
        for part in paths:
            with contextlib.suppress(FileNotFoundError):
                os.remove(part)
    written, tokens, cut = map(sum, zip(*counts, strict=True))
    return written, tokens, cut


def write_rows(path, rows, spec):
    """Writes rows into a TFRecord file; returns (records, tokens, records cut)."""
    written = tokens = cut = 0
    with tf.io.TFRecordWriter(path) as writer:
        for some in rows:
            for record in serialize(spec, some):
                writer.write(record)
            written += len(some.lengths)
            tokens += int(some.lengths.sum())
            cut += some.cut
    return written, tokens, cut


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
