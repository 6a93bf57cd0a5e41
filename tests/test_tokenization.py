"""tokenization: the source's steps by hand, and one id list whichever way a text takes."""
import itertools
import pathlib
import pickle
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_bert.bert import tokenization

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
GLUE = pathlib.Path(__file__).parents[1] / "../shared/data/glue"
CATEGORIES = {chr(code): unicodedata.category(chr(code)) for code in range(0x110000)}
ASSIGNED = [character for character, category in CATEGORIES.items()
            if category not in ("Cn", "Co", "Cs")]
UNASSIGNED = [character for character, category in CATEGORIES.items() if category in ("Cn", "Co")]
# Every code point alone, inside a word and at its ends; of the unassigned and private ones, which
# all are the same to us, many in a text.
EVERY_CODE_POINT = [f"{c} a{c}b Ab{c} {c}b" for c in ASSIGNED] + [
    "".join(UNASSIGNED[start:start + 100]) for start in range(0, len(UNASSIGNED), 100)]

# One of each kind on which tokenizers of another Unicode and the source differ.
HARD = {
    "private use": "a\ue000b",
    "private use, supplementary": "a\U0010fffdb",
    "Chinese left out of the library's block": "\U0002b820\U0002b91f",
    "punctuation after Unicode 8": "a\u2e43b",
    "control character after Unicode 8": "a\u08e2b",
    "final sigma": "ΟΔΟΣ",
    "nonspacing mark after Unicode 8": "a\u1df6b",
}


def write_vocab(folder, tokens, name="vocab.txt"):
    path = folder / name
    path.write_bytes("".join(f"{token}\n" for token in tokens).encode())
    return str(path)


@pytest.fixture(scope="module")
def words_vocab(tmp_path_factory):
    """The vocabulary of the tests by hand."""
    tokens = ["want", "##want", "##ed", "wa", "un", "runn", "##ing", ",", "low", "##est", "[", "]",
              "sep", "a", "##a"]
    return write_vocab(tmp_path_factory.mktemp("words"), SPECIAL + tokens)


@pytest.fixture(scope="module")
def tokenizers_of_characters(tmp_path_factory):
    """Tokenizers by casing; every character is a piece, so that no difference hides in an [UNK]."""
    visible = [character for character in ASSIGNED if character.strip()]
    path = write_vocab(tmp_path_factory.mktemp("characters"),
                       SPECIAL + visible + [f"##{character}" for character in visible])
    return {lower: tokenization.FullTokenizer(path, lower) for lower in (True, False)}


def ids_one_by_one(tokenizer, texts):
    return [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in texts]


def assert_same_ids(tokenizer, texts):
    """Names the first text that differs; a plain comparison of lists prints all of them."""
    for text, bulk, single in zip(texts, tokenizer.encode_batch(texts),
                                  ids_one_by_one(tokenizer, texts), strict=True):
        assert bulk == single, ascii(text[:200])


def words_step_by_step(text, lower):
    """The source's steps, one character and one word at a time."""
    text = "".join(step_clean(character) for character in text)
    words = []
    for word in text.split():
        if lower:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        words += "".join(f" {c} " if step_is_punctuation(c) else c for c in word).split()
    return words


def step_clean(character):
    code, category = ord(character), unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if code in (0, 0xFFFD) or category in ("Cc", "Cf"):
        return ""
    chinese = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
               (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))
    is_chinese = any(first <= code <= last for first, last in chinese)
    return f" {character} " if is_chinese else character


def step_is_punctuation(character):
    ascii_marks = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    return character in ascii_marks or unicodedata.category(character).startswith("P")


@pytest.mark.parametrize("text, words", [
    ("", []),
    (" \t\u3000\u2028 ", []),
    (" \tHeLLo!how  \n Are yoU?  ", ["hello", "!", "how", "are", "you", "?"]),
    ("H\u00e9llo \u00c5ngstr\u00f6m", ["hello", "angstrom"]),
    ("ah\u535a\u63a8zz", ["ah", "\u535a", "\u63a8", "zz"]),
    ("\uc548\ub155 \u3053\u3093", [unicodedata.normalize("NFD", "\uc548\ub155"), "\u3053\u3093"]),
    ("a\u0000b\ufffdc\u200dd\u0085e", ["abcde"]),
    ("a\u00a0b\u2003c", ["a", "b", "c"]),
    ("don't $5-^`~", ["don", "'", "t", "$", "5", "-", "^", "`", "~"]),
    ("\u00bfqu\u00e9\u2026\u300c\u3042\u300d",
     ["\u00bf", "que", "\u2026", "\u300c", "\u3042", "\u300d"]),
    ("ΟΔΟΣ ΣΑΣ, Σ", ["οδος", "σας", ",", "σ"]),
    ("\u0130I\u212a", ["iik"]),
])
def test_lower_case_words(text, words):
    assert tokenization.BasicTokenizer().tokenize(text) == words


