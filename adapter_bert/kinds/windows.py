"""Questions and contexts of any length as rows: `[CLS] question [SEP] part of the context [SEP]`.

Source: `convert_examples_to_features` of google-research/bert, run_squad.py: the same windows and
the same positions, but that an answer's pieces are found by their places in the text.

Letters: E examples, W windows.
"""
from typing import NamedTuple

import numpy as np

from adapter_bert.bert.tokenization import ragged_positions
from adapter_bert.data.features import chunks, join
from adapter_bert.errors import InputError
from adapter_bert.kinds.readers import shown
from adapter_bert.kinds.span_decoding import Passage

# Rows are made together up to so many, however many windows an example has.
WINDOWS_AT_ONCE = 4096
SPECIAL_TOKENS = 3   # [CLS], and two [SEP]


class Windows(NamedTuple):
    """The parts of contexts that windows hold.

    example: int64 [W], the example of each window.
    starts: int64 [W], the piece of the context with which its part begins.
    lengths: int64 [W], how many pieces of the context it holds.
    """

    example: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


class Pieces(NamedTuple):
    """Word pieces of one text of each example; examples may share them.

    ids: int32 [tokens].
    begins: int64 [E], where each example's begin.
    lengths: int64 [E], how many it has.
    """

    ids: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray


class Texts(NamedTuple):
    """Questions, cut, and contexts of some examples.

    spans: int64 [tokens of contexts, 2], the part of its context that each piece stands for.
    """

    questions: Pieces
    contexts: Pieces
    spans: np.ndarray


def featurize(examples, tokenizer, max_seq_length, max_query_length, doc_stride, labelled, first=0):
    """Records of windows over examples.

    Args:
      examples: list of kinds.squad_files.SquadExample.
      tokenizer: tokenization.FullTokenizer.
      max_seq_length: the most word pieces of a window, [CLS] and both [SEP] among them.
      max_query_length: the most word pieces of a question, of which the others are left out.
      doc_stride: how many pieces of the context a window begins after the one before it, at most
        as many as a window holds.
      labelled: whether the columns start_positions and end_positions are made: the tokens of the
        window with which the example's first answer begins and ends, 0 and 0 where the window does
        not hold it whole or there is none.
      first: `index` of the first example.

    Yields:
      Rows, window by window, with the columns `index`, the number of the example, and `doc_start`,
      the piece of the context with which the window's part begins.

    Raises:
      InputError: a question leaves no room for its context, or a context has no word.
    """
    for chunk in chunks(examples, characters):
        texts, windows = windows_of(chunk, tokenizer, max_seq_length, max_query_length, doc_stride)
        answers = answer_pieces(chunk, texts) if labelled else None
        for some, rows in rows_of(texts, windows, tokenizer, max_seq_length):
            rows.columns["index"] = first + some.example
            rows.columns["doc_start"] = some.starts
            if labelled:
                rows.columns.update(positions(some, texts.questions.lengths, answers))
            yield rows
        first += len(chunk)


def rows_of(texts, windows, tokenizer, max_seq_length):
    """Rows of windows over texts, up to WINDOWS_AT_ONCE at once: yields (Windows, Rows)."""
    cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    for start in range(0, len(windows.starts), WINDOWS_AT_ONCE):
        some = Windows(*(column[start:start + WINDOWS_AT_ONCE] for column in windows))
        yield some, join(
            parts(texts.questions, some.example, 0, texts.questions.lengths[some.example]),
            parts(texts.contexts, some.example, some.starts, some.lengths),
            np.ones(len(some.starts), bool), cls, sep, max_seq_length)


def passages(examples, tokenizer, max_seq_length, max_query_length, doc_stride):
    """What kinds.span_decoding has to know of each example to read the logits of its windows.

    Args and Raises as for `featurize`.

    Yields:
      kinds.span_decoding.Passage.
    """
    for chunk in chunks(examples, characters):
        yield from passages_of(chunk, *windows_of(
            chunk, tokenizer, max_seq_length, max_query_length, doc_stride))


def passages_of(examples, texts, windows):
    """The kinds.span_decoding.Passage of each example, of its Texts and Windows."""
    counts = np.bincount(windows.example)
    ends = np.cumsum(counts)
    for example, start, end, begin, length, question in zip(
            examples, ends - counts, ends, texts.contexts.begins, texts.contexts.lengths,
            texts.questions.lengths, strict=True):
        yield Passage(example.context, texts.spans[begin:begin + length],
                      windows.starts[start:end], windows.lengths[start:end], int(question) + 2)


