"""One task in a graph that serves it: a base and a pack.

Letters: B batch, T tokens.
"""
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from adapter_bert import network
from adapter_bert.bert import adapters, checkpoint_io, modeling, tokenization, tuning_modes
from adapter_bert.export import graph_answers, graph_labels, graph_tags, graph_tokenizer
from adapter_bert.kinds.heads import token_logits

CLASSIFY, REGRESS = "classify", "regress"


class Kind(NamedTuple):
    """How a kind of head is asked and what it answers, in the graph; see packs.answers.

    features: function (Manifest, GraphTokenizer, text_a, text_b, is_pair) -> ({"input_ids",
      "input_mask", "segment_ids"} int32 [B, T], what `answers` has to know of the texts), of
      string [B] and bool [B].
    outputs: function (Manifest, predictions) -> {name: tensor}, what is said of rows.
    answers: function (Manifest, asked, predictions) -> {name: tensor}, what is said of texts; None
      where that is the same.
    head: function as kinds.heads.Head.build; None for that of the kind.
    of_examples: how tf.train.Examples are asked about, CLASSIFY or REGRESS; None for not at all.
    takes_pairs: whether a text may have a second one.
    """

    features: Callable
    outputs: Callable
    answers: Callable | None = None
    head: Callable | None = None
    of_examples: str | None = None
    takes_pairs: bool = True


KINDS = {
    "classification": Kind(graph_labels.features, graph_labels.labels, of_examples=CLASSIFY),
    "regression": Kind(graph_labels.features, graph_labels.scores, of_examples=REGRESS),
    "spans": Kind(graph_answers.features, graph_answers.outputs, graph_answers.answers),
    "tokens": Kind(graph_tags.features, graph_tags.outputs, graph_tags.answers, token_logits,
                   takes_pairs=False),
}


class SingleTask:
    """What `signatures` asks of whatever is served, here for one pack.

    Args:
      located: checkpoint_io.BertFiles of the base.
      pack: store.Pack made on it.
      ids_only: no text comes in, only ids.

    Attributes:
      has_texts: whether texts can be put in.
      has_task: whether a row says which task it is for; False, there is one.
      takes_pairs: whether a text may have a second one.
      needs_pair: whether every text needs one.
      of_examples: how tf.train.Examples are asked about, CLASSIFY or REGRESS; None for not at all.
    """

    def __init__(self, located, pack, ids_only=False):
        self._located, self._manifest = located, pack.manifest
        self._model, self._weights = merged(pack, checkpoint_io.Checkpoint(located.init_checkpoint))
        self._kind = KINDS[self._manifest.head]
        self.has_texts, self.has_task = not ids_only, False
        self.takes_pairs, self.of_examples = self._kind.takes_pairs, self._kind.of_examples
        self.needs_pair = bool(self._manifest.pair)
        self._variables: dict[str, tf.Variable] = {}
        self._getter = tuning_modes.tuning_getter(
            self._model.rules, tf.GraphKeys.GLOBAL_VARIABLES, self._variables)
        self._tokenizer = None if ids_only else graph_tokenizer.GraphTokenizer(
            tokenization.load_vocab(located.vocab_file), self._manifest.do_lower_case)

    def features(self, text_a, text_b, is_pair=None, task=None):
        """What texts are to the model.

        Args:
          text_a: string [B].
          text_b: string [B].
          is_pair: bool [B], whether a row has a second text; None where nobody says: then all rows
            of a task of pairs have, and of another task those of which text_b is not empty.
          task: None.

        Returns:
          {"input_ids", "input_mask", "segment_ids"} int32 [rows, T], and what `outputs` has to know
          of the texts.
        """
        if is_pair is None:
            is_pair = tf.not_equal(text_b, "") | self.needs_pair
        return self._kind.features(self._manifest, self._tokenizer, text_a, text_b, is_pair)

    def outputs(self, features, asked=None, task=None):
        """What the task says of rows, and of texts.

        Args:
          features: {"input_ids", "input_mask", "segment_ids"} int32 [rows, T].
          asked: what `features` gave beside these; None where there are no texts.
          task: None.

        Returns:
          {name: tensor} of the rows, and {name: tensor} of the texts, see KINDS.
        """
        features = of_bounded_length(
            features, self._model.bert_config.max_position_embeddings)
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            made = network.network(self._model, features, False, modeling.plain_formulas(), False,
                                   self._getter, self._kind.head).predictions
        of_rows = self._kind.outputs(self._manifest, made)
        if asked is None:
            return of_rows, of_rows
        return of_rows, self._kind.answers(self._manifest, asked, made)

    def restore(self, session):
        """Gives the variables their values: those of the pack, and of the base for the others."""
        network.start_from(self._located.init_checkpoint, {
            name: variable for name, variable in self._variables.items()
            if name not in self._weights})
        session.run(tf.global_variables_initializer())
        network.load(session, [(self._variables[name], value)
                               for name, value in self._weights.items()])


def merged(pack, base_values):
    """The model and weights of a pack, its adapters within the base's own weights where they can.

    Args:
      pack: store.Pack.
      base_values: mapping of the base's variables.

    Returns:
      network.Model and {name: float32 array}.
    """
    model, adapter = pack.manifest.model(), pack.manifest.adapter
    merge = adapter and adapters.ADAPTERS[adapter.adapter_fn].merge
    if not merge:
        return model, pack.weights
    others = {name: value for name, value in pack.weights.items() if "/adapters/" not in name}
    return (dataclasses.replace(model, adapter=None),
            others | merge(adapter, pack.weights, base_values))


def of_bounded_length(features, most):
    """The features, of rows that the base has positions for; else an error says so."""
    length = tf.shape(features["input_ids"])[1]
    fits = tf.debugging.assert_less_equal(
        length, most, message=f"a row of more word pieces than the base has positions, {most}")
    with tf.control_dependencies([fits]):
        return {name: tf.identity(column) for name, column in features.items()}
