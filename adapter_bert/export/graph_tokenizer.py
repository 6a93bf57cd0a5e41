"""BERT's tokenization inside a graph: the ids of `tokenization.FullTokenizer`, for any string.

Every step works on code points, one text after the other, a space after each; what a character
becomes is looked up in tables made from Python's own (see `characters`). tensorflow-text's ready
tokenizers normalise otherwise; of that library only the last step is used, which cuts words.

Letters: B batch, T tokens, K characters of all texts, W words of all texts, L letters of all words.
"""
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from adapter_bert.bert import tokenization
from adapter_bert.export import unicode_tables

_LONGEST = 4 * tokenization.MAX_WORD_CHARACTERS   # in bytes of UTF-8


class Codes(NamedTuple):
    """Texts as code points, one after the other, a space after each.

    values: int32 [K].
    rows: int64 [K], the number of each one's text.
    begins: int64 [B], where each text begins.
    """

    values: tf.Tensor
    rows: tf.Tensor
    begins: tf.Tensor


class Words(NamedTuple):
    """The words of texts as BasicTokenizer gives them.

    letters: int32 RaggedTensor [W, letters].
    counts: int64 [B], how many words each text has.
    origins: int64 [L], the place in Codes that each letter was made of.
    kept: int64, the places that letters or spaces were made of, in their order.
    """

    letters: tf.RaggedTensor
    counts: tf.Tensor
    origins: tf.Tensor
    kept: tf.Tensor


class GraphTokenizer:
    """Word-piece ids of texts, in the graph.

    Args:
      vocab: {token: id} as `tokenization.load_vocab` gives it.
      do_lower_case: bool, as of `tokenization.FullTokenizer`.
    """

    def __init__(self, vocab, do_lower_case):
        import tensorflow_text
        self.cls, self.sep, self._unknown = (vocab[one] for one in ("[CLS]", "[SEP]", "[UNK]"))
        self._letters_of = [len(token.removeprefix("##")) for token in vocab]
        self._characters = tf.nest.map_structure(
            lambda table: None if table is None else tf.constant(table),
            unicode_tables.characters(do_lower_case))
        self._pieces = tensorflow_text.FastWordpieceTokenizer(
            [unicode_tables.standing_in(token) or f" {index}" for token, index in vocab.items()],
            token_out_type=tf.int32, max_bytes_per_word=_LONGEST, no_pretokenization=True)

    def __call__(self, texts):
        """The ids of texts.

        Args:
          texts: string [B], UTF-8 of which invalid parts are dropped.

        Returns:
          int32 RaggedTensor [B, T] without [CLS] and [SEP].
        """
        with tf.name_scope("tokenize"):
            return self.ids(code_points(texts))

    def ids(self, codes):
        """The same of Codes."""
        words = _words(codes, self._characters)
        return _by_text(self._cut(words), words).merge_dims(1, 2)

    def with_offsets(self, codes):
        """The ids of Codes, and the part of its text that each stands for.

        Returns:
          int32 RaggedTensor [B, T], and its values' spans int64 [tokens, 2], as those of
          `tokenization.FullTokenizer.encode_with_offsets`.
        """
        words = _words(codes, self._characters)
        pieces = self._cut(words)                                      # [W, pieces]
        of_word = tf.gather(words.letters.row_lengths(), pieces.value_rowids())
        letters = tf.where_v2(
            tf.equal(pieces.values, self._unknown), of_word,
            tf.gather(tf.constant(self._letters_of, tf.int64), pieces.values))   # [tokens]
        after = tf.cumsum(letters)
        return (_by_text(pieces, words).merge_dims(1, 2),
                _spans(codes, words, after - letters, after - 1))

    def words(self, codes):
        """The places of the words of Codes: int64 RaggedTensor [B, W, 2], as kinds.words."""
        words = _words(codes, self._characters)
        spans = _spans(codes, words, words.letters.row_starts(), words.letters.row_limits() - 1)
        return tf.RaggedTensor.from_row_lengths(spans, words.counts, validate=False)

    def _cut(self, words):
        """The ids of Words: int32 RaggedTensor [W, pieces]."""
        return self._pieces.tokenize(encoded(words.letters, tokenization.MAX_WORD_CHARACTERS))


