"""Predictions from a base and a pack alone, in one session that takes other packs as well.

Letters: B batch, T tokens.
"""
import collections
import functools
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert import compute, network
from adapter_bert.bert import checkpoint_io, tokenization
from adapter_bert.data import padding
from adapter_bert.data.unknown_words import UNKNOWN
from adapter_bert.errors import InputError
from adapter_bert.packs import store
from adapter_bert.packs.answers import ANSWERS, check_head
from adapter_bert.packs.bases import base_of, check_base

BATCH_SIZE = 32


class Weights:
    """The weights of a graph as tensors, of which it makes variables or which each call reads.

    Args:
      checkpoint: prefix of the base's checkpoint.
      own: {name: shape} of the pack's weights, which are fed to placeholders.

    Attributes:
      placeholders: {name: float32 placeholder} of the pack's weights.
      values: {name: float32 tensor} of all weights.
    """

    def __init__(self, checkpoint: str, own: Mapping[str, tuple[int, ...]]):
        shapes = checkpoint_io.Checkpoint(checkpoint).shapes
        self.placeholders = {name: tf.placeholder(tf.float32, shape, name.replace("/", "_"))
                             for name, shape in own.items()}
        self.values = {**network.restored(checkpoint, {
            name: shapes[name] for name in sorted(shapes) if name not in own}), **self.placeholders}
        self._tensors: dict[str, tf.Tensor] = {}

    def getter(self, getter: Callable, name: str, *args: Any, **options: Any) -> tf.Tensor:
        """A `custom_getter` for `tf.variable_scope` that gives tensors instead of variables."""
        del getter, args
        if name not in self._tensors:
            self._tensors[name] = tf.cast(self.values[name], options["dtype"])
        return self._tensors[name]


class Seen(collections.Counter):
    """Counts: `rows`, `full` ones of them with as many word pieces as the task reads, `pieces`, and
    `unknown` ones of them, which are [UNK]."""

    def add(self, rows: list[tuple[Any, Any]], unknown: int, most: int) -> None:
        """Counts rows of ids.

        Args:
          rows: pairs (input_ids, segment_ids) of int arrays [T].
          unknown: id of [UNK].
          most: pieces of a row that the task reads.
        """
        lengths = np.array([len(ids) for ids, _ in rows], np.int64)
        pieces = np.concatenate([np.zeros(0, np.int32), *(ids for ids, _ in rows)])
        self.update(rows=len(rows), full=int((lengths >= most).sum()), pieces=len(pieces),
                    unknown=int((pieces == unknown).sum()))


