"""Text to WordPiece ids, as Google BERT's tokenization.py gives them, and the same ids in bulk.

`FullTokenizer.tokenize` is the definition, in Python; `FullTokenizer.encode_batch` gives the ids of
many texts and cuts words with the `tokenizers` library, `FullTokenizer.encode_with_offsets` gives
also the place in its text that each piece stands for.
"""
import codecs
import itertools
import re
import unicodedata

import numpy as np
from tokenizers import models

_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MAX_WORD_CHARACTERS = 200
# What is remembered of words and characters is bounded: strangers' texts would fill any memory.
_BYTES_KEPT, _BYTES_OF_ENTRY = 64 << 20, 250
_CODES_KEPT = 1 << 16
_LONG_RUN = re.compile("1{33,}")
# What becomes of a character: that many characters of words, or one of these.
_WHITE_SPACE, _CONTROL, _MARK = 0, 254, 255

# The blocks that the source counts as Chinese. Korean and Japanese letters are written with spaces
# or handled like any other script.
_CHINESE = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\U0002f800-\U0002fa1f]")

_GOOGLE_MODEL = re.compile(
    r"(?:wwm_)?(?P<kind>uncased|multilingual|chinese|cased|multi_cased)_L-\d+_H-\d+_A-\d+")


class FullTokenizer:
    """Words, punctuation and Chinese characters apart, each then cut into pieces of the vocabulary.

    Source: `FullTokenizer` of google-research/bert, tokenization.py.

    Attributes:
      vocab: dict of token to id, in the order of ids.
      inv_vocab: dict of id to token.
      continues: bool [tokens of the vocabulary], whether one goes on with a word, as `##s` does.
    """

    def __init__(self, vocab_file, do_lower_case=True):
        """Reads the vocabulary.

        Args:
          vocab_file: path of a text file with one token a line; the first line is id 0.
          do_lower_case: lower-cases and drops accents, as uncased models want it.

        Raises:
          ValueError: the file is no vocabulary (see `load_vocab`).
        """
        self.vocab = load_vocab(vocab_file)
        self.inv_vocab = {index: token for token, index in self.vocab.items()}
        self.basic_tokenizer = BasicTokenizer(do_lower_case=do_lower_case)
        self.wordpiece_tokenizer = WordpieceTokenizer(vocab=self.vocab)
        self._library = models.WordPiece(self.vocab, unk_token="[UNK]",
                                         max_input_chars_per_word=MAX_WORD_CHARACTERS)
        self._whole = {token: index for token, index in self.vocab.items()
                       if len(token) <= MAX_WORD_CHARACTERS}
        self._memory = _Memory()
        self._becomes = _CharacterTable(self._become)
        self.continues = np.array([token.startswith("##") for token in self.vocab])
        self._piece_characters = np.array([len(token.removeprefix("##")) for token in self.vocab])

    def tokenize(self, text):
        """Tokens of one text: `"Unaffable!"` gives `["un", "##aff", "##able", "!"]`.

        Args:
          text: str, or UTF-8 bytes of which invalid parts are dropped. A lone surrogate makes its
            word `[UNK]`.

        Returns:
          List of str, every one in `vocab`; empty for a text without words.
        """
        return [piece for word in self.basic_tokenizer.tokenize(text)
                for piece in self.wordpiece_tokenizer.tokenize(word)]

    def convert_tokens_to_ids(self, tokens):
        """List of int ids of tokens; KeyError for a token that is not in the vocabulary."""
        return [self.vocab[token] for token in tokens]

    def convert_ids_to_tokens(self, ids):
        """List of str tokens of ids; KeyError for an id outside the vocabulary."""
        return [self.inv_vocab[index] for index in ids]

    def encode_batch(self, texts):
        """Ids of many texts: `convert_tokens_to_ids(tokenize(text))` of each.

        Args:
          texts: iterable of str or UTF-8 bytes, as `tokenize` takes them.

        Returns:
          List with a list of int ids for each text, without [CLS] and [SEP].
        """
        ids, lengths = self.encode_ragged(texts)
        ids, ends = ids.tolist(), np.cumsum(lengths).tolist()
        return [ids[start:end] for start, end in itertools.pairwise([0, *ends])]

    def encode_ragged(self, texts):
        """Ids of many texts, one text after the other.

        What stands between two spaces is encoded when it is first met, and remembered: no step of
        `tokenize` looks past a space.

        Args:
          texts: iterable of str or UTF-8 bytes, as `tokenize` takes them.

        Returns:
          The ids of all texts, int32 [tokens], and how many each text has, int64 [texts].
        """
        texts = list(texts)
        try:
            together = " ".join(texts)
        except TypeError:   # some are bytes
            texts = list(map(convert_to_unicode, texts))
            together = " ".join(texts)
        chunks = together.split(" ") if texts else []
        ids, lengths = self._memory.look_up(chunks, self._encode)
        tokens = np.concatenate([[0], np.cumsum(lengths)])
        ends = np.cumsum([text.count(" ") + 1 for text in texts], dtype=np.int64)
        return ids, np.diff(tokens[ends], prepend=0)

    def encode_with_offsets(self, texts):
        """Ids of many texts as `encode_ragged` gives them, and what each id stands for.

        A piece stands for the characters it was made of, from the first to the last, and the marks
        on the last that were dropped: `text[start:end]`. Pieces of one character that became
        several, such as a Korean syllable, share it; an unknown word has its whole span. Starts
        and ends never decrease. Where canonical ordering changes the order of signs that stay (a
        few of musical notation), a piece has the places at which they would stand without it.

        Args:
          texts: iterable of str, or of UTF-8 bytes, whose places are those in the decoded text.

        Returns:
          The ids of all texts, int32 [tokens], how many each text has, int64 [texts], and the
          spans, int64 [tokens, 2].
        """
        texts = list(map(convert_to_unicode, texts))
        ids, lengths = self.encode_ragged(texts)
        together = " ".join(texts).translate(self._becomes).encode("latin-1")
        origins, ends = _places(np.frombuffer(together, np.uint8))
        characters = self._characters_of(texts, ids, lengths)
        after = np.cumsum(characters)
        spans = np.stack([origins[after - characters], ends[origins[after - 1]]], axis=1)
        begins = np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1]
        return ids, lengths, spans - np.repeat(begins, lengths)[:, np.newaxis]

    def _become(self, character):
        """As a character's code: how many characters of words stand for it, or why none does."""
        words = self.basic_tokenizer.tokenize(character)
        if words:
            return chr(sum(map(len, words)))
        if cleaned(character).isspace():
            return chr(_WHITE_SPACE)
        return chr(_MARK if unicodedata.category(character) == "Mn" else _CONTROL)

    def _characters_of(self, texts, ids, lengths):
        """How many characters of its word each id stands for: int64 [tokens]."""
        unknown = self.vocab["[UNK]"]
        characters = self._piece_characters[ids]
        ends = np.cumsum(lengths)
        for number in np.unique(np.searchsorted(ends, np.flatnonzero(ids == unknown), "right")):
            words = list(map(len, self.basic_tokenizer.tokenize(texts[number])))
            here = slice(ends[number] - lengths[number], ends[number])
            word_of = np.cumsum(~self.continues[ids[here]]) - 1
            characters[here] = np.where(
                ids[here] == unknown, np.array(words)[word_of], characters[here])
        return characters

    def _encode(self, texts):
        """Lists of ids of texts without a space."""
        return [[index for word in self._words_of(text) for index in self._cut(word)]
                for text in texts]

    def _words_of(self, text):
        """The words of a text; one of ASCII letters and digits alone is one."""
        word = text.lower() if self.basic_tokenizer.do_lower_case else text
        is_word = word.isascii() and word.isalnum()
        return [word] if is_word else self.basic_tokenizer.tokenize(text)

    def _cut(self, word):
        """The ids of a word's pieces."""
        if word in self._whole:
            return [self._whole[word]]
        try:
            return [token.id for token in self._library.tokenize(word)]
        except UnicodeEncodeError:   # a lone surrogate, which no vocabulary has
            return [self.vocab["[UNK]"]]


