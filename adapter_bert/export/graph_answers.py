"""Answers to questions from long contexts, in the graph: a row of `savedmodel_single.KINDS`.

It does what kinds.windows and kinds.span_decoding do, whose words it uses.

Letters: B batch, T tokens, W windows of all questions, S spans of all windows, N n_best_size.
"""
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from adapter_bert.export import graph_tokenizer
from adapter_bert.kinds.windows import SPECIAL_TOKENS

_NONE = float("-inf")   # the score of a span that is not there


class Asked(NamedTuple):
    """The windows over the contexts of questions.

    contexts: string [B].
    codes: graph_tokenizer.Codes of the questions and then of the contexts.
    spans: int64 RaggedTensor [B, pieces, 2], the part of its context that each piece stands for.
    counts: int64 [B], windows of each question; 0 where none can be made.
    example: int64 [W], the question of each window.
    starts: int64 [W], the piece with which its part of the context begins.
    lengths: int64 [W], how many pieces it has.
    places: int64 [W], the token of the window at which this part begins.
    """

    contexts: tf.Tensor
    codes: graph_tokenizer.Codes
    spans: tf.RaggedTensor
    counts: tf.Tensor
    example: tf.Tensor
    starts: tf.Tensor
    lengths: tf.Tensor
    places: tf.Tensor


class Spans(NamedTuple):
    """Parts of contexts that may be answers.

    window: int64 [S].
    example: int64 [S].
    firsts, lasts: int64 [S], pieces of the context.
    scores: float64 [S].
    """

    window: tf.Tensor
    example: tf.Tensor
    firsts: tf.Tensor
    lasts: tf.Tensor
    scores: tf.Tensor


def features(manifest, tokenizer, text_a, text_b, is_pair):
    """Rows `[CLS] question [SEP] part of the context [SEP]`, as those of kinds.windows.

    Args:
      manifest: manifest.Manifest.
      tokenizer: graph_tokenizer.GraphTokenizer.
      text_a: string [B], questions.
      text_b: string [B], contexts.
      is_pair: of no account.

    Returns:
      {"input_ids", "input_mask", "segment_ids"} int32 [W, T], and Asked.
    """
    del is_pair
    rows, most = tf.size(text_a), manifest.max_seq_length
    codes = graph_tokenizer.code_points(tf.concat([text_a, text_b], axis=0))
    ids, spans = tokenizer.with_offsets(codes)                         # [2 B, pieces]
    lengths, begins = ids.row_lengths(), ids.row_starts()
    questions = tf.minimum(lengths[:rows], manifest.spans.max_query_length)   # [B]
    counts, example, starts, held = _windows(
        lengths[rows:], most - SPECIAL_TOKENS - questions, manifest.spans.doc_stride)
    head = tf.gather(questions, example) + 2                           # [W]
    columns = graph_tokenizer.laid_out(
        ids.values, tf.gather(begins[:rows], example), tf.gather(begins[rows:], example) + starts,
        head[:, None], (head + held + 1)[:, None], tokenizer.cls, tokenizer.sep)
    return columns, Asked(text_b, codes, ids.with_values(spans)[rows:], counts, example, starts,
                          held, head)


