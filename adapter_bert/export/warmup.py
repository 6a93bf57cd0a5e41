"""Requests that TensorFlow Serving runs before it lets a version answer: its warm-up file."""
import os

import tensorflow.compat.v1 as tf
from tensorflow.compat.v1 import saved_model

PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")


def write(folder, name, signatures, manifest):
    """Writes the warm-up file of a version.

    Args:
      folder: of the version.
      name: under which the model is served.
      signatures: {name: SignatureDef}.
      manifest: manifest.Manifest of the task with the longest rows, which is asked: requests have
        1 word, and its max_seq_length.
    """
    path = os.path.join(folder, PATH)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as file:
        for key, signature in signatures.items():
            for words in (1, manifest.max_seq_length):
                file.write(_log(name, key, signature, words, manifest.task).SerializeToString())


def _log(name, key, signature, words, task):
    """The PredictionLog of a request of a task, with texts of that many words."""
    from tensorflow_serving.apis import prediction_log_pb2
    log = prediction_log_pb2.PredictionLog()
    if signature.method_name == saved_model.signature_constants.PREDICT_METHOD_NAME:
        request = log.predict_log.request
        for name_of_input, tensor in signature.inputs.items():
            text = [task if name_of_input == "task" else "a " * words]
            value = text if tensor.dtype == tf.string else [[1] * words]
            request.inputs[name_of_input].CopyFrom(
                tf.make_tensor_proto(value, tf.as_dtype(tensor.dtype)))
    else:
        is_regression = (signature.method_name
                         == saved_model.signature_constants.REGRESS_METHOD_NAME)
        request = (log.regress_log if is_regression else log.classify_log).request
        request.input.example_list.examples.append(
            _example(text_a="a " * words, task=task))   # of one task alone it is not read
    request.model_spec.name, request.model_spec.signature_name = name, key
    return log


def _example(**texts):
    values = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
              for name, text in texts.items()}
    return tf.train.Example(features=tf.train.Features(feature=values))