class Predictor:
    """A base with a task's pack.

    Args:
      bert_dir: folder of the base, in Google's form.
      pack: path of a pack, or a store.Pack.
      precision: "auto", "float32" or "bfloat16", as the flag of run_classifier.py.
      kernels: "auto", "plain" or "fused", likewise.
      quick_start: for a few texts: a graph that is built and started in half the time, but reads
        the base again for every batch.

    Attributes:
      manifest: manifest.Manifest of the pack.
      seen: Seen, counts of what was predicted so far.

    Raises:
      InputError: the pack is invalid, or was made on another base.
    """

    def __init__(self, bert_dir: str, pack: str | store.Pack, precision: str = "auto",
                 kernels: str = "auto", quick_start: bool = False):
        opened: store.Pack = store.opened(pack)
        check_head(opened.manifest)
        store.warn(opened.manifest, opened.manifest.task)
        located, self.manifest = checkpoint_io.locate(bert_dir), opened.manifest
        self._tokenizer_of = functools.lru_cache(
            functools.partial(tokenization.FullTokenizer, located.vocab_file))
        precision = compute.choose_precision(precision, use_tpu=False)
        chosen = compute.choose_engine(kernels, use_tpu=False,
                                      rows=1 if quick_start else BATCH_SIZE)
        # The base's fingerprint is computed while the graph is built.
        with futures.ThreadPoolExecutor(1) as pool:
            found = pool.submit(base_of, bert_dir)
            try:
                with tf.Graph().as_default() as graph:
                    self._build(precision, chosen, located.init_checkpoint, not quick_start)
            finally:   # another base is also why a graph cannot be built
                check_base(found.result(), opened.manifest)
        self.seen = Seen()
        config = chosen.session_config() or tf.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = quick_start
        self._session = tf.Session(graph=graph, config=config)
        self._put(opened, self._start)

    def _build(self, precision: str, chosen: compute.Engine, checkpoint: str,
               weights_are_kept: bool) -> None:
        """Builds the graph, and the operations that give its variables their values."""
        tf.train.get_or_create_global_step()
        own = self.manifest.shapes()
        weights = Weights(checkpoint, own)
        self._inputs = {name: tf.placeholder(tf.int32, [None, None], name)
                        for name in ("input_ids", "input_mask", "segment_ids")}
        # Making variables takes longer than a few predictions.
        getter = None if weights_are_kept else weights.getter
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=getter):
            output, variables = network.towers(
                self.manifest.model(precision), self._inputs, chosen.towers, False,
                chosen.formulas(trains=False), first_values=weights.values)
        self._outputs, self._placeholders = output.predictions, weights.placeholders
        self._assign = self._start = None
        if weights_are_kept:
            self._assign = tf.group([variables[name].initializer for name in own])
            self._start = tf.group([variable.initializer for variable in
                                    tf.global_variables() + tf.local_variables()])

    def _put(self, pack: store.Pack, assign: tf.Operation | None) -> None:
        """Gives the pack's weights to the variables, or where there are none to every call."""
        self.manifest = pack.manifest
        feeds = {self._placeholders[name]: value for name, value in pack.weights.items()}
        self._fed_weights = {} if assign else feeds
        if assign:
            self._session.run(assign, feeds)

    def use(self, pack: str | store.Pack) -> None:
        """Replaces the present task by another one.

        Args:
          pack: path of a pack, or a store.Pack, of the same base, adapters and kind of head.

        Raises:
          InputError: the pack is invalid, or has another base, adapters or head.
        """
        opened: store.Pack = store.opened(pack)
        now, then = opened.manifest, self.manifest
        if now.base != then.base or now.model() != then.model():
            raise InputError(f"the pack of {now.task} has another base, adapters or head than that "
                             f"of {then.task}; load it with adapter_bert.load")
        self._put(opened, self._assign)

    def predict(self, texts: Iterable[Any]) -> list[Any]:
        """Predicts texts.

        Args:
          texts: list of str; of pairs (str, str) for a task of pairs, and (question, context) for
            one of spans; for tokens also lists of words, which are not split any further. A long
            text is cut to the task's max_seq_length, but a context is read as a whole.

        Returns:
          A list with an entry for each text: an answers.Prediction, the score of a regression as
          a float, for tokens a list of answers.Entity, or for spans an answers.Answer.

        Raises:
          InputError: an entry that is none of these.
        """
        if isinstance(texts, str) or not hasattr(texts, "__iter__"):
            raise InputError("predict takes a list of texts; write predict([text])")
        kind = ANSWERS[self.manifest.head]
        tokenizer = self._tokenizer_of(self.manifest.do_lower_case)
        found = []
        for rows, asked in kind.rows(self.manifest, tokenizer, list(texts)):
            self.seen.add(rows, tokenizer.vocab[UNKNOWN], self.manifest.max_seq_length)
            found += kind.answers(self.manifest, asked, self._run(rows))
        return found

    def _run(self, rows: list[tuple[Any, Any]]) -> list[Any]:
        """The head's predictions for each pair (input_ids, segment_ids): {name: array}."""
        found: list[Any] = [None] * len(rows)
        for places in padding.by_length([len(ids) for ids, _ in rows], BATCH_SIZE):
            batch = padding.padded([rows[place] for place in places])
            outputs = self._session.run(self._outputs, self._fed_weights | {
                self._inputs[name]: value for name, value in batch.items()})
            for number, place in enumerate(places):
                found[place] = {name: values[number] for name, values in outputs.items()}
        return found

    def close(self) -> None:
        """Ends the session and frees its memory."""
        self._session.close()

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
