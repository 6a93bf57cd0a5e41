"""Tokenization inside a graph: for any string what tokenization.FullTokenizer gives."""
import functools
import itertools
import unicodedata

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY_VOCAB
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenization import ASSIGNED, GLUE, HARD, SPECIAL, TEXTS, UNASSIGNED, write_vocab

from adapter_bert.bert import tokenization
from adapter_bert.bert.tokenization import cleaned
from adapter_bert.data import features
from adapter_bert.export import graph_tokenizer, unicode_tables
from adapter_bert.kinds import words

# A code point alone, inside a word, between marks and at the places that a final sigma looks at.
CONTEXTS = ["{0} a{0}b Ab{0} {0}b", "aΣ{0} aΣ{0}b a{0}Σ {0}Σ \U0001d16d{0}\U0001d165e\u0301{0}"]


class Pair:
    """The two tokenizers of one vocabulary, and the graph of the one."""

    def __init__(self, vocab_file, lower):
        self.python = tokenization.FullTokenizer(vocab_file, lower)
        with tf.Graph().as_default():
            self.inputs = tf.placeholder(tf.string, [None])
            self.tokenizer = graph_tokenizer.GraphTokenizer(self.python.vocab, lower)
            self.ids = self.tokenizer(self.inputs)
            codes = graph_tokenizer.code_points(self.inputs)
            self.places = *self.tokenizer.with_offsets(codes), self.tokenizer.words(codes)
            self.session = tf.Session()

    def check(self, texts):
        """Names the first text (str or bytes) on which they differ."""
        found = self.session.run(self.ids, {self.inputs: texts}).to_list()
        assert len(found) == len(texts)
        for one, ids in zip(texts, found, strict=True):
            wanted = self.python.convert_tokens_to_ids(self.python.tokenize(one))
            assert ids == wanted, ascii(one[:200])

    def check_places(self, texts):
        """The same of what each word piece and each word stands for."""
        ids, spans, of_words = self.session.run(self.places, {self.inputs: texts})
        wanted, lengths, places = self.python.encode_with_offsets(texts)
        assert np.array_equal(ids.values, wanted)
        assert np.array_equal(np.diff(ids.row_splits), lengths)
        differing = np.flatnonzero((spans != places).any(axis=1))
        assert not len(differing), ascii(texts[np.searchsorted(
            np.cumsum(lengths), differing[0], "right")])
        decoded = list(map(tokenization.convert_to_unicode, texts))
        for one, own, wanted in zip(decoded, of_words.to_list(), words.spans_of(
                decoded, self.python), strict=True):
            assert own == wanted.tolist(), ascii(one[:200])


@pytest.fixture(name="pair_of", scope="module")
def fixture_pair_of(tmp_path_factory):
    """Function (tokens, lower) -> Pair."""
    folder = tmp_path_factory.mktemp("vocab")
    names = (f"{number}.txt" for number in itertools.count())
    return lambda tokens, lower: Pair(write_vocab(folder, tokens, next(names)), lower)


@pytest.fixture(name="of_characters", scope="module")
def fixture_of_characters(pair_of):
    """{lower: Pair}; every character is a piece, so that no difference hides in an [UNK]."""
    visible = [one for one in ASSIGNED if one.strip()]
    tokens = SPECIAL + visible + [f"##{one}" for one in visible if f" {one} " != cleaned(one)]
    return {lower: pair_of(tokens, lower) for lower in (True, False)}


@pytest.mark.parametrize("context,lower", [
    (CONTEXTS[0], True), (CONTEXTS[1], True), (CONTEXTS[0], False)])
def test_every_code_point(of_characters, context, lower):
    texts = list(map(context.format, ASSIGNED))
    for start in range(0, len(texts), 20_000):
        of_characters[lower].check(texts[start:start + 20_000])


@pytest.mark.parametrize("lower", [True, False])
def test_every_unassigned_code_point(of_characters, lower):
    of_characters[lower].check([" ".join(f"{one}b" for one in UNASSIGNED[start:start + 1000])
                                for start in range(0, len(UNASSIGNED), 1000)])


@pytest.mark.parametrize("lower", [True, False])
def test_places_among_every_mark(of_characters, lower):
    """Of those that are dropped or put in order, and of every hundredth other character."""
    some = [one for one in ASSIGNED if unicodedata.category(one)[0] in "MC" or ord(one) % 100 == 0]
    assert 2000 < len(some) < 10_000
    of_characters[lower].check_places([context.format(one) for one in some for context in CONTEXTS])


# Half of a surrogate pair is no UTF-8, and so no string of a graph.
@settings(deadline=None, max_examples=300)
@given(texts=st.lists(TEXTS.map(lambda one: one.encode("utf-8", "ignore")), max_size=4),
       lower=st.booleans())
def test_any_texts(of_characters, texts, lower):
    of_characters[lower].check(texts)
    of_characters[lower].check_places(texts)


PARTS = st.sampled_from([b"\xff", b"\xc3", b"\xe4\xb8", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a",
                         b" ", b"\xf0\x9f", b"\xc0\x80", b"\xef\xbb\xbf", b"\xef\xbf\xbd", b"\0",
                         b"\xf0\x80\x80\x80", "é".encode(), "中".encode(), "🙂".encode()])


@settings(deadline=None, max_examples=300)
@given(texts=st.lists(st.one_of(st.binary(), st.lists(PARTS).map(b"".join)), max_size=4),
       lower=st.booleans())
