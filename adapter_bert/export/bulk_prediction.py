"""Predictions for files of any number, by an exported SavedModel in an Apache Beam pipeline.

    files -> rows -> RunInference -> OUTPUT-00000-of-0000N.jsonl
               \\-> bad rows -------> OUTPUT-bad-00000-0000N.jsonl
"""
import json
import os
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow.compat.v1 as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from adapter_bert import files
from adapter_bert import paths as local_paths
from adapter_bert.data import beam_files, beam_runner, padding
from adapter_bert.errors import InputError
from adapter_bert.export import bulk_rows
from adapter_bert.export.savedmodel_signatures import DEFAULT, IDS, PAIRS
from adapter_bert.kinds.conll import OUTSIDE
from adapter_bert.packs import answers, manifest, store

_BATCHES = 32           # that are sorted by length together
_CHECKED_FILES = 100    # of which the header is read before anything runs
# No "-of-": before Beam puts the predictions in place it removes all of OUTPUT-*-of-*.jsonl.
_BAD_SHARDS = "-SSSSS-NNNNN"
_SUFFIX = ".jsonl"


class Counts(NamedTuple):
    """How many rows were predicted, and how many left out."""
    rows: int
    bad: int


class SavedModelHandler(ModelHandler[bulk_rows.Row, PredictionResult, Any]):
    """Runs an exported SavedModel on rows, those of like lengths together.

    Args:
      path: folder of the version.
      signature: name of one that takes `text_a`, or `text_a` and `text_b`.
      batch_size: int, rows in one call of the model.
    """

    def __init__(self, path, signature, batch_size):
        several = _BATCHES * batch_size
        super().__init__(min_batch_size=several, max_batch_size=several)
        self._path, self._signature, self._batch_size = path, signature, batch_size

    def load_model(self):
        """Loaded; Beam keeps one in a process."""
        return Loaded(self._path, self._signature)

    def run_inference(self, batch, model, inference_args=None):
        """A PredictionResult of each Row, in their order."""
        found = {}
        characters = [sum(map(len, row.texts)) for row in batch]
        for numbers in padding.by_length(characters, self._batch_size):
            texts = [batch[one].texts for one in numbers]
            found.update(zip(numbers, _answers(texts, model(texts), model.labels), strict=True))
        return [PredictionResult(row, found[number], self._path)
                for number, row in enumerate(batch)]


class Loaded:
    """A signature of a SavedModel in a session of its own, so that no other graph matters.

    Attributes:
      labels: those of its pack; () if it has many.
    """

    def __init__(self, path, signature):
        import tensorflow_text  # noqa: F401  registers its operation
        with tf.Graph().as_default():
            self._session = tf.Session()
            loaded = tf.saved_model.load(self._session, ["serve"], path)
        self._signature, self.labels = loaded.signature_def[signature], _labels(path)

    def __call__(self, texts):
        """{name of an output: array of shape (B, ...)} of B times (text_a,) or (text_a, text_b)."""
        columns = zip(("text_a", "text_b"), zip(*texts, strict=True), strict=False)
        fed = {self._signature.inputs[name].name: column for name, column in columns}
        return self._session.run(
            {name: one.name for name, one in self._signature.outputs.items()}, fed)


class ReadRows(beam.DoFn):
    """The rows of a file; those that are bad go to the output "bad"."""

    def __init__(self, asked):
        self._asked = asked
        self._rows = Metrics.counter(beam_runner.NAMESPACE, "rows")
        self._bad = Metrics.counter(beam_runner.NAMESPACE, "bad")

    def process(self, path):
        """Yields each Row of the file at `path`."""
        with FileSystems.open(path) as file:
            for found in bulk_rows.read(path, file, self._asked):
                if isinstance(found, bulk_rows.Bad):
                    self._bad.inc()
                    yield beam.pvalue.TaggedOutput("bad", found)
                else:
                    self._rows.inc()
                    yield found


