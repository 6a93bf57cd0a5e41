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
from workload import peak_memory, read

from adapter_bert.pipeline import batches, features, records

BATCH, MAX_LENGTH = 32, 128


def input_batch(folder, rows, is_training):
    """The features of a batch, by the input pipeline of a run."""
    spec = features.feature_spec("classification", True)
    path = os.path.join(folder, "rows.tf_record")
    records.write_once(path, lambda start, stop: rows[start:stop], len(rows), spec, "benchmark")
    if is_training:
        data = batches.training_batches(path, spec, len(rows), BATCH, MAX_LENGTH, seed=0)
    else:
        data = batches.evaluation_batches(path, spec, len(rows), BATCH, MAX_LENGTH).repeat()
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
    batch = input_batch(folder, read(options.rows), is_training)
    shape = tf.shape(batch["input_ids"])
    session, wanted, model, chosen = graph.build(options, batch, BATCH, is_training)

    def answer(request):
        shapes, start = [], time.perf_counter()
        for _ in range(request["steps"]):
            shapes.append(session.run([shape, wanted])[0])
        seconds = time.perf_counter() - start
        examples = int(sum(rows for rows, _ in shapes))
        return {"seconds": seconds, "examples": examples, "per_second": examples / seconds,
                "padded_tokens": int(np.prod(shapes, axis=1).sum()), "peak_bytes": peak_memory()}
    sides.serve({"engine": chosen.line(model.precision), "tensorflow": tf.__version__}, answer)


if __name__ == "__main__":
    main()