def test_cased_words_keep_case_and_accents():
    text = " \tH\u00e9LLo!how  \n Are yoU?\u535a "
    expected = ["H\u00e9LLo", "!", "how", "Are", "yoU", "?", "\u535a"]
    assert tokenization.BasicTokenizer(do_lower_case=False).tokenize(text) == expected


@pytest.mark.parametrize("text, pieces", [
    ("", []),
    ("unwanted running", ["un", "##want", "##ed", "runn", "##ing"]),
    ("unwantedX running", ["[UNK]", "runn", "##ing"]),
    ("wanted", ["want", "##ed"]),
    ("a" * 200, ["a"] + ["##a"] * 199),
    ("a" * 201, ["[UNK]"]),
])
def test_pieces(text, pieces):
    vocab = {"[UNK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", "a", "##a"}
    assert tokenization.WordpieceTokenizer(vocab).tokenize(text) == pieces


def test_a_longer_limit_and_another_unknown_token():
    tokenizer = tokenization.WordpieceTokenizer({"a"}, "?", max_input_chars_per_word=1)
    assert tokenizer.tokenize("a aa b") == ["a", "?", "?"]


def test_full_tokenizer(words_vocab):
    tokenizer = tokenization.FullTokenizer(words_vocab)
    tokens = tokenizer.tokenize("UNwant\u00e9d,running")
    assert tokens == ["un", "##want", "##ed", ",", "runn", "##ing"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [8, 5, 6, 11, 9, 10]
    assert tokenizer.convert_ids_to_tokens([8, 5, 6, 11, 9, 10]) == tokens
    assert tokenizer.encode_batch(["UNwant\u00e9d,", "", "x"]) == [[8, 5, 6, 11], [], [1]]
    assert tokenizer.encode_batch([]) == []
    assert (tokenizer.vocab["[UNK]"], tokenizer.inv_vocab[1]) == (1, "[UNK]")


def test_names_of_special_tokens_in_a_text_are_text(words_vocab):
    tokenizer = tokenization.FullTokenizer(words_vocab)
    assert tokenizer.tokenize("[SEP]") == ["[", "sep", "]"]
    assert_same_ids(tokenizer, ["[SEP]", "[PAD] [CLS]", "want[UNK]"])


def test_bytes_are_utf8_without_the_invalid_parts(words_vocab):
    tokenizer = tokenization.FullTokenizer(words_vocab)
    assert tokenizer.tokenize(b"w\xffant\xc3\xa9d") == ["want", "##ed"]
    assert tokenizer.encode_batch([b"w\xffant\xc3\xa9d"]) == [[4, 6]]
    with pytest.raises(ValueError, match="must be str or bytes, not int"):
        tokenizer.encode_batch([7])


def test_a_lone_surrogate_makes_its_word_unknown(words_vocab):
    tokenizer = tokenization.FullTokenizer(words_vocab)
    assert tokenizer.tokenize("want a\ud800 want") == ["want", "[UNK]", "want"]
    assert tokenizer.encode_batch(["want a\ud800 want"]) == [[4, 1, 4]]


def test_a_pickled_tokenizer_gives_the_same_ids(words_vocab):
    tokenizer = tokenization.FullTokenizer(words_vocab)
    texts = ["unwanted", "ΟΔΟΣ w\u00e4nt"]
    ids = tokenizer.encode_batch(texts)
    assert pickle.loads(pickle.dumps(tokenizer)).encode_batch(texts) == ids


@pytest.mark.parametrize("lower", [True, False])
def test_words_of_every_code_point_equal_the_steps(lower):
    tokenizer = tokenization.BasicTokenizer(lower)
    for text in EVERY_CODE_POINT:
        assert tokenizer.tokenize(text) == words_step_by_step(text, lower), ascii(text)


@pytest.mark.parametrize("lower", [True, pytest.param(False, marks=pytest.mark.long)])
def test_bulk_ids_of_every_code_point(tokenizers_of_characters, lower):
    assert_same_ids(tokenizers_of_characters[lower], EVERY_CODE_POINT)


@pytest.mark.parametrize("kind", HARD)
def test_bulk_ids_of_hard_texts(tokenizers_of_characters, kind):
    assert_same_ids(tokenizers_of_characters[True], [HARD[kind]])


def test_other_bulk_ids_are_noticed(tokenizers_of_characters, monkeypatch):
    tokenizer = tokenizers_of_characters[True]
    monkeypatch.setattr(tokenizer, "_words_of", str.split)
    monkeypatch.setattr(tokenizer, "_memory", tokenization._Memory())
    with pytest.raises(AssertionError):
        assert_same_ids(tokenizer, ["A,b"])


KINDS = st.one_of(
    st.characters(),
    st.characters(categories=["Cc", "Cf", "Co", "Cn", "Cs"]),
    st.characters(categories=["Zs", "Zl", "Zp"]),
    st.characters(categories=["P", "S"]),
    st.characters(categories=["Mn", "Mc", "Me"]),
    st.characters(min_codepoint=0xC0, max_codepoint=0x24F),
    st.characters(min_codepoint=0x370, max_codepoint=0x3FF),
    st.characters(min_codepoint=0x3400, max_codepoint=0x9FFF),
    st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF),
    st.characters(min_codepoint=0x1D165, max_codepoint=0x1D172),
    st.sampled_from("\t\n\r \u200d\ufe0f\u2028ΣσςİẞａＡ½´"),
    st.sampled_from("abcXYZ"),
)
LONG_WORDS = st.builds(lambda character, length: character * length,
                       st.sampled_from("aZé\u0301ΣＡ"), st.integers(190, 210))
