"""BERT's tokenization inside a graph: the ids of `tokenization.FullTokenizer`, for any string.

Every step works on code points, one text after the other, a space after each; what a character
becomes is looked up in tables made from Python's own (see `characters`). tensorflow-text's ready
tokenizers normalise otherwise; of that library only the last step is used, which cuts words.

Letters: B batch, T tokens, K characters of all texts, W words of all texts.
"""
import tensorflow.compat.v1 as tf

import tokenization
from adapter_bert.serving import characters

_LONGEST = 4 * tokenization.MAX_WORD_CHARACTERS   # in bytes of UTF-8


class GraphTokenizer:
    """Word-piece ids of texts, in the graph.

    Args:
      vocab: {token: id} as `tokenization.load_vocab` gives it.
      do_lower_case: bool, as of `tokenization.FullTokenizer`.
    """

    def __init__(self, vocab, do_lower_case):
        import tensorflow_text
        self.cls, self.sep = vocab["[CLS]"], vocab["[SEP]"]
        self._characters = tf.nest.map_structure(
            lambda table: None if table is None else tf.constant(table),
            characters.characters(do_lower_case))
        self._pieces = tensorflow_text.FastWordpieceTokenizer(
            [characters.standing_in(token) or f" {index}" for token, index in vocab.items()],
            token_out_type=tf.int32, max_bytes_per_word=_LONGEST, no_pretokenization=True)

    def __call__(self, texts):
        """The ids of texts.

        Args:
          texts: string [B], UTF-8 of which invalid parts are dropped.

        Returns:
          int32 RaggedTensor [B, T] without [CLS] and [SEP].
        """
        with tf.name_scope("tokenize"):
            words, counts = _words(texts, self._characters)
            pieces = self._pieces.tokenize(words)                      # [W, pieces]
            return tf.RaggedTensor.from_row_lengths(
                pieces, counts, validate=False).merge_dims(1, 2)


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
        return _laid_out(ids, rows, head, head + tail, tokenizer.cls, tokenizer.sep)


def _laid_out(ids, rows, head, total, cls, sep):
    """The columns of a batch.

    Args:
      ids: int32 RaggedTensor [2 B, T], first texts and second texts.
      rows: int32 scalar, B.
      head, total: int64 [B, 1], the word pieces of segment 0, and of both.
      cls, sep: int.
    """
    length = tf.reduce_max(tf.concat([total[:, 0], [2]], axis=0))      # 2 for no rows at all
    place, starts = tf.range(length), ids.row_starts()[:, None]        # [T], [2 B, 1]
    is_tail = place >= head                                            # [B, T]
    pieces = _at(ids.values, place + tf.where_v2(is_tail, starts[rows:] - head, starts[:rows] - 1))
    is_sep = tf.equal(place, head - 1) | tf.equal(place, total - 1)
    pieces = tf.where_v2(tf.equal(place, 0), cls, tf.where_v2(is_sep, sep, pieces))
    mask = tf.cast(place < total, tf.int32)
    return {"input_ids": pieces * mask, "input_mask": mask,
            "segment_ids": tf.cast(is_tail, tf.int32) * mask}


def truncate_pairs(first, second, limit):
    """How many ids of each side stay, see pipeline.truncation.truncate_pairs; all int64 [B]."""
    kept = tf.minimum(first, tf.maximum(limit - second, (limit + 1) // 2))
    return kept, tf.minimum(second, limit - kept)


def _at(values, places):
    """values[places], and anything where a place is none: int32 [any], int64 [B, T] -> [B, T]."""
    last = tf.size(values, out_type=tf.int64)
    return tf.gather(tf.concat([values, [0]], axis=0), tf.clip_by_value(places, 0, last))


def _words(texts, tables):
    """Words as BasicTokenizer gives them: string [W], and how many each text has, int64 [B].

    A word that is too long stands as one that no vocabulary can cut.
    """
    codes, rows = _code_points(texts)
    values, source = _replaced(_with_final_sigmas(codes, tables.neighbour), tables)
    values = _in_canonical_order(values, tables)
    is_kept = tf.not_equal(values, characters.NOTHING)
    values, source = values[is_kept], source[is_kept]
    is_letter = tf.not_equal(values, characters.SPACE)
    is_first = is_letter & ~tf.concat([[False], is_letter[:-1]], axis=0)
    starts = tf.where_v2(is_first)[:, 0]                               # [W]
    number = tf.cumsum(tf.cast(is_first, tf.int64)) - 1
    letters = tf.RaggedTensor.from_value_rowids(
        values[is_letter], number[is_letter], tf.size(starts, out_type=tf.int64), validate=False)
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(starts), tf.gather(rows, tf.gather(source, starts)), tf.size(texts))
    return _encoded(letters), counts


def _code_points(texts):
    """Code points int32 [K] with a space after each text, and the numbers of their texts [K]."""
    codes = tf.strings.unicode_decode(tf.strings.join([texts, " "]), "UTF-8", errors="ignore")
    return codes.values, codes.value_rowids()


def _with_final_sigmas(codes, neighbour):
    """Codes int32 [K] where each capital sigma that `str.lower` makes a final one says so.

    That is one with a cased character before it and none after it, whatever is skipped between.
    """
    if neighbour is None:
        return codes
    kind = _look_up(neighbour, codes)
    is_seen = tf.not_equal(kind, characters.SKIPPED)
    is_cased = tf.equal(kind[is_seen], characters.CASED)
    is_cased = tf.concat([[False], is_cased, [False]], axis=0)
    place = tf.maximum(tf.cumsum(tf.cast(is_seen, tf.int32)), 1)       # its own, among the seen
    is_final = (tf.equal(codes, characters.SIGMA) & tf.gather(is_cased, place - 1)
                & ~tf.gather(is_cased, place + 1))
    return tf.where_v2(is_final, characters.FINAL_SIGMA, codes)


def _replaced(codes, tables):
    """What stands for the characters, and the place of each in `codes`; both [more or fewer]."""
    rows = _look_up(tables.replacement_of, codes)
    places = tf.ragged.range(tf.gather(tables.splits, rows), tf.gather(tables.splits, rows + 1))
    source = places.value_rowids()
    values = tf.gather(tables.replacements, places.values)
    is_itself = tf.equal(values, characters.ITSELF)
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
    """The numbers of codes, int32 [K], in characters.Pages."""
    page = tf.gather(pages.page_of, codes // characters.PAGE)
    return tf.gather(pages.numbers, page * characters.PAGE + codes % characters.PAGE)


def _encoded(words):
    """Code points [W, of a word] as string [W]."""
    encoded = tf.strings.unicode_encode(words, "UTF-8")
    is_long = words.row_lengths() > tokenization.MAX_WORD_CHARACTERS
    return tf.where_v2(is_long, "x" * (_LONGEST + 1), encoded)
