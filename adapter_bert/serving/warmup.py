"""Requests that TensorFlow Serving runs before it lets a version answer: its warm-up file."""
import os

import tensorflow.compat.v1 as tf
from tensorflow.compat.v1 import saved_model

PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")


def write(folder, name, signatures, max_seq_length):
    """Writes the warm-up file of a version.

    Args:
      folder: of the version.
      name: under which the model is served.
      signatures: {name: SignatureDef}.
      max_seq_length: int, the most word pieces of a row; requests have 1 word, and so many.
    """
    path = os.path.join(folder, PATH)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as file:
        for key, signature in signatures.items():
            for words in (1, max_seq_length):
                file.write(_log(name, key, signature, words).SerializeToString())


def _log(name, key, signature, words):
    """The PredictionLog of a request with texts of that many words."""
    from tensorflow_serving.apis import prediction_log_pb2
    log = prediction_log_pb2.PredictionLog()
    if signature.method_name == saved_model.signature_constants.PREDICT_METHOD_NAME:
        request = log.predict_log.request
        for name_of_input, tensor in signature.inputs.items():
            value = ["a " * words] if tensor.dtype == tf.string else [[1] * words]
            request.inputs[name_of_input].CopyFrom(
                tf.make_tensor_proto(value, tf.as_dtype(tensor.dtype)))
    else:
        is_regression = (signature.method_name
                         == saved_model.signature_constants.REGRESS_METHOD_NAME)
        request = (log.regress_log if is_regression else log.classify_log).request
        request.input.example_list.examples.append(_example("a " * words))
    request.model_spec.name, request.model_spec.signature_name = name, key
    return log


def _example(text):
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
    return tf.train.Example(features=tf.train.Features(feature={"text_a": value}))
