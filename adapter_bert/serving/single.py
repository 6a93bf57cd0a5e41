"""One task in a graph that serves it: a base and a pack.

Letters: B batch, T tokens, C classes.
"""
import tensorflow.compat.v1 as tf

import adapter_layers
import modeling
import tokenization
from adapter_bert import network
from adapter_bert.serving import text


class SingleTask:
    """What `signatures` asks of whatever is served, here for one pack.

    Args:
      located: base.BertFiles of the base.
      pack: store.Pack made on it.
      ids_only: no text comes in, only ids.

    Attributes:
      has_texts: whether texts can be put in.
      has_task: whether a row says which task it is for; False, there is one.
      needs_pair: whether every text needs a second one.
      is_regression: whether it gives a score, not a label.
      max_seq_length: int.
    """

    def __init__(self, located, pack, ids_only=False):
        self._located, self._pack = located, pack
        manifest = pack.manifest
        self.has_texts, self.has_task = not ids_only, False
        self.needs_pair = bool(manifest.pair)
        self.is_regression = manifest.head == "regression"
        self.max_seq_length = manifest.max_seq_length
        self._variables: dict[str, tf.Variable] = {}
        self._getter = adapter_layers.tuning_getter(
            manifest.model().rules, tf.GraphKeys.GLOBAL_VARIABLES, self._variables)
        self._tokenizer = None if ids_only else text.GraphTokenizer(
            tokenization.load_vocab(located.vocab_file), manifest.do_lower_case)

    def features(self, text_a, text_b, is_pair=None, task=None):
        """What texts are to the model.

        Args:
          text_a: string [B].
          text_b: string [B].
          is_pair: bool [B], whether a row has a second text; None where nobody says: then all rows
            of a task of pairs have, and of another task those of which text_b is not empty.
          task: None.

        Returns:
          {"input_ids", "input_mask", "segment_ids"} int32 [B, T].
        """
        if is_pair is None:
            is_pair = tf.not_equal(text_b, "") | self.needs_pair
        return text.features(self._tokenizer, text_a, text_b, is_pair, self.max_seq_length)

    def outputs(self, features, task=None):
        """What the task says of a batch.

        Args:
          features: {"input_ids", "input_mask", "segment_ids"} int32 [B, T].
          task: None.

        Returns:
          {"label": string [B], "probabilities": float32 [B, C], "labels": string [B, C]}, labels in
          the order of the probabilities; or {"score": float32 [B]}.
        """
        model = self._pack.manifest.model()
        features = of_bounded_length(features, model.bert_config.max_position_embeddings)
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            made = network.network(model, features, False, modeling.plain_formulas(), False,
                                   self._getter).predictions
        if self.is_regression:
            return {"score": made["scores"]}
        labels, probabilities = tf.constant(self._pack.manifest.labels), made["probabilities"]
        return {"label": tf.gather(labels, tf.argmax(probabilities, axis=1)),
                "probabilities": probabilities,
                "labels": tf.tile(labels[None], [tf.shape(probabilities)[0], 1])}

    def restore(self, session):
        """Gives the variables their values: those of the pack, and of the base for the others."""
        weights = self._pack.weights
        network.start_from(self._located.init_checkpoint, {
            name: variable for name, variable in self._variables.items() if name not in weights})
        session.run(tf.global_variables_initializer())
        network.load(session, [(self._variables[name], value) for name, value in weights.items()])


def of_bounded_length(features, most):
    """The features, of rows that the base has positions for; else an error says so."""
    length = tf.shape(features["input_ids"])[1]
    fits = tf.debugging.assert_less_equal(
        length, most, message=f"a row of more word pieces than the base has positions, {most}")
    with tf.control_dependencies([fits]):
        return {name: tf.identity(column) for name, column in features.items()}
