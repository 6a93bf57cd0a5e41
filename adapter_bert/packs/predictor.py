"""Predictions from a base and a pack alone, in one session that takes other packs as well.

Letters: B batch, T tokens.
"""
import functools
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import tensorflow.compat.v1 as tf

import tokenization
from adapter_bert import base, engine, network, processes
from adapter_bert.errors import InputError
from adapter_bert.packs import store
from adapter_bert.packs.answers import ANSWERS, check_head
from adapter_bert.packs.bases import base_of, check_base
from adapter_bert.pipeline import arrays

BATCH_SIZE = 32


class FirstValues:
    """A getter of variables that start with given values, with as few operations as possible.

    A variable's own initializer is six operations, which take time to build and are not used here.

    Args:
      checkpoint: prefix of the checkpoint that has the other variables.
      own: {name: shape} of the variables that start with the values of placeholders.

    Attributes:
      placeholders: {name: float32 placeholder} of the variables in `own` that were made.
    """

    def __init__(self, checkpoint: str, own: Mapping[str, tuple[int, ...]]):
        names = [name for name in base.Checkpoint(checkpoint) if name not in own]
        values = tf.raw_ops.RestoreV2(prefix=checkpoint, tensor_names=names,
                                      shape_and_slices=[""] * len(names),
                                      dtypes=[tf.float32] * len(names))
        self._restored, self._own = dict(zip(names, values, strict=True)), own
        self.placeholders: dict[str, tf.Tensor] = {}

    def getter(self, getter: Callable, name: str, *args: Any, **options: Any) -> tf.Variable:
        """A `custom_getter` for `tf.variable_scope`."""
        def value(shape: list[int], dtype: tf.DType = tf.float32) -> tf.Tensor:
            if name not in self._own:
                return tf.cast(self._restored[name], dtype)
            self.placeholders[name] = tf.placeholder(dtype, shape)
            return self.placeholders[name]
        return getter(name, *args, **{**options, "initializer": value})


class Predictor:
    """A base with a task's pack.

    Args:
      bert_dir: folder of the base, in Google's form.
      pack: path of a pack, or a store.Pack.
      precision: "auto", "float32" or "bfloat16", as the flag of run_classifier.py.
      kernels: "auto", "plain" or "fused", likewise.
      quick_start: for a few texts: a graph that is built and started in about half the time, and
        computes large batches more slowly.

    Attributes:
      manifest: manifest.Manifest of the pack.

    Raises:
      InputError: the pack is invalid, or was made on another base.
    """

    def __init__(self, bert_dir: str, pack: str | store.Pack, precision: str = "auto",
                 kernels: str = "auto", quick_start: bool = False):
        pack = store.opened(pack)
        check_head(pack.manifest)
        located, self.manifest = base.locate(bert_dir), pack.manifest
        self._tokenizer_of = functools.lru_cache(
            functools.partial(tokenization.FullTokenizer, located.vocab_file))
        precision = engine.choose_precision(precision, use_tpu=False)
        chosen = engine.choose_engine(kernels, use_tpu=False,
                                      rows=1 if quick_start else BATCH_SIZE)
        # The base's fingerprint is computed while the graph is built.
        with futures.ThreadPoolExecutor(1) as pool, processes.without_collections():
            found = pool.submit(base_of, bert_dir)
            with tf.Graph().as_default():
                self._build(precision, chosen, located.init_checkpoint)
            check_base(found.result(), pack.manifest)
        config = chosen.session_config() or tf.ConfigProto()
        if quick_start:
            config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.Session(graph=self._graph, config=config)
        self._session.run(self._start, self._feeds(pack))

    def _build(self, precision: str, chosen: engine.Engine, checkpoint: str) -> None:
        """Builds the graph: the base's variables start with the values of its checkpoint, the
        pack's own with those of placeholders."""
        self._graph = tf.get_default_graph()
        tf.train.get_or_create_global_step()
        own = self.manifest.shapes()
        first_values = FirstValues(checkpoint, own)
        self._inputs = {name: tf.placeholder(tf.int32, [None, None], name)
                        for name in ("input_ids", "input_mask", "segment_ids")}
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=first_values.getter):
            output, variables = network.towers(
                self.manifest.model(precision), self._inputs, chosen.towers, False,
                chosen.formulas(trains=False))
        self._outputs = output.predictions
        self._values = first_values.placeholders
        self._assign = tf.group([variables[name].initializer for name in own])
        self._start = tf.group([variable.initializer for variable in
                                tf.global_variables() + tf.local_variables()])

    def _feeds(self, pack: store.Pack) -> dict[tf.Tensor, Any]:
        """{placeholder: value} of a pack's own variables."""
        return {self._values[name]: value for name, value in pack.weights.items()}

    def use(self, pack: str | store.Pack) -> None:
        """Replaces the present task by another one.

        Args:
          pack: path of a pack, or a store.Pack, of the same base, adapters and kind of head.

        Raises:
          InputError: the pack is invalid, or has another base, adapters or head.
        """
        pack = store.opened(pack)
        now, then = pack.manifest, self.manifest
        if now.base != then.base or now.model() != then.model():
            raise InputError(f"the pack of {now.task} has another base, adapters or head than that "
                             f"of {then.task}; load it with adapter_bert.load")
        self._session.run(self._assign, self._feeds(pack))
        self.manifest = pack.manifest

    def predict(self, texts):
        """What the pack's task says of texts.

        Args:
          texts: list of str; of pairs (str, str) for a task of pairs, and (question, context) for
            one of spans; of tokens also of lists of words, which are not parted any further. A
            long one is cut to the task's max_seq_length, but for a context, which is read whole.

        Returns:
          A list with an answer for each: an answers.Prediction, the score of a regression as a
          float, of tokens the list of answers.Entity, or of spans an answers.Answer.

        Raises:
          InputError: an entry that is none of these.
        """
        if isinstance(texts, str) or not hasattr(texts, "__iter__"):
            raise InputError("predict takes a list of texts; write predict([text])")
        kind = ANSWERS[self.manifest.head]
        tokenizer = self._tokenizer_of(self.manifest.do_lower_case)
        found = []
        for rows, asked in kind.rows(self.manifest, tokenizer, list(texts)):
            found += kind.answers(self.manifest, asked, self._run(rows))
        return found

    def _run(self, rows):
        """The head's predictions for each pair (input_ids, segment_ids): {name: array}."""
        found = [None] * len(rows)
        for places in arrays.by_length([len(ids) for ids, _ in rows], BATCH_SIZE):
            batch = arrays.padded([rows[place] for place in places])
            outputs = self._session.run(self._outputs, {
                self._inputs[name]: value for name, value in batch.items()})
            for number, place in enumerate(places):
                found[place] = {name: values[number] for name, values in outputs.items()}
        return found

    def close(self):
        """Ends the session and frees its memory."""
        self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
