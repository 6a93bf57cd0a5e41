"""Text files of documents as chunks of bytes, and a chunk as word pieces.

A file has a sentence a line and a blank line between documents; it ends its last document. A chunk
is cut between documents, by the files alone: so large that the work on it outweighs its way to a
worker, so small that a few fit into memory.
"""
import itertools
from typing import NamedTuple

import numpy as np

from adapter_bert.data import beam_files
from adapter_bert.data.pretraining.pairs import Documents
from adapter_bert.errors import InputError

CHUNK_BYTES = 2_000_000         # at least, of all chunks but the last
CHUNK_DOCUMENTS = 8             # at least: "another document" is drawn from the chunk
DOCUMENT_BYTES = 16_000_000     # at most; more have hardly been meant as one document


class Span(NamedTuple):
    """Bytes of a file from `start` to `end`; whole documents."""

    path: str
    start: int
    end: int


def chunks(paths):
    """Cuts files into chunks; reads of each only as much as shows where documents end.

    Args:
      paths: list of str, of any file system that Beam knows.

    Returns:
      List of lists of Span.

    Raises:
      InputError: a file has no text or no end of a document, or there is one document only.
    """
    found = []
    size = documents = 0
    for span, some in itertools.chain.from_iterable(map(_spans, paths)):
        if not found or (size >= CHUNK_BYTES and documents >= CHUNK_DOCUMENTS):
            found.append([])
            size = documents = 0
        found[-1].append(span)
        size, documents = size + span.end - span.start, documents + some
    if len(found) > 1 and documents < CHUNK_DOCUMENTS:
        few = found.pop()
        found[-1] += few
    elif documents == 1:
        raise InputError(f"{paths[0]}: one document only, and for half of the instances the next "
                         "sentence comes from another; put a blank line between documents, or name "
                         "more files")
    return found


def _spans(path):
    """The spans of a file, each large enough for a chunk but for the last, and how many documents
    each has at least."""
    size, end, text = beam_files.size(path), 0, 0
    with beam_files.open_file(path) as file:
        while end < size:
            start = end
            end, documents = _end_of_span(file, path, start, size)
            text += documents
            yield Span(path, start, end), documents
    if not text:
        raise InputError(f"{path}: no text in it; leave it out of --input_file")


def _end_of_span(file, path, start, size):
    """Where CHUNK_DOCUMENTS from `start` on and at least CHUNK_BYTES end, and the documents that
    were met."""
    file.seek(start)
    end = start
    for documents in range(CHUNK_DOCUMENTS):
        after = _end_of_document(file, path, end)
        if after is None:
            return size, documents
        end = after
    if start + CHUNK_BYTES >= size:
        return size, CHUNK_DOCUMENTS
    if end < start + CHUNK_BYTES:
        file.seek(start + CHUNK_BYTES)
        rest_of_line = file.readline(DOCUMENT_BYTES)
        end = _end_of_document(file, path, start + CHUNK_BYTES + len(rest_of_line)) or size
    return end, CHUNK_DOCUMENTS


def _end_of_document(file, path, start):
    """Reads a document from `start` on, and the blank line after it.

    Returns where that ends; None where the file ends without another document.
    """
    end, has_text = start, False
    while line := file.readline(DOCUMENT_BYTES):
        end += len(line)
        if line.decode("utf-8", "replace").strip():
            has_text = True
        elif has_text:
            break
        if end - start > DOCUMENT_BYTES:
            raise InputError(f"{path}: a document of more than {DOCUMENT_BYTES:,} bytes, after "
                             f"byte {start:,}; put a blank line between documents")
    return end if has_text else None


def read(spans, tokenizer):
    """The documents of a chunk.

    Args:
      spans: list of Span.
      tokenizer: tokenization.FullTokenizer.

    Returns:
      pairs.Documents; lines and documents without a word piece are left out.

    Raises:
      InputError: a file is not there any more, is shorter, is not UTF-8, or there are words in one
        document at most.
    """
    lines = [line.strip() for span in spans for line in (*_text(span).split("\n"), "")]
    is_blank = np.fromiter(map("".__eq__, lines), bool, len(lines))
    ids, lengths = tokenizer.encode_ragged(list(filter(None, lines)))
    is_sentence = lengths > 0
    document = np.cumsum(is_blank)[~is_blank][is_sentence]
    starts = np.concatenate([[0], np.cumsum(lengths[is_sentence])])
    first = np.flatnonzero(np.diff(document, prepend=-1))
    if len(first) < 2:
        raise InputError(f"{spans[0].path}, from byte {spans[0].start:,}: {len(first)} documents "
                         "with words; for half of the instances the next sentence comes from "
                         "another, so put words there or leave the file out")
    return Documents(ids, starts, np.append(first, len(document)))


def counts(documents: Documents, unknown: int) -> dict[str, int]:
    """How many documents, sentences, word pieces, and pieces with the id `unknown` there are."""
    return {"documents": len(documents.first) - 1, "sentences": len(documents.starts) - 1,
            "word_pieces": len(documents.pieces),
            "unknown_pieces": int(np.sum(documents.pieces == unknown))}


def _text(span):
    """The characters of a span."""
    try:
        with beam_files.open_file(span.path) as file:
            file.seek(span.start)
            content = file.read(span.end - span.start)
    except FileNotFoundError as error:
        raise InputError(f"{span.path}: is not there any more; leave the files as they are until "
                         "all is done") from error
    if len(content) < span.end - span.start:
        raise InputError(f"{span.path}: became shorter while it was read; leave the files as they "
                         "are until all is done")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = _line(span.path, span.start + error.start)
        raise InputError(f"{span.path}, line {line:,}: is not UTF-8 ({error.reason}, byte "
                         f"{span.start + error.start:,}); save the file as UTF-8") from error


def _line(path, place):
    """The number of the line in which a byte is, from 1."""
    with beam_files.open_file(path) as file:
        blocks = iter(lambda: file.read(min(1 << 20, place - file.tell())), b"")
        return 1 + sum(block.count(b"\n") for block in blocks)