def predict(model, pattern, output, asked, batch_size=32, beam_flags=()):
    """Predicts every row of the files that match.

    Args:
      model: folder of a version that `export` wrote.
      pattern: glob of .txt, .tsv, .csv and .jsonl files, of any file system that Beam knows.
      output: prefix of the files to write; none of that name may be there.
      asked: bulk_rows.Asked.
      batch_size: int, rows in one call of the model.
      beam_flags: strings as "--runner=FlinkRunner", for Beam.

    Returns:
      Counts.

    Raises:
      InputError: a flag is wrong, a file is missing, or `model` is no exported one.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size={batch_size}: must be at least 1")
    handler = SavedModelHandler(model, _signature(model, asked), batch_size)
    paths = _inputs(pattern, asked)
    pipeline = beam_runner.pipeline(list(beam_flags))
    _check_output(output)
    _build(pipeline, paths, asked, handler, output)
    result = pipeline.run()
    result.wait_until_finish()
    return Counts(beam_runner.count(result, "rows"), beam_runner.count(result, "bad"))


def _build(pipeline, paths, asked, handler, output):
    """Puts the steps into a pipeline."""
    read = (pipeline | "Files" >> beam.Create(paths) | "A file each" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(ReadRows(asked)).with_outputs("bad", main="rows"))
    _ = (read.rows | "Spread" >> beam.Reshuffle() | "Predict" >> RunInference(handler)
         | "Prediction" >> beam.Map(_prediction_line)
         | "Write" >> beam.io.WriteToText(output, _SUFFIX))
    _ = (read.bad | "Bad row" >> beam.Map(lambda bad: _line(bad._asdict()))
         | "Write bad" >> beam.io.WriteToText(f"{output}-bad", _SUFFIX, skip_if_empty=True,
                                               shard_name_template=_BAD_SHARDS))


def _prediction_line(result):
    row = result.example
    return _line({"source": row.source, "line": row.line, "input": row.fields, **result.inference})


def _line(value):
    return json.dumps(value, ensure_ascii=False)


def _labels(path):
    """The labels of the pack that a SavedModel was made of; () of many."""
    try:
        with tf.io.gfile.GFile(os.path.join(path, "assets", store.MANIFEST_FILE), "rb") as file:
            return manifest.parse(file.read()).labels
    except tf.errors.NotFoundError:
        return ()


def _answers(texts, outputs, labels):
    """What the outputs of a signature say of each row, {name: value}."""
    name = next(name for name in _OUTPUTS if name in outputs)
    return _OUTPUTS[name](texts, outputs, labels)


def _scores(texts, outputs, labels):
    return [{"score": score} for score in outputs["score"].tolist()]


def _classes(texts, outputs, labels):
    columns = (outputs[name].tolist() for name in ("label", "labels", "probabilities"))
    return [{"label": label.decode(),
             "probabilities": dict(zip(map(bytes.decode, names), probabilities, strict=True))}
            for label, names, probabilities in zip(*columns, strict=True)]


def _entities(texts, outputs, labels):
    counts = (outputs["words"] != b"").sum(axis=1)
    return [{"entities": [one._asdict() for one in answers.names_in(
        text, np.stack([outputs["start"][row], outputs["end"][row]], axis=1)[:count],
        [tag.decode() or OUTSIDE for tag in outputs["label"][row, :count]],
        outputs["probability"][row, :count], labels)]}
            for row, ((text, *_), count) in enumerate(zip(texts, counts, strict=True))]


def _parts(texts, outputs, labels):
    columns = (outputs[name].tolist() for name in ("answer", "start", "end", "probability"))
    return [{"answer": answer.decode(), "start": None if start < 0 else start,
             "end": None if end < 0 else end, "probability": probability}
            for answer, start, end, probability in zip(*columns, strict=True)]


# By the name of an output: function (texts, outputs, labels) -> what they say of each row.
_OUTPUTS = {"score": _scores, "answer": _parts, "words": _entities, "label": _classes}


def _signature(model, asked):
    """The name of the signature that takes what is asked for."""
    inputs = _inputs_of_signatures(model)
    if "text_a" not in inputs[DEFAULT]:
        raise InputError(f"{model}: takes no texts; export the pack without --ids_only")
    if asked.text_b_column is not None:
        if PAIRS not in inputs:
            raise InputError(f"{model}: a task of single texts; leave --text_b_column out")
        return PAIRS
    if "text_b" in inputs[DEFAULT]:
        raise InputError(f"{model}: a task of pairs; --text_b_column is missing, the column that "
                         "holds the second texts, or contexts")
    return DEFAULT


def _inputs_of_signatures(model):
    """{name of a signature: names of its inputs} of an exported model that is whole."""
    local_paths.refuse_patterns(model)
    try:
        with tf.io.gfile.GFile(os.path.join(model, "saved_model.pb"), "rb") as file:
            found = saved_model_pb2.SavedModel.FromString(file.read())
        weights = tf.train.load_checkpoint(os.path.join(model, "variables", "variables"))
        for name in weights.get_variable_to_shape_map():
            weights.get_tensor(name)   # compares its checksum
        signatures = found.meta_graphs[0].signature_def
        inputs = {name: one.inputs.keys() for name, one in signatures.items()}
        return {DEFAULT: inputs[DEFAULT], IDS: inputs[IDS], **inputs}
    except (tf.errors.OpError, DecodeError, LookupError, ValueError, RuntimeError) as error:
        raise InputError(f"{model}: no model that adapter-bert export wrote, or a damaged one; "
                         "name the folder of a version, as DIR/NAME/1") from error


def _inputs(pattern, asked):
    """The paths of the files that match, checked as far as their headers say."""
    paths = beam_files.inputs(pattern)
    if not paths:
        raise InputError(f"--input={pattern}: no such file")
    for path in paths:
        bulk_rows.check(path, asked)
    for path in paths[:_CHECKED_FILES]:
        with FileSystems.open(path) as file:
            bulk_rows.check_columns(path, file, asked)
    return paths


def _check_output(output):
    """Raises InputError where files cannot be written, or others would be removed or mixed in."""
    prefix = beam_files.escaped(output)
    for pattern in (f"{prefix}-*-of-*{_SUFFIX}", f"{prefix}-bad-*{_SUFFIX}"):
        if there := beam_files.matches(pattern):
            raise InputError(f"{there[0]}: is there already; remove it or name another --output")
    if not beam_files.is_remote(output):
        files.make_folder(os.path.dirname(os.path.abspath(output)))