TEXTS = st.lists(st.one_of(KINDS, LONG_WORDS), max_size=60).map("".join)


@settings(deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), lower=st.booleans())
def test_bulk_ids_of_any_texts(tokenizers_of_characters, texts, lower):
    assert_same_ids(tokenizers_of_characters[lower], texts)


@settings(deadline=None)
@given(text=TEXTS, lower=st.booleans())
def test_words_of_any_text_equal_the_steps(text, lower):
    words = tokenization.BasicTokenizer(lower).tokenize(text)
    assert words == words_step_by_step(text, lower)


@pytest.mark.skipif(not GLUE.is_dir(), reason="the GLUE files are not in ../shared/data/glue")
@pytest.mark.parametrize("lower", [True, False])
def test_bulk_ids_of_real_text(tokenizers_of_characters, lower):
    lines = [line for path in sorted(GLUE.glob("*/dev.tsv"))
             for line in path.read_text("utf-8").split("\n")]
    assert len(lines) > 1000
    assert_same_ids(tokenizers_of_characters[lower], lines)


@pytest.mark.parametrize("unit", ["a", " ", "want ", "\u535a", "é", "\u0301\u0323", "\u0f73", "Σ'",
                                  "\ue000\u0301\u0323"])
def test_a_megabyte_takes_seconds_both_ways(words_vocab, unit):
    """A quadratic step would take minutes at least."""
    tokenizer = tokenization.FullTokenizer(words_vocab)
    text = unit * (1_000_000 // len(unit.encode()))
    start = time.process_time()
    assert_same_ids(tokenizer, [text])
    assert time.process_time() - start < 30


def first_wrong_place(tokenizer, text, ids, spans):
    """A part of the text whose span is wrong by what the part is alone; None where none is.

    Each word alone must give its own pieces, and what lies between words none. A final sigma may
    turn into another one when its word stands alone.
    """
    tokens = [token.replace("ς", "σ") for token in tokenizer.convert_ids_to_tokens(ids)]
    firsts = [place for place, token in enumerate(tokens) if not token.startswith("##")]
    done = 0
    for first, after in itertools.pairwise([*firsts, len(tokens)]):
        word, between = slice(spans[first][0], spans[after - 1][1]), slice(done, spans[first][0])
        alone = [token.replace("ς", "σ") for token in tokenizer.tokenize(text[word])]
        if alone != tokens[first:after] or tokenizer.tokenize(text[between]):
            return word
        done = word.stop
    return slice(done, None) if tokenizer.tokenize(text[done:]) else None


def assert_sound_spans(tokenizer, texts):
    ids, lengths, spans = tokenizer.encode_with_offsets(texts)
    ends = np.cumsum(lengths)
    for text, end, length in zip(texts, ends, lengths, strict=True):
        here = slice(end - length, end)
        assert ids[here].tolist() == ids_one_by_one(tokenizer, [text])[0], ascii(text)
        assert_sound_edges(text, spans[here], tokenizer.basic_tokenizer.do_lower_case)
        wrong = first_wrong_place(tokenizer, text, ids[here].tolist(), spans[here].tolist())
        assert wrong is None, (ascii(text[:200]), wrong)


def assert_sound_edges(text, spans, lower):
    """Spans go forward, begin and end with what is not dropped, and leave no dropped mark out."""
    starts, ends = spans.T
    assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all(), ascii(text)
    assert (starts < ends).all() and (starts >= 0).all() and (ends <= len(text)).all()
    for start, end in spans.tolist():
        first, last, after = text[start], text[end - 1], text[end:end + 1]
        assert tokenization.cleaned(first).strip() and tokenization.cleaned(last).strip()
        assert not lower or "Mn" not in (CATEGORIES[first], CATEGORIES.get(after)), ascii(text)


@pytest.mark.parametrize("text, parts", [
    ("unwanted, running", ["un", "want", "ed", ",", "runn", "ing"]),
    (" \tUNw\u00c4nted\n", ["UN", "w\u00c4nt", "ed"]),
    ("UNwa\u0308\u0301nt\u00adE\u0301\u200d\u0301D\u200d.", [
        "UN", "wa\u0308\u0301nt", "E\u0301\u200d\u0301D", "."]),
    ("\u00ad\u0301want \u0301 wanted", ["want", "want", "ed"]),
    ("want\u0085want!", ["want", "want", "!"]),
    ("dunkel want\u0000ed \u0130a a\ud800", ["dunkel", "want", "ed", "\u0130a", "a\ud800"]),
    ("a\u535aa\U000e0100\U00020000\U000e0100", [
        "a", "\u535a", "a\U000e0100", "\U00020000\U000e0100"]),
    ("want" + "x" * 200 + ", want", ["want" + "x" * 200, ",", "want"]),
    ("", []),
])
def test_what_pieces_stand_for(words_vocab, text, parts):
    ids, lengths, spans = tokenization.FullTokenizer(words_vocab).encode_with_offsets([text])
    assert [text[start:end] for start, end in spans.tolist()] == parts
    assert lengths.tolist() == [len(ids)] == [len(parts)]


def test_parts_of_one_character_share_it(tokenizers_of_characters):
    text = "a\ud55c\uae00b"
    ids, _, spans = tokenizers_of_characters[True].encode_with_offsets([text])
    assert len(ids) == 8
    assert spans.tolist() == [[0, 1], *3 * [[1, 2]], *3 * [[2, 3]], [3, 4]]


def test_spans_of_many_texts_are_those_of_each(words_vocab):
    tokenizer = tokenization.FullTokenizer(words_vocab)
    texts = ["un want", "", "\u0301want x", b"w\xffant", "\u00ad"]
    together = tokenizer.encode_with_offsets(texts)
    alone = [tokenizer.encode_with_offsets([text]) for text in texts]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert whole.tolist() == np.concatenate(parts).tolist()
    assert [part.tolist() for part in tokenizer.encode_with_offsets([])] == [[], [], []]


@pytest.mark.parametrize("lower", [True, False])
def test_spans_of_every_code_point(tokenizers_of_characters, lower):
    assert_sound_spans(tokenizers_of_characters[lower], EVERY_CODE_POINT[::17])


@settings(deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), lower=st.booleans())
def test_spans_of_any_texts(tokenizers_of_characters, texts, lower):
    assert_sound_spans(tokenizers_of_characters[lower], texts)


