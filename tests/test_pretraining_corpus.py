"""Text files to chunks, and chunks to documents."""
import os

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from adapter_bert.data.pretraining import corpus
from adapter_bert.errors import InputError

LINES = st.sampled_from(["a\n", "bb cc\n", "ddd é\r\n", "\n", " \n", "\t\u3000\n", "\u2028 x\n"])


class Words:
    """A tokenizer of words whose id is their length; a word "#" has none."""

    def encode_ragged(self, texts):
        ids = [[len(word) for word in text.split() if word != "#"] for text in texts]
        return (np.array([index for some in ids for index in some], np.int32),
                np.array(list(map(len, ids)), np.int64))


def put(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def documents_of(text):
    """The documents as lists of sentences, read plainly."""
    found = [[]]
    for line in text.split("\n"):
        found[-1].append(line.strip()) if line.strip() else found.append([])
    return [document for document in found if document]


@pytest.fixture(name="small")
def fixture_small(monkeypatch):
    """Chunks of a few bytes."""
    def make(size, documents):
        monkeypatch.setattr(corpus, "CHUNK_BYTES", size)
        monkeypatch.setattr(corpus, "CHUNK_DOCUMENTS", documents)
    return make


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(LINES, min_size=1, max_size=30), min_size=1, max_size=4),
       st.integers(1, 40), st.integers(2, 4))
def test_chunks_hold_whole_documents(tmp_path_factory, contents, size, least):
    """All bytes are in one span, the documents of all chunks are those of the files, and each chunk
    has enough."""
    folder = tmp_path_factory.mktemp("files")
    texts = ["".join(lines) for lines in contents]
    texts = [text if text.strip() else "a\n" for text in texts]
    paths = [put(folder / str(number), text) for number, text in enumerate(texts)]
    wanted = [document for text in texts for document in documents_of(text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "CHUNK_BYTES", size)
        patch.setattr(corpus, "CHUNK_DOCUMENTS", least)
        if len(wanted) == 1:
            with pytest.raises(InputError, match="one document only"):
                corpus.chunks(paths)
            return
        chunks = corpus.chunks(paths)
    spans = [span for chunk in chunks for span in chunk]
    assert [path for path in paths for span in spans if span.path == path] == [
        span.path for span in spans]
    for path in paths:
        own = [span for span in spans if span.path == path]
        ends = [0, *(span.end for span in own)]
        assert [span.start for span in own] == ends[:-1] and ends[-1] == os.path.getsize(path)
    found = [[documents_of(corpus._text(span)) for span in chunk] for chunk in chunks]
    assert [document for chunk in found for span in chunk for document in span] == wanted
    counts = [sum(map(len, chunk)) for chunk in found]
    assert len(chunks) == 1 or min(counts) >= least
    sizes = [sum(span.end - span.start for span in chunk) for chunk in chunks]
    assert all(one >= size for one in sizes[:-1])


def test_chunks_are_cut(small, tmp_path):
    """A hundred documents of 20 bytes, and a file of one document: it joins its neighbours."""
    small(100, 2)
    many = put(tmp_path / "many", "nine and\n9 to ten\n\n\n" * 100)
    one = put(tmp_path / "one", "one alone\n" * 30)
    chunks = corpus.chunks([one, many, one])
    assert len(chunks) > 15
    assert [span.path for span in chunks[0]] == [one, many]
    assert [span.path for span in chunks[-1]] == [many, one]


def test_what_cannot_be_cut(small, tmp_path, monkeypatch):
    small(10, 2)
    monkeypatch.setattr(corpus, "DOCUMENT_BYTES", 50)
    good = put(tmp_path / "good", "a\n\nb\n\nc\n")
    for text, wanted in ((" \n\n\u3000\n", "no text in it"), ("", "no text in it"),
                         ("a b c\n" * 20, "more than 50 bytes, after byte 0"),
                         ("x" * 100, "more than 50 bytes"),
                         ("a\n\n" * 20 + "b\n" * 30, "more than 50 bytes, after byte 6"),
                         ("a\n", None)):
        bad = put(tmp_path / "bad", text)
        if wanted:
            with pytest.raises(InputError, match=wanted):
                corpus.chunks([good, bad])
        else:
            assert len(corpus.chunks([good, bad])) == 1
    with pytest.raises(InputError, match="one document only.*put a blank line"):
        corpus.chunks([bad])


def test_reading_by_hand(tmp_path):
    text = "a bb\r\n ccc \n\n\n#\nd\n \n#\n\nee\u2028f"
    path, last = put(tmp_path / "x", text), put(tmp_path / "y", "gg")
    documents = corpus.read([corpus.Span(path, 0, os.path.getsize(path)),
                             corpus.Span(last, 0, 2)], Words())
    assert documents.pieces.tolist() == [1, 2, 3, 1, 2, 1, 2]
    assert documents.starts.tolist() == [0, 2, 3, 4, 6, 7]
    assert documents.first.tolist() == [0, 2, 3, 4, 5]
    assert corpus.counts(documents, 1) == {
        "documents": 4, "sentences": 5, "word_pieces": 7, "unknown_pieces": 3}


def test_what_cannot_be_read(tmp_path):
    path = tmp_path / "x"
    put(path, b"a\n\nb\nfilm\xff\n")
    span = corpus.Span(str(path), 3, 11)
    with pytest.raises(InputError, match=r"x, line 4: is not UTF-8 \(invalid start byte, byte 9\)"):
        corpus.read([span], Words())
    put(path, "a\n\nb\n")
    with pytest.raises(InputError, match="became shorter"):
        corpus.read([span], Words())
    with pytest.raises(InputError, match="from byte 0: 1 documents with words"):
        corpus.read([corpus.Span(put(path, "#\n\nb\n"), 0, 5)], Words())
    path.unlink()
    with pytest.raises(InputError, match="is not there any more"):
        corpus.read([span], Words())