class _Memory:
    """Ids of the texts that were met so far."""

    def __init__(self):
        self._number_of = _Numbers()
        self._ids, self._starts = _Growing(np.zeros(0, np.int32)), _Growing(np.zeros(1, np.int64))
        self._bytes = 0   # about

    def look_up(self, texts, encode):
        """Ids int32 [tokens] of all texts, and how many each has, int64 [texts].

        Args:
          texts: iterable of str.
          encode: function (list of str) -> lists of int ids, for the new ones.
        """
        if self._bytes > _BYTES_KEPT:
            self.__init__()
        numbers = np.fromiter(map(self._number_of.__getitem__, texts), np.int64)
        if self._number_of.new:
            self._learn(self._number_of.new, encode(self._number_of.new))
            self._number_of.new = []
        starts, ends = self._starts.values[numbers], self._starts.values[numbers + 1]
        return self._ids.values[ragged_positions(starts, ends - starts)], ends - starts

    def _learn(self, texts, ids):
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter(itertools.chain.from_iterable(ids), np.int32)
        self._ids.extend(flat)
        self._starts.extend(self._starts.values[-1] + np.cumsum(lengths))
        self._bytes += 4 * sum(map(len, texts)) + _BYTES_OF_ENTRY * len(texts)


class _Numbers(dict):
    """Numbers the keys that it is asked for, in the order in which they are first met.

    Attributes:
      new: list of the keys that were met since somebody emptied it.
    """

    def __init__(self):
        super().__init__()
        self.new = []

    def __missing__(self, key):
        self[key] = number = len(self)
        self.new.append(key)
        return number