def test_any_bytes(of_characters, texts, lower):
    of_characters[lower].check(texts)
    of_characters[lower].check_places(texts)


@pytest.mark.parametrize("lower", [True, False])
def test_texts_by_hand(of_characters, lower):
    long = [f"{one * length} b" for one in ("a", "é", "中", "🙂", "Σ", "e\u0301")
            for length in (199, 200, 201, 10_000)]
    texts = [*HARD.values(), *long, "", " ", "[SEP]", "\ud55c\uae00 \u1112\u1161\u11ab", "İI",
             "\u0344\u0345a", "\u0f73\u0f71", "aΣ.b aΣ. aΣ\u00adb Σ", b"\xed\xa0\x80a"]
    of_characters[lower].check(texts)
    of_characters[lower].check_places(texts)
    of_characters[lower].check([])
    # One NUL at the very end of a text is a code point like any other.
    of_characters[lower].check([b"a\0", b"a\0b"])


ODD = [*SPECIAL, "", "\u2028", "a b", "##", "a\u00a0b", "#", "###", "##a", "a", "b", "##b", "[",
       "]", "##[UNK]", "[unk", " 6", "ab\0", "\0", "中", "##中", "ba", "##aa", "##ba", "##bab",
       "##\u2028x", "\ufdd0", "##\ufdd0", "##\U0010ffff", "\ufffd", "##\ufffd", "\u200d"]


@pytest.mark.parametrize("lower", [True, False])
def test_odd_vocabularies(pair_of, lower):
    pair = pair_of(ODD, lower)
    letters = ["a", "b", "#", " ", "中"]
    pair.check(["".join(some) for some in itertools.product(letters, repeat=5)])
    pair.check(["\ufdd0 a\U0010ffff", "[UNK]", "##", "##a", "a##b", "a\u2028b", "a b", "6"])


@settings(deadline=None, max_examples=20)
@given(pieces=st.sets(st.text("abé#", min_size=1, max_size=4), max_size=15))
def test_any_vocabulary(pair_of, pieces):
    pair = pair_of([*SPECIAL, *sorted(pieces - set(SPECIAL))], False)
    pair.check(["".join(some) for some in itertools.product("abé#", repeat=4)])


@pytest.mark.parametrize("lower", [True, False])
def test_the_vocabulary_of_a_base(minilm_dir, lower):
    pair = Pair(f"{minilm_dir}/vocab.txt", lower)
    texts = [*HARD.values(), "Unaffable Ångström 中文 🙂 naïve", "[SEP] the ##s", "a" * 9999]
    pair.check(texts)
    pair.check_places(texts)
    if GLUE.is_dir():
        lines = [line for path in sorted(GLUE.glob("*/dev.tsv"))
                 for line in path.read_text("utf-8").split("\n")]
        assert len(lines) > 1000
        pair.check(lines)
        pair.check_places(lines[::10])


@pytest.mark.skipif(not GLUE.is_dir(), reason="the GLUE files are not in ../shared/data/glue")
@pytest.mark.parametrize("lower", [True, False])
def test_real_text(of_characters, lower):
    of_characters[lower].check([line for path in sorted(GLUE.glob("*/dev.tsv"))
                                for line in path.read_text("utf-8").split("\n")])


@functools.lru_cache
def rows_graph(vocab_file):
    """A function of (text_a, text_b, is_pair, max_seq_length) lists -> arrays of features."""
    with tf.Graph().as_default():
        fed = [tf.placeholder(kind, [None]) for kind in (tf.string, tf.string, tf.bool, tf.int32)]
        tokenizer = graph_tokenizer.GraphTokenizer(tokenization.load_vocab(vocab_file), True)
        made = graph_tokenizer.features(tokenizer, *fed)
        session = tf.Session()
    return lambda *values: session.run(made, dict(zip(fed, values, strict=True)))


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(*[st.integers(0, 14)] * 2, st.booleans()), min_size=1, max_size=6),
       most=st.sampled_from([5, 6, 11, 16]))
def test_rows_are_those_of_the_pipeline(tiny_dir, rows, most):
    """[CLS], [SEP], segments, and which side is cut."""
    words = TINY_VOCAB[5:20]
    first = [" ".join(words[:one]) for one, _, _ in rows]
    second = [" ".join(words[14 - one:14]) for _, one, _ in rows]
    is_pair = [pair for _, _, pair in rows]
    found = rows_graph(f"{tiny_dir}/vocab.txt")(first, second, is_pair, [most] * len(rows))
    python = tokenization.FullTokenizer(f"{tiny_dir}/vocab.txt")
    cls, sep = python.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    wanted = features.join(
        python.encode_ragged(first),
        python.encode_ragged([one * pair for one, pair in zip(second, is_pair, strict=True)]),
        np.array(is_pair), cls, sep, most)
    assert found["input_mask"].sum(axis=1).tolist() == wanted.lengths.tolist()
    assert found["input_ids"].shape[1] == wanted.lengths.max()
    mask = found["input_mask"].astype(bool)
    for name in ("input_ids", "segment_ids"):
        assert found[name].dtype == np.int32
        assert found[name][mask].tolist() == wanted.columns[name].tolist()
        assert not found[name][~mask].any()


def test_tables_are_small():
    """They go into every graph."""
    tables = unicode_tables.characters(True)
    arrays = [*tables.replacement_of, *tables.neighbour, tables.splits, tables.replacements]
    assert sum(array.nbytes for array in arrays) < 1 << 20