def features(tokenizer, text_a, text_b, is_pair, max_seq_length):
    """Rows `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, segments 0 and 1, as a model takes them.

    Args:
      tokenizer: GraphTokenizer.
      text_a: string [B].
      text_b: string [B], of no account where a row is no pair.
      is_pair: bool [B], whether a row has a second text, which may be empty.
      max_seq_length: int, or int32 [B], the most word pieces of a row.

    Returns:
      {"input_ids", "input_mask", "segment_ids"} int32 [B, T], T that of the longest row.
    """
    with tf.name_scope("features"):
        rows, pairs = tf.size(text_a), tf.cast(is_pair, tf.int64)      # B, [B]
        ids = tokenizer(tf.concat([text_a, tf.where_v2(is_pair, text_b, "")], axis=0))
        lengths = ids.row_lengths()                                    # [2 B]
        limit = tf.cast(max_seq_length, tf.int64) - 2 - pairs
        first, second = truncate_pairs(lengths[:rows], lengths[rows:], limit)
        head, tail = (first + 2)[:, None], (pairs * (second + 1))[:, None]   # [B, 1]
        starts = ids.row_starts()
        return laid_out(ids.values, starts[:rows], starts[rows:], head, head + tail, tokenizer.cls,
                        tokenizer.sep)


def laid_out(ids, firsts, seconds, head, total, cls, sep):
    """The columns of a batch.

    Args:
      ids: int32 [tokens of all texts].
      firsts, seconds: int64 [B], where in `ids` those of segment 0 begin, and those of segment 1.
      head, total: int64 [B, 1], the word pieces of segment 0, and of both, with [CLS] and [SEP].
      cls, sep: int.

    Returns:
      {"input_ids", "input_mask", "segment_ids"} int32 [B, T].
    """
    length = tf.reduce_max(tf.concat([total[:, 0], [2]], axis=0))      # 2 for no rows at all
    place = tf.range(length)                                           # [T]
    is_tail = place >= head                                            # [B, T]
    pieces = _at(ids, place + tf.where_v2(is_tail, seconds[:, None] - head, firsts[:, None] - 1))
    is_sep = tf.equal(place, head - 1) | tf.equal(place, total - 1)
    pieces = tf.where_v2(tf.equal(place, 0), cls, tf.where_v2(is_sep, sep, pieces))
    mask = tf.cast(place < total, tf.int32)
    return {"input_ids": pieces * mask, "input_mask": mask,
            "segment_ids": tf.cast(is_tail, tf.int32) * mask}