@settings(deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), lower=st.booleans())
def test_spans_of_any_texts_with_unknown_words(words_vocab, texts, lower):
    assert_sound_spans(tokenization.FullTokenizer(words_vocab, lower), texts)


@pytest.mark.parametrize("shift", [(1, 1), (-1, -1), (0, 1), (1, 0), (0, -1), (-1, 0)])
def test_a_span_beside_its_place_is_noticed(tokenizers_of_characters, shift):
    tokenizer, text = tokenizers_of_characters[True], "ab,cd e\u535a, fg"
    ids, _, spans = tokenizer.encode_with_offsets([text])
    assert first_wrong_place(tokenizer, text, ids.tolist(), spans.tolist()) is None
    assert first_wrong_place(tokenizer, text, ids.tolist(), (spans + shift).tolist())


def test_vocab_keeps_the_order_of_lines(tmp_path):
    path = write_vocab(tmp_path, [*SPECIAL, "b\r", "\u2028", " a ", "##\u00e9"])
    expected = [*SPECIAL, "b", "\u2028", "a", "##\u00e9"]
    assert list(tokenization.load_vocab(path).items()) == [(t, i) for i, t in enumerate(expected)]


def test_vocab_may_lack_the_last_line_feed(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, "last"]))
    assert tokenization.load_vocab(path)["last"] == 4


