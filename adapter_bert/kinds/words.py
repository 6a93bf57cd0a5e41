"""Sentences of words to word-piece ids, with the first piece of each word marked.

    words          Angela  Merkels      lives
    input_ids      [CLS]   Angela  Merkel  ##s  lives  [SEP]
    word_starts    0       1       1       0    1      0
"""
from typing import NamedTuple

import numpy as np

from adapter_bert.data.features import Rows, chunks, join


class Encoded(NamedTuple):
    """Sentences as records, and where their words are in them.

    rows: features.Rows of input_ids, segment_ids and word_starts.
    places: int64 [words of all sentences], the place of each word's first piece in its row; 0, the
      place of [CLS], for a word that is cut or has no piece.
    cut: how many words are cut.
    """

    rows: Rows
    places: np.ndarray
    cut: int


def encode(sentences, tokenizer, max_seq_length):
    """Records of sentences: `[CLS] words [SEP]`, segment 0.

    A word may have no piece, where it is of control characters only.

    Args:
      sentences: list with the list of str words of each.
      tokenizer: tokenization.FullTokenizer.
      max_seq_length: the most word pieces of a record, [CLS] and [SEP] among them.

    Returns:
      Encoded.
    """
    cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    ids, pieces = tokenizer.encode_ragged([word for words in sentences for word in words])
    counts = np.fromiter(map(len, sentences), np.int64, len(sentences))
    lasts, begins = np.cumsum(counts), np.concatenate([[0], np.cumsum(pieces)])
    starts = begins[lasts - counts]                          # of each sentence in `ids`
    rows = join((ids, begins[lasts] - starts), None, np.zeros(len(sentences), bool), cls, sep,
                max_seq_length)
    places = 1 + begins[:-1] - np.repeat(starts, counts)
    is_kept = places < max_seq_length - 1
    places[~is_kept | (pieces == 0)] = 0
    heads = np.repeat(np.cumsum(rows.lengths) - rows.lengths, counts)
    rows.columns["word_starts"] = np.zeros_like(rows.columns["segment_ids"])
    rows.columns["word_starts"][(heads + places)[places > 0]] = 1
    return Encoded(rows, places, int((pieces[~is_kept] > 0).sum()))


def featurize(sentences, tokenizer, max_seq_length, label_index, first=0):
    """Records of sentences with their tags, 0 wherever no word begins.

    Args:
      sentences: list of kinds.Sentence, all with tags or none.
      tokenizer, max_seq_length: as for `encode`.
      label_index: {tag: id}.
      first: `index` of the first sentence.

    Yields:
      Rows; without the column label_ids where the sentences have no tags.
    """
    for chunk in chunks(sentences, lambda sentence: characters(sentence.words)):
        encoded = encode([sentence.words for sentence in chunk], tokenizer, max_seq_length)
        rows = encoded.rows
        rows.columns["index"] = np.arange(first, first + len(chunk))
        first += len(chunk)
        if chunk[0].tags is not None:
            tags = np.array([label_index[tag] for sentence in chunk for tag in sentence.tags])
            is_first = rows.columns["word_starts"] == 1
            rows.columns["label_ids"] = np.zeros_like(rows.columns["word_starts"])
            rows.columns["label_ids"][is_first] = tags[encoded.places > 0]
        yield rows


def characters(words):
    """The count of characters of a list of words, or of a text."""
    return len("".join(words)) if not isinstance(words, str) else len(words)


def spans_of(texts, tokenizer):
    """Where the words of texts are, which white space and punctuation part.

    Args:
      texts: list of str.
      tokenizer: tokenization.FullTokenizer.

    Returns:
      A list with an int64 array [words, 2] for each text: its words are text[start:end].
    """
    ids, lengths, spans = tokenizer.encode_with_offsets(texts)
    firsts = np.flatnonzero(~tokenizer.continues[ids])
    lasts = np.append(firsts, len(ids))[1:] - 1
    ends = np.searchsorted(firsts, np.cumsum(lengths))
    return np.split(np.stack([spans[firsts, 0], spans[lasts, 1]], axis=1), ends)[:-1]