class _Growing:
    """An array that grows at its end without being copied each time."""

    def __init__(self, first):
        self._room, self._count = first, len(first)

    @property
    def values(self):
        """The array."""
        return self._room[:self._count]

    def extend(self, more):
        """Puts an array behind what is there."""
        count = self._count + len(more)
        if count > len(self._room):
            room = np.empty(2 * count, self._room.dtype)
            room[:self._count] = self.values
            self._room = room
        self._room[self._count:count] = more
        self._count = count


def _places(becomes):
    """Where the characters of words come from.

    Args:
      becomes: uint8 [characters], what becomes of each character of a text.

    Returns:
      For each character of the words its place in the text; for each character of the text where
      it ends, with the marks on it that are dropped.
    """
    places = np.arange(len(becomes))
    is_dropped = becomes >= _CONTROL
    marks = np.flatnonzero(becomes == _MARK)
    carriers = np.maximum.accumulate(np.where(is_dropped, 0, places))
    ends = places + 1
    ends[carriers[marks]] = marks + 1   # of several marks the last one counts
    return np.repeat(places, np.where(is_dropped, 0, becomes)), ends


def ragged_positions(starts, lengths):
    """The places [starts[0], starts[0] + 1, ... of lengths[0], starts[1], ...].

    Args:
      starts: int [rows], where each row begins.
      lengths: int [rows].

    Returns:
      int64 [sum of lengths].
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


class BasicTokenizer:
    """Words, punctuation marks and Chinese characters of a text.

    Source: `BasicTokenizer` of google-research/bert, tokenization.py. Its steps: drop control
    characters, NUL and U+FFFD; spaces around Chinese characters; lower case, NFD and no nonspacing
    marks (if `do_lower_case`); spaces around punctuation; split at white space. The source lowers
    word by word; a pass over the whole text gives the same and is faster, since neither lower case
    nor NFD looks past a space.
    """

    def __init__(self, do_lower_case=True):
        self.do_lower_case = do_lower_case

    def tokenize(self, text):
        """List of str words of a text (str, or UTF-8 bytes)."""
        text = convert_to_unicode(text).translate(_CLEANED)
        if self.do_lower_case:
            text = _without_accents(text.lower())
        return text.translate(_PUNCTUATION_APART).split()


class WordpieceTokenizer:
    """Cuts words into the longest pieces that a vocabulary has, from left to right.

    Source: `WordpieceTokenizer` of google-research/bert, tokenization.py.
    """

    def __init__(self, vocab, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS):
        """Takes the pieces.

        Args:
          vocab: dict or set of str pieces; one that continues a word begins with `##`.
          unk_token: stands for a word that cannot be cut, whole.
          max_input_chars_per_word: a word of more characters is unknown.
        """
        self.vocab = vocab
        self.unk_token = unk_token
        self.max_input_chars_per_word = max_input_chars_per_word
        self._longest = max(map(len, vocab), default=0)

    def tokenize(self, text):
        """List of str pieces of the words of `text`, which `BasicTokenizer` has separated."""
        return [piece for word in convert_to_unicode(text).split() for piece in self._cut(word)]

    def _cut(self, word):
        if len(word) > self.max_input_chars_per_word:
            return [self.unk_token]
        pieces, start = [], 0
        while start < len(word):
            end = self._end_of_longest_piece(word, start)
            if end == start:
                return [self.unk_token]
            pieces.append(_piece(word, start, end))
            start = end
        return pieces

    def _end_of_longest_piece(self, word, start):
        """Where the longest piece from `start` ends; `start` where there is none."""
        for end in range(min(len(word), start + self._longest), start, -1):
            if _piece(word, start, end) in self.vocab:
                return end
        return start


def load_vocab(vocab_file):
    """The tokens of a vocabulary file with their ids.

    Args:
      vocab_file: path of a UTF-8 text file with one token a line; the first line is id 0.

    Returns:
      dict of str token to int id, in the order of lines.

    Raises:
      ValueError: the file cannot be read, is empty, is not UTF-8, has a token twice, or lacks one
        of [PAD], [UNK], [CLS], [SEP].
    """
    lines_of = {}
    for number, line in enumerate(_read_lines(vocab_file), start=1):
        # bert-base-chinese has U+2028 as a token: white space that no text yields, but a line.
        token = line.strip() or line
        if token in lines_of:
            raise ValueError(f"{vocab_file}, line {number}: the token {token!r} is on line "
                             f"{lines_of[token]} already; each token may have one line")
        lines_of[token] = number
    missing = [token for token in _SPECIAL_TOKENS if token not in lines_of]
    if missing:
        raise ValueError(f"{vocab_file}: lacks {' '.join(missing)}; give the vocab.txt that came "
                         "with the BERT checkpoint")
    return {token: number - 1 for token, number in lines_of.items()}


def convert_to_unicode(text):
    """`text` as str: bytes are decoded from UTF-8, invalid parts dropped.

    Raises:
      ValueError: `text` is neither str nor bytes.
    """
    if isinstance(text, str):
        return text
    if isinstance(text, bytes):
        return text.decode("utf-8", "ignore")
    raise ValueError(f"a text must be str or bytes, not {type(text).__name__}")


def validate_case_matches_checkpoint(do_lower_case, init_checkpoint):
    """Checks `do_lower_case` against the name of a released model in the path of its checkpoint.

    The source knows seven folder names; here any size of the same families counts, such as
    `uncased_L-4_H-512_A-8` and `wwm_cased_L-24_H-1024_A-16`. Other names pass.

    Args:
      do_lower_case: bool, the casing asked for.
      init_checkpoint: str, a path such as `cased_L-12_H-768_A-12/bert_model.ckpt`; None passes.

    Raises:
      ValueError: the model was trained with the other casing.
    """
    folder = re.search(r"([A-Za-z0-9_-]+)/bert_model\.ckpt", init_checkpoint or "")
    model = folder and _GOOGLE_MODEL.fullmatch(folder[1])
    if not model:
        return
    is_lower = model["kind"] not in ("cased", "multi_cased")
    if is_lower != bool(do_lower_case):
        raise ValueError(
            f"--do_lower_case={do_lower_case} does not fit {init_checkpoint}: {folder[1]} was "
            f"trained on {'lower-cased' if is_lower else 'cased'} text; "
            f"set --do_lower_case={is_lower}")


class _CharacterTable(dict):
    """For `str.translate`: what stands for each character, computed when it is first met."""

    def __init__(self, replacement):
        super().__init__()
        self._replacement = replacement

    def __missing__(self, code):
        replacement = self._replacement(chr(code))
        if len(self) < _CODES_KEPT:
            self[code] = replacement
        return replacement


def cleaned(character):
    """What stands for a character when control characters are dropped and white space and Chinese
    characters stand apart: "", " " or the character, which is Chinese between spaces."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if character in "\0\ufffd" or category in ("Cc", "Cf"):
        return ""
    return f" {character} " if _CHINESE.match(character) else character