@pytest.mark.parametrize("content, message", [
    (b"", r"vocab.txt: is empty"),
    (b"[PAD]\n[UNK]\nw\xffant\n",
     r"vocab.txt, line 3: is not UTF-8 \(invalid start byte at byte 2\)"),
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nab\ncd\nab\n",
     r"vocab.txt, line 7: the token 'ab' is on line 5 already"),
    (b"[PAD]\n[CLS]\nab\n", r"vocab.txt: lacks \[UNK\] \[SEP\]"),
])
def test_a_bad_vocabulary_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        tokenization.FullTokenizer(str(path))
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.txt: cannot be read \(No such file or directory\)"):
        tokenization.load_vocab(str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)"):
        tokenization.load_vocab(tmp_path)


@pytest.mark.parametrize("model, is_lower", [
    ("uncased_L-12_H-768_A-12", True), ("uncased_L-24_H-1024_A-16", True),
    ("multilingual_L-12_H-768_A-12", True), ("chinese_L-12_H-768_A-12", True),
    ("uncased_L-2_H-128_A-2", True), ("wwm_uncased_L-24_H-1024_A-16", True),
    ("cased_L-12_H-768_A-12", False), ("cased_L-24_H-1024_A-16", False),
    ("multi_cased_L-12_H-768_A-12", False), ("wwm_cased_L-24_H-1024_A-16", False),
])
def test_casing_of_released_models(model, is_lower):
    checkpoint = f"models/{model}/bert_model.ckpt"
    tokenization.validate_case_matches_checkpoint(is_lower, checkpoint)
    with pytest.raises(ValueError, match=f"{model} was .* set --do_lower_case={is_lower}$"):
        tokenization.validate_case_matches_checkpoint(not is_lower, checkpoint)


@pytest.mark.parametrize("checkpoint", [
    None, "", "bert_model.ckpt", "my_cased_model/bert_model.ckpt",
    "cased_L-12_H-768_A-12/model.ckpt-573"])
def test_other_checkpoints_may_have_any_casing(checkpoint):
    for do_lower_case in (True, False):
        tokenization.validate_case_matches_checkpoint(do_lower_case, checkpoint)


def test_a_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", encoding="utf-8-sig")
    assert list(tokenization.load_vocab(str(path)))[0] == "[PAD]"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("a\u302e\u1715\U0001d165\U0001d16d\U0001d160\u00e9\u0301\u0f73 "),
                min_size=30, max_size=120))
def test_ordered_runs_change_no_word(letters):
    text = "".join(letters) + "\u302e\u1715" * 20
    marks = tokenization.without_ordered_mark
    wanted = unicodedata.normalize("NFD", "".join(map(marks, text)))
    assert unicodedata.normalize("NFD", tokenization.with_ordered_runs(
        "".join(map(marks, text)))) == wanted


def test_runs_of_combining_characters_take_no_longer_than_others():
    """Insertion sort would take 40 s for this run."""
    text = "a" + "\u302e" * 200_000 + "\u1715" * 200_000
    start = time.process_time()
    words = tokenization.BasicTokenizer().tokenize(text)
    assert words == ["a" + "\u1715" * 200_000 + "\u302e" * 200_000]
    assert time.process_time() - start < 20


def test_what_is_remembered_is_bounded(tiny_dir, monkeypatch):
    monkeypatch.setattr(tokenization, "_BYTES_KEPT", 10_000)
    monkeypatch.setattr(tokenization, "_CODES_KEPT", 50)
    tokenizer = tokenization.FullTokenizer(f"{tiny_dir}/vocab.txt")
    table = tokenization._CharacterTable(str.upper)
    assert "".join(map(chr, range(97, 500))).translate(table).startswith("ABC") and len(table) == 50
    for start in range(0, 3000, 100):
        texts = [f"w{number}" for number in range(start, start + 100)]
        assert tokenizer.encode_batch(texts) == [
            tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in texts]
        assert len(tokenizer._memory._number_of) <= 200
