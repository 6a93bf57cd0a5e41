"""Text files to TFRecord files for pre-training, by an Apache Beam pipeline.

    files -> chunks of documents -> a part for each chunk and duplicate -> put together in order

What a part holds depends on the chunk, the duplicate and the seed alone, and not on the workers.
"""
import contextlib
import os

import apache_beam as beam
import numpy as np
from absl import logging

from adapter_bert import fields
from adapter_bert.bert import tokenization
from adapter_bert.data import (
    beam_files,
    beam_runner,
    casing,
    example_codec,
    progress,
    tfrecord,
    unknown_words,
)
from adapter_bert.data.pretraining import corpus, instance_counts, instances, masking, parts
from adapter_bert.data.pretraining.creation_settings import check
from adapter_bert.errors import InputError


def create(settings, beam_flags=()):
    """Writes the output files and, beside the first, a JSON file that says what they hold.

    Args:
      settings: PretrainingSettings.
      beam_flags: strings as "--runner=FlinkRunner", for Beam.

    Returns:
      The content of the JSON file.

    Raises:
      InputError: a flag or a file is wrong, or there is no room.
    """
    check(settings)
    tokenizer, paths = _tokenizer(settings), _inputs(settings.input_file)
    outputs = _outputs(settings, paths)
    chunks = corpus.chunks(paths)
    pipeline = beam_runner.pipeline(
        list(beam_flags), min(len(chunks), len(os.sched_getaffinity(0)))
    )
    logging.info("%s: files %s, chunks %s", settings.input_file, f"{len(paths):,}",
                 f"{len(chunks):,}")
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(beam_files.work_folder(path)) for path in outputs]
        maker = Maker(settings, tokenizer, folders[0], len(outputs))
        _run(pipeline, chunks, maker, folders[0])
        counts = instance_counts.total(parts.read_counts(folders[0], chunk)
                                  for chunk in range(len(chunks)))
        wholes = [os.path.join(folder, "whole") for folder in folders]
        parts.put_together(folders[0], len(chunks), settings.dupe_factor, wholes)
        beam_files.remove(instance_counts.path(outputs))
        for whole, path in zip(wholes, outputs, strict=True):
            beam_files.put_in_place(whole, path)
    unknown_words.warn_of_share(
        counts["unknown_pieces"], counts["word_pieces"], settings.input_file)
    return instance_counts.write(settings, outputs, counts)


class Maker(beam.DoFn):
    """Writes the parts of chunks.

    An error in a file is left as a note: Beam would report it as a traceback, and only after the
    other workers have finished.

    Args:
      settings: PretrainingSettings.
      tokenizer: tokenization.FullTokenizer.
      folder: where the parts go.
      outputs: int, files that they will be put together to.
    """

    def __init__(self, settings, tokenizer, folder, outputs):
        self._settings, self._tokenizer = settings, tokenizer
        self._folder, self._outputs = folder, outputs
        self._pieces = masking.pieces_of(tokenizer.vocab)
        self._spec = instances.feature_spec(settings.max_seq_length,
                                            settings.max_predictions_per_seq)

    def process(self, chunk):
        """Writes the parts of (number, list of the fields of corpus.Span)."""
        number, spans = chunk
        if parts.read_note(self._folder):
            return
        try:
            self._write(number, [corpus.Span(*span) for span in spans])
        except InputError as error:
            parts.write_note(self._folder, str(error))

    def _write(self, number, spans):
        documents = corpus.read(spans, self._tokenizer)
        counts = [corpus.counts(documents, self._tokenizer.vocab[unknown_words.UNKNOWN])]
        for dupe in range(self._settings.dupe_factor):
            seed = [self._settings.random_seed, number, dupe]
            random = np.random.Generator(np.random.SFC64(seed))
            shares, some = self._shares(documents, random)
            parts.write(self._folder, number, dupe, shares)
            counts += some
        parts.write_counts(self._folder, number, instance_counts.total(counts))

    def _shares(self, documents, random):
        """The records of a duplicate, a list for each output, and a list of their counts."""
        made = instances.make(documents, self._settings, self._pieces, random)
        records, counts = [], []
        for rows, some in made:
            records += tfrecord.framed(example_codec.serialize(self._spec, rows))
            counts.append(some)
        shares = [records[place::self._outputs] for place in range(self._outputs)]
        return shares, [*counts, {"of_outputs": np.array(list(map(len, shares)))}]


def _run(pipeline, chunks, maker, folder):
    """Makes the parts of all chunks, on the workers of the pipeline."""
    numbered = [(number, list(map(tuple, spans))) for number, spans in enumerate(chunks)]
    _ = (pipeline | "Chunks" >> beam.Create(numbered) | "A chunk each" >> beam.Reshuffle()
         | "Instances" >> beam.ParDo(maker))
    done = os.path.join(beam_files.escaped(folder), parts.DONE)
    with progress.shown("chunk", len(chunks), lambda: len(beam_files.matches(done))):
        beam_runner.run(pipeline)
    if note := parts.read_note(folder):
        raise InputError(note)


def _tokenizer(settings):
    """The tokenizer of the flags; InputError if the vocabulary is another model's or casing's."""
    try:
        # Beside a released vocabulary lies its checkpoint; the name of their folder tells its case.
        tokenization.validate_case_matches_checkpoint(settings.do_lower_case, os.path.join(
            os.path.dirname(os.path.abspath(settings.vocab_file)), "bert_model.ckpt"))
        tokenizer = tokenization.FullTokenizer(settings.vocab_file, settings.do_lower_case)
    except ValueError as error:
        raise InputError(str(error)) from error
    if "[MASK]" not in tokenizer.vocab:
        raise InputError(f"{settings.vocab_file}: lacks [MASK]; give the vocab.txt that came with "
                         "the BERT checkpoint")
    casing.check_casing(settings.do_lower_case, settings.vocab_file, tokenizer.vocab)
    return tokenizer


def _inputs(patterns):
    """The files of --input_file, pattern by pattern, each once."""
    found = []
    for pattern in fields.listed(patterns):
        paths = beam_files.inputs(pattern)
        if not paths:
            raise InputError(f"--input_file={pattern}: no such file; of a folder name the files, "
                             "as 'texts/*.txt'")
        found += paths
    if not found:
        raise InputError(f"--input_file={patterns}: names no file; name text files, as "
                         "'texts/*.txt'")
    return list(dict.fromkeys(found))


def _outputs(settings, paths):
    """The files of --output_file; what will be written must be other files than what is read."""
    outputs = [path.strip() for path in settings.output_file.split(",")]
    written = [*outputs, instance_counts.path(outputs)]
    names = list(map(os.path.realpath, written))
    kept = set(map(os.path.realpath, [*paths, settings.vocab_file]))
    for path, name in zip(written, names, strict=True):
        if not path or os.path.isdir(path):
            raise InputError(f"--output_file: {path!r} would be written, and is no file; name one")
        if name in kept:
            raise InputError(f"--output_file: {path} would be written, and is read; name another")
        if names.count(name) > 1:
            raise InputError(f"--output_file: {path} would be written twice; name another")
    return outputs