def truncate_pairs(first, second, limit):
    """How many ids of each side stay, see data.truncation.truncate_pairs; all int64 [B]."""
    kept = tf.minimum(first, tf.maximum(limit - second, (limit + 1) // 2))
    return kept, tf.minimum(second, limit - kept)


def _at(values, places):
    """values[places], and anything where a place is none: int32 [any], int64 [B, T] -> [B, T]."""
    last = tf.size(values, out_type=tf.int64)
    return tf.gather(tf.concat([values, [0]], axis=0), tf.clip_by_value(places, 0, last))


def code_points(texts):
    """The Codes of texts, string [B]."""
    codes = tf.strings.unicode_decode(tf.strings.join([texts, " "]), "UTF-8", errors="ignore")
    return Codes(codes.values, codes.value_rowids(), codes.row_starts())


def parts(codes, rows, spans):
    """Parts of texts.

    Args:
      codes: Codes.
      rows: int64 [parts], the text that each is of.
      spans: int64 [parts, 2], it is text[start:end].

    Returns:
      int32 RaggedTensor [parts, characters].
    """
    places = spans + tf.gather(codes.begins, rows)[:, None]
    return tf.gather(codes.values, tf.ragged.range(places[:, 0], places[:, 1]))


def of_parts(values):
    """Code points int32 [B, characters] as Codes."""
    spaces = tf.fill([values.nrows(), 1], unicode_tables.SPACE)
    codes = tf.concat([values, spaces], axis=1)
    return Codes(codes.values, codes.value_rowids(), codes.row_starts())


def _by_text(values, words):
    """Values of Words, [W, ...], as [B, W, ...]."""
    return tf.RaggedTensor.from_row_lengths(values, words.counts, validate=False)


def _words(codes, tables):
    """The Words of Codes."""
    values, source = _replaced(_with_final_sigmas(codes.values, tables.neighbour), tables)
    values = _in_canonical_order(values, tables)
    is_kept = tf.not_equal(values, unicode_tables.NOTHING)
    values, source = values[is_kept], source[is_kept]
    is_letter = tf.not_equal(values, unicode_tables.SPACE)
    is_first = is_letter & ~tf.concat([[False], is_letter[:-1]], axis=0)
    starts = tf.where_v2(is_first)[:, 0]                               # [W]
    number = tf.cumsum(tf.cast(is_first, tf.int64)) - 1
    letters = tf.RaggedTensor.from_value_rowids(
        values[is_letter], number[is_letter], tf.size(starts, out_type=tf.int64), validate=False)
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(starts), tf.gather(codes.rows, tf.gather(source, starts)),
        tf.size(codes.begins))
    return Words(letters, counts, source[is_letter], source)


def _spans(codes, words, firsts, lasts):
    """The parts of texts that runs of letters were made of.

    A part ends with the marks on its last character that were dropped.

    Args:
      codes: Codes.
      words: Words of them.
      firsts, lasts: int64 [runs], the first and the last of the letters of each.

    Returns:
      int64 [runs, 2], places in the text.
    """
    starts, lasts = tf.gather(words.origins, firsts), tf.gather(words.origins, lasts)
    begins = tf.gather(codes.begins, tf.gather(codes.rows, starts))
    return tf.stack([starts, tf.gather(_ends(codes, words), lasts)], axis=1) - begins[:, None]


def _ends(codes, words):
    """Where each character ends, with the marks on it that are dropped: int64 [K].

    Of one that is dropped itself it is anything.
    """
    size = tf.size(codes.values, out_type=tf.int64)
    is_kept = tf.scatter_nd(words.kept[:, None], tf.ones_like(words.kept), size[None]) > 0
    carrier = tf.cumsum(tf.cast(is_kept, tf.int64)) - 1                # [K], its number
    marks = tf.constant(unicode_tables.marks())
    place = tf.minimum(tf.searchsorted(marks, codes.values), tf.size(marks) - 1)
    is_mark = tf.equal(tf.gather(marks, place), codes.values) & ~is_kept
    places = tf.where_v2(is_kept)[:, 0]                                # [kept]
    with_marks = tf.math.unsorted_segment_max(
        tf.where_v2(is_mark)[:, 0], carrier[is_mark], tf.size(places))
    return tf.gather(tf.maximum(places, with_marks) + 1, tf.maximum(carrier, 0))


def _with_final_sigmas(codes, neighbour):
    """Codes int32 [K] where each capital sigma that `str.lower` makes a final one says so.

    That is one with a cased character before it and none after it, whatever is skipped between.
    """
    if neighbour is None:
        return codes
    kind = _look_up(neighbour, codes)
    is_seen = tf.not_equal(kind, unicode_tables.SKIPPED)
    is_cased = tf.equal(kind[is_seen], unicode_tables.CASED)
    is_cased = tf.concat([[False], is_cased, [False]], axis=0)
    place = tf.maximum(tf.cumsum(tf.cast(is_seen, tf.int32)), 1)       # its own, among the seen
    is_final = (tf.equal(codes, unicode_tables.SIGMA) & tf.gather(is_cased, place - 1)
                & ~tf.gather(is_cased, place + 1))
    return tf.where_v2(is_final, unicode_tables.FINAL_SIGMA, codes)


def _replaced(codes, tables):
    """What stands for the characters, and the place of each in `codes`; both [more or fewer]."""
    rows = _look_up(tables.replacement_of, codes)
    places = tf.ragged.range(tf.gather(tables.splits, rows), tf.gather(tables.splits, rows + 1))
    source = places.value_rowids()
    values = tf.gather(tables.replacements, places.values)
    is_itself = tf.equal(values, unicode_tables.ITSELF)
    return tf.where_v2(is_itself, tf.gather(codes, source), values), source


def _in_canonical_order(values, tables):
    """Marks that are left sorted by combining class between characters that have none."""
    count = tables.ordered.shape.num_elements()
    if not count:
        return values
    row = tf.minimum(tf.searchsorted(tables.ordered, values), count - 1)
    is_mark = tf.equal(tf.gather(tables.ordered, row), values)
    places = tf.where_v2(is_mark)                                      # [marks, 1]
    run = tf.cumsum(tf.cast(~is_mark, tf.int64))[is_mark]
    order = tf.cast(tf.gather(tables.classes, row), tf.int64)[is_mark]
    size = tf.size(places, out_type=tf.int64)
    keys = (run * 256 + order) * size + tf.range(size)                 # all different
    sorted_marks = tf.gather(values[is_mark], tf.argsort(keys))
    return tf.tensor_scatter_nd_update(values, places, sorted_marks)


def _look_up(pages, codes):
    """The numbers of codes, int32 [K], in unicode_tables.Pages."""
    page = tf.gather(pages.page_of, codes // unicode_tables.PAGE)
    return tf.gather(pages.numbers, page * unicode_tables.PAGE + codes % unicode_tables.PAGE)


def encoded(words, most=None):
    """Code points [W, of a word] as string [W].

    The 66 that are never to be a character come out as U+FFFD. A word of more than `most` stands as
    one that no vocabulary can cut.
    """
    texts = tf.strings.unicode_encode(words, "UTF-8")
    if most is None:
        return texts
    return tf.where_v2(words.row_lengths() > most, "x" * (_LONGEST + 1), texts)