def without_ordered_mark(character):
    """Nothing for a nonspacing mark that has a combining class.

    It is dropped in the end, and canonical ordering moves it, so that it stands in no other's way.
    """
    is_ordered = all(map(unicodedata.combining, unicodedata.normalize("NFD", character)))
    return "" if is_ordered and unicodedata.category(character) == "Mn" else character


def _without_mark(character):
    return "" if unicodedata.category(character) == "Mn" else character


def punctuation_apart(character):
    """White space around punctuation: category P, and ASCII that is no letter, digit or space."""
    is_ascii_mark = "!" <= character <= "~" and not character.isalnum()
    is_punctuation = is_ascii_mark or unicodedata.category(character).startswith("P")
    return f" {character} " if is_punctuation else character


_CLEANED = _CharacterTable(cleaned)
_WITHOUT_ORDERED_MARKS = _CharacterTable(without_ordered_mark)
_WITHOUT_MARKS = _CharacterTable(_without_mark)
_PUNCTUATION_APART = _CharacterTable(punctuation_apart)
_IS_COMBINING = _CharacterTable(lambda character: "1" if unicodedata.combining(character) else "0")


def _without_accents(text):
    """NFD without nonspacing marks.

    CPython's NFD sorts a run of marks by insertion, which takes minutes for a megabyte of them. So
    the marks that are dropped in the end are dropped before as well, and others are put in order.
    """
    if text.isascii():
        return text
    text = with_ordered_runs(text.translate(_WITHOUT_ORDERED_MARKS))
    return unicodedata.normalize("NFD", text).translate(_WITHOUT_MARKS)


def with_ordered_runs(text):
    """The text with each long run of combining characters in canonical order, a stable sort."""
    runs = list(_LONG_RUN.finditer(text.translate(_IS_COMBINING))) if len(text) > 32 else ()
    parts, end = [], 0
    for run in runs:
        parts += [text[end:run.start()],
                  *sorted(text[run.start():run.end()], key=unicodedata.combining)]
        end = run.end()
    return "".join(parts) + text[end:]


def _piece(word, start, end):
    return f"##{word[start:end]}" if start else word[:end]


def _read_lines(path):
    """The lines of a UTF-8 file, split at line feeds alone."""
    try:
        with open(path, "rb") as file:
            content = file.read().removeprefix(codecs.BOM_UTF8)   # Windows editors write one
            lines = content.removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give the path of a vocab.txt"
                         ) from error
    if lines == [b""]:
        raise ValueError(f"{path}: is empty; a vocabulary has one token a line")
    return [_decoded(line, path, number) for number, line in enumerate(lines, start=1)]


def _decoded(line, path, number):
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: is not UTF-8 ({error.reason} at byte "
                         f"{error.start + 1}); save the file as UTF-8") from error
