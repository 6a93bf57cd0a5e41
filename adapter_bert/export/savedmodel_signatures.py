"""The ways to ask a SavedModel, as TensorFlow Serving knows them (docs/serving.md).

Letters: B batch, T tokens.
"""
import tensorflow.compat.v1 as tf
from tensorflow.compat.v1 import saved_model

from adapter_bert.export.savedmodel_single import REGRESS

DEFAULT, PAIRS, IDS = "serving_default", "serving_pairs", "ids"
FEATURES = ("input_ids", "input_mask", "segment_ids")


def signatures(served):
    """Builds the graph of what is served.

    A signature wants all its inputs, so an absent second text is another signature than a present
    one. Texts, pairs and ids have one network, for ids may be put in the place of what the texts
    are; serialized Examples have another.

    Args:
      served: savedmodel_single.SingleTask, savedmodel_multi.ManyTasks, or an object with their
        attributes and functions `features` and `outputs`.

    Returns:
      {name: SignatureDef}.
    """
    task = {"task": tf.placeholder(tf.string, [None], "task")} if served.has_task else {}
    if not served.has_texts:
        ids = {name: tf.placeholder(tf.int32, [None, None], name) for name in FEATURES}
        asked = _predict(ids | task, served.outputs(ids, **task)[0])
        return {DEFAULT: asked, IDS: asked}
    text_a = tf.placeholder(tf.string, [None], "text_a")
    text_b = tf.placeholder_with_default(tf.zeros_like(text_a), [None], "text_b")
    made, asked = served.features(text_a, text_b, **task)
    ids = {name: tf.placeholder_with_default(column, [None, None], name)
           for name, column in made.items()}
    of_rows, of_texts = served.outputs(ids, asked, **task)
    texts = _predict({"text_a": text_a} | task, of_texts)
    found = {DEFAULT: texts, IDS: _predict(ids | task, of_rows)}
    if served.takes_pairs:
        found[PAIRS] = _predict({"text_a": text_a, "text_b": text_b} | task, of_texts)
    if served.needs_pair:
        found[DEFAULT] = found[PAIRS]
    if served.of_examples:
        found[served.of_examples] = _of_examples(served)
    return found


def _predict(inputs, outputs):
    return saved_model.predict_signature_def(inputs, outputs)


def _of_examples(served):
    """SignatureDef of serialized tf.train.Examples, to classify or to regress."""
    examples = tf.placeholder(tf.string, [None], "examples")
    kinds = {"text_a": tf.io.FixedLenFeature([], tf.string),
             "text_b": tf.io.RaggedFeature(tf.string)}
    if served.has_task:
        kinds["task"] = tf.io.FixedLenFeature([], tf.string)
    columns = tf.io.parse_example(examples, kinds)
    second = columns.pop("text_b")                                     # [B, 0 or 1]
    text_a, is_pair = columns.pop("text_a"), second.row_lengths() > 0
    made, asked = served.features(text_a, _only(second), is_pair, **columns)
    _, outputs = served.outputs(made, asked, **columns)
    if served.of_examples == REGRESS:
        return saved_model.regression_signature_def(examples, outputs["score"])
    return saved_model.classification_signature_def(
        examples, outputs["labels"], outputs["probabilities"])


def _only(values):
    """The first value of each row, string [B, 0 or more] -> [B]; "" where there is none."""
    return values.to_tensor(default_value="", shape=[None, 1])[:, 0]
