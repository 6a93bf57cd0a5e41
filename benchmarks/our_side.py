"""Our side of a comparison: trains or predicts on a workload when asked to, see sides.serve."""
import argparse
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import graph
import numpy as np
import sides
import tensorflow.compat.v1 as tf
import workload

from adapter_bert.data import batches, example_codec, features, records

BATCH, MAX_LENGTH = 32, 128


def input_batch(folder, rows, is_training):
    """The features of a batch, by the input pipeline of a run."""
    def rows_between(start, stop):
        ends = np.concatenate([[0], np.cumsum(rows["lengths"])])
        tokens, own = slice(ends[start], ends[stop]), slice(start, stop)
        yield example_codec.Rows(rows["lengths"][own], {
            "input_ids": rows["input_ids"][tokens],
            "segment_ids": rows["segment_ids"][tokens],
            "label_ids": rows["label_ids"][own], "index": np.arange(start, stop)})

    count, spec = len(rows["lengths"]), features.feature_spec("classification", True)
    path = os.path.join(folder, "rows.tf_record")
    records.write_once(path, rows_between, count, spec, "benchmark")
    if is_training:
        data = batches.training_batches(path, spec, count, BATCH, MAX_LENGTH, seed=0)
    else:
        data = batches.evaluation_batches(path, spec, count, BATCH, MAX_LENGTH).repeat()
    return tf.data.make_one_shot_iterator(data).get_next()


def main():
    """Builds the graph and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", required=True, help="a file that workload.write made")
    parser.add_argument("--work", choices=("train", "predict"), default="train")
    graph.add_options(parser)
    options = parser.parse_args()
    tf.disable_eager_execution()
    with tempfile.TemporaryDirectory() as folder:
        serve(options, folder)


def serve(options, folder):
    """Answers requests; the records lie in `folder`."""
    is_training = options.work == "train"
    with np.load(options.rows) as file:
        rows = dict(file)
    batch = input_batch(folder, rows, is_training)
    counts = tf.reduce_sum(batch["input_mask"]), tf.size(batch["input_mask"])
    session, wanted, model, chosen = graph.build(options, batch, BATCH, is_training)

    def answer(request):
        found, start = [], time.perf_counter()
        for _ in range(request["steps"]):
            found.append(session.run([counts, wanted])[0])
        seconds = time.perf_counter() - start
        tokens, padded = np.sum(found, axis=0).tolist()
        return workload.answer(seconds, tokens, padded, rows["lengths"].mean())
    sides.serve({"engine": chosen.line(model.precision), "tensorflow": tf.__version__}, answer)


if __name__ == "__main__":
    main()