def _windows(contexts, room, doc_stride):
    """Counts [B], and of each window example, starts and lengths [W]; see kinds.windows.

    A question that leaves no room, or whose context has no word, has no window.

    Args:
      contexts: int64 [B], pieces of each.
      room: int64 [B], pieces of the context that fit into a window.
      doc_stride: int.
    """
    step = tf.clip_by_value(room, 1, doc_stride)
    counts = 1 + tf.maximum(-(-(contexts - room) // step), 0)
    counts = tf.where_v2((room > 0) & (contexts > 0), counts, 0)
    numbers = tf.ragged.range(counts)                                  # [B, windows]
    example = numbers.value_rowids()
    starts = numbers.values * tf.gather(step, example)
    return counts, example, starts, tf.minimum(
        tf.gather(room, example), tf.gather(contexts, example) - starts)


def outputs(manifest, predictions):
    """What is said of rows: {"start_logits", "end_logits"} float32 [W, T]."""
    del manifest
    return predictions


def answers(manifest, asked, predictions):
    """What is said of questions.

    Args:
      manifest: manifest.Manifest.
      asked: Asked.
      predictions: {"start_logits", "end_logits"} float32 [W, T].

    Returns:
      {"answer": string, "start": int64, "end": int64, "probability": float32}, each [B]: the answer
      is context[start:end], or "" with start and end -1. Where there is no window the probability
      is 0.
    """
    found = _spans(manifest.spans, asked, predictions["start_logits"], predictions["end_logits"])
    found, parts = _of_different_texts(asked, _best_first(found))
    n_best = tf.RaggedTensor.from_value_rowids(
        found.scores, found.example, tf.size(asked.contexts, out_type=tf.int64), validate=False)
    scores = n_best.to_tensor(_NONE, shape=[None, manifest.spans.n_best_size])   # [B, N]
    null = tf.math.unsorted_segment_min(
        tf.add_n([tf.cast(logits[:, 0], tf.float64) for logits in predictions.values()]),
        asked.example, tf.size(asked.contexts))
    is_answered, probability = _chosen(scores, null, manifest.spans.null_threshold)
    part = n_best.with_values(parts).to_tensor(-1, shape=[None, 1, 2])[:, 0]     # [B, 2]
    part = tf.where_v2(is_answered[:, None], part, -1)
    return {"answer": _cut(asked.contexts, part), "start": part[:, 0], "end": part[:, 1],
            "probability": tf.cast(tf.where_v2(asked.counts > 0, probability, 0.0), tf.float32)}


def _spans(options, asked, start_logits, end_logits):
    """The Spans of the n best starts and ends of each window, in the order of windows.

    Args:
      options: manifest.Spans.
      asked: Asked.
      start_logits, end_logits: float32 [W, T].
    """
    tokens = tf.shape(start_logits)[1]
    place = tf.range(tf.cast(tokens, tf.int64)) - asked.places[:, None]           # [W, T]
    is_context = (place >= 0) & (place < asked.lengths[:, None])
    (starts, firsts), (ends, lasts) = (
        tf.math.top_k(tf.where_v2(is_context, tf.cast(logits, tf.float64), _NONE),
                      tf.minimum(options.n_best_size, tokens))
        for logits in (start_logits, end_logits))                                 # [W, N] each
    length = lasts[:, None, :] - firsts[:, :, None]                               # [W, N, N]
    scores = starts[:, :, None] + ends[:, None, :]
    fits = (scores > _NONE) & (length >= 0) & (length < options.max_answer_length)
    where = tf.where_v2(fits)                                                     # [S, 3]
    window = where[:, 0]
    shift = tf.gather(asked.starts - asked.places, window)
    firsts = tf.cast(tf.gather_nd(firsts, where[:, :2]), tf.int64) + shift
    lasts = tf.cast(tf.gather_nd(lasts, where[:, ::2]), tf.int64) + shift
    found = Spans(window, tf.gather(asked.example, window), firsts, lasts, scores[fits])
    return _of(found, tf.where_v2(_has_most_context(asked, found))[:, 0])


def _has_most_context(asked, found):
    """Whether Spans have most context in their window: bool [S], see kinds.span_decoding."""
    first_window = tf.cumsum(asked.counts, exclusive=True)                        # [B]
    first = tf.gather(first_window, found.example)                                # [S]
    others = tf.ragged.range(first, first + tf.gather(asked.counts, found.example))
    span = others.value_rowids()
    starts, lengths = tf.gather(asked.starts, others.values), tf.gather(
        asked.lengths, others.values)
    firsts, lasts = tf.gather(found.firsts, span), tf.gather(found.lasts, span)
    context = tf.cast(tf.minimum(firsts - starts, starts + lengths - 1 - firsts), tf.float64)
    context += 0.01 * tf.cast(lengths, tf.float64)
    holds = (starts <= firsts) & (lasts < starts + lengths)
    context = others.with_values(tf.where_v2(holds, context, _NONE)).to_tensor(_NONE)
    # With one more column there is something to compare where there are no spans at all.
    best = tf.argmax(tf.pad(context, [[0, 0], [0, 1]], constant_values=_NONE), axis=1)
    return tf.equal(first + best, found.window)


def _best_first(found):
    """Spans by question, and of each question the best first; of equals the first stays first."""
    found = _of(found, tf.argsort(-found.scores, stable=True))
    return _of(found, tf.argsort(found.example, stable=True))


def _of_different_texts(asked, found):
    """Of Spans with the same text the first, and the parts of the contexts: int64 [S, 2]."""
    rows = asked.spans.nrows()
    begins = tf.gather(asked.spans.row_starts(), found.example)
    parts = tf.stack([tf.gather(asked.spans.values[:, 0], begins + found.firsts),
                      tf.gather(asked.spans.values[:, 1], begins + found.lasts)], axis=1)
    texts = graph_tokenizer.encoded(graph_tokenizer.parts(asked.codes, rows + found.example, parts))
    names, groups = tf.unique(tf.strings.join([tf.strings.as_string(found.example), " ", texts]))
    firsts = tf.math.unsorted_segment_min(tf.range(tf.size(groups)), groups, tf.size(names))
    return _of(found, firsts), tf.gather(parts, firsts)


def _of(found, places):
    """Some of Spans, int [any]."""
    return Spans(*(tf.gather(column, places) for column in found))


def _chosen(scores, null, threshold):
    """Whether there is an answer, and how probable it is, or that there is none.

    Args:
      scores: float64 [B, N], from the best to the least, -inf where there are no more.
      null: float64 [B], the score of no answer.
      threshold: see kinds.span_decoding.predict.

    Returns:
      bool [B], float64 [B].
    """
    count = tf.reduce_sum(tf.cast(scores > _NONE, tf.int64), axis=1)              # [B]
    best = scores[:, 0]
    if threshold is None:
        weights = tf.reduce_sum(tf.exp(scores - best[:, None]), axis=1)
        return count > 0, tf.where_v2(count > 0, 1.0 / weights, 1.0)
    better = tf.reduce_sum(tf.cast(scores >= null[:, None], tf.int64), axis=1)
    kept = tf.where_v2(tf.equal(better, count), count, tf.minimum(count, scores.shape[1] - 1))
    is_kept = tf.range(tf.cast(scores.shape[1], tf.int64)) < kept[:, None]        # [B, N]
    highest = tf.maximum(best, null)
    shares = tf.where_v2(is_kept, tf.exp(scores - highest[:, None]), 0.0)
    of_null = tf.exp(null - highest)
    is_answered = (count > 0) & (null - best <= threshold)
    share = tf.where_v2(is_answered, shares[:, 0], of_null)
    return is_answered, share / (tf.reduce_sum(shares, axis=1) + of_null)


def _cut(contexts, parts):
    """context[start:end] of each, int64 [B, 2]; "" where these are -1."""
    sound = tf.strings.unicode_transcode(contexts, "UTF-8", "UTF-8", errors="ignore")
    return tf.strings.substr(sound, tf.maximum(parts[:, 0], 0), parts[:, 1] - parts[:, 0],
                             unit="UTF8_CHAR")