def characters(example):
    """The count of characters of a kinds.squad_files.SquadExample."""
    return len(example.question) + len(example.context)


def windows_of(examples, tokenizer, max_seq_length, max_query_length, doc_stride):
    """The Texts of examples, and the Windows over them."""
    texts = encode(examples, tokenizer, max_query_length)
    questions, contexts = texts.questions.lengths, texts.contexts.lengths
    check(examples, max_seq_length - SPECIAL_TOKENS - questions, contexts, max_seq_length)
    return texts, lay_out(questions, contexts, max_seq_length, doc_stride)


def encode(examples, tokenizer, max_query_length):
    """The Texts of examples; a context that several share is encoded once."""
    ids, lengths = tokenizer.encode_ragged([example.question for example in examples])
    questions = Pieces(ids, np.cumsum(lengths) - lengths, np.minimum(lengths, max_query_length))
    number_of: dict[str, int] = {}
    numbers = np.array([number_of.setdefault(example.context, len(number_of))
                        for example in examples])
    ids, lengths, spans = tokenizer.encode_with_offsets(number_of)
    begins = np.cumsum(lengths) - lengths
    return Texts(questions, Pieces(ids, begins[numbers], lengths[numbers]), spans)


def check(examples, room, contexts, max_seq_length):
    """InputError for an example whose windows would hold nothing of a context.

    Args:
      room: int [E], how many pieces of the context fit into a window.
      contexts: int [E], how many there are.
    """
    for number in np.flatnonzero((room < 1) | (contexts < 1)):
        question = f"question {shown(examples[number].id)}"
        if contexts[number] < 1:
            raise InputError(f"{question}: its context has no word; mend or delete it")
        raise InputError(
            f"{question}: its {max_seq_length - SPECIAL_TOKENS - room[number]} word pieces leave "
            f"no room for the context in --max_seq_length={max_seq_length}; raise that, or lower "
            "--max_query_length")


def lay_out(questions, contexts, max_seq_length, doc_stride):
    """The Windows over contexts.

    A window holds as much of the context as fits beside the question; the next one begins
    min(doc_stride, what fits) later; the last one ends with the context.

    Args:
      questions, contexts: int64 [E], pieces of each, of questions as they were cut.
      max_seq_length, doc_stride: as for `featurize`.
    """
    room = max_seq_length - SPECIAL_TOKENS - questions                 # [E]
    step = np.minimum(room, doc_stride)
    counts = 1 + np.maximum(0, -(-(contexts - room) // step))
    example = np.repeat(np.arange(len(counts)), counts)                # [W]
    starts = ragged_positions(np.zeros_like(counts), counts) * step[example]
    return Windows(example, starts, np.minimum(room[example], contexts[example] - starts))


def answer_pieces(examples, texts):
    """The first and the last piece of the context that overlap the first answer of each example.

    Returns:
      int64 [E, 2]; -1 and -1 where there is no answer, or one without a piece.
    """
    found = np.full([len(examples), 2], -1)
    for number, example in enumerate(examples):
        if example.answers:
            text, start = example.answers[0]
            begin, length = texts.contexts.begins[number], texts.contexts.lengths[number]
            starts, ends = texts.spans[begin:begin + length].T
            first = np.searchsorted(ends, start, "right")
            last = np.searchsorted(starts, start + len(text)) - 1
            if first <= last:
                found[number] = first, last
    return found


def positions(windows, questions, answers):
    """The columns start_positions and end_positions: {name: int64 [W]}.

    Args:
      windows: Windows.
      questions: int64 [E], pieces of each question as it was cut.
      answers: int64 [E, 2], from `answer_pieces`.
    """
    firsts, lasts = answers[windows.example].T
    is_held = (firsts >= windows.starts) & (lasts < windows.starts + windows.lengths)
    shift = questions[windows.example] + 2 - windows.starts
    return {"start_positions": np.where(is_held, firsts + shift, 0),
            "end_positions": np.where(is_held, lasts + shift, 0)}


def parts(pieces, example, starts, lengths):
    """The ids of parts of examples one after the other, and how many each part has.

    Args:
      pieces: Pieces.
      example, starts, lengths: int64 [W], the example of each part, and where in it the part lies.
    """
    return pieces.ids[ragged_positions(pieces.begins[example] + starts, lengths)], lengths
