"""Our side of a comparison: trains or predicts on a workload when asked to, see sides.serve."""
import argparse
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import sides
import tensorflow.compat.v1 as tf
from workload import peak_memory, read

import adapter_layers
import optimization
from adapter_bert.pipeline import batches, features, records
from adapter_bert.training import checkpoints, engine, model_fn, setup

BATCH, MAX_LENGTH = 32, 128


def build(options, rows):
    """Session, what to run, and the tensors that tell the size of a batch."""
    folder = tempfile.mkdtemp()
    spec = features.feature_spec("classification", True)
    path = os.path.join(folder, "rows.tf_record")
    records.write_once(path, lambda start, stop: rows[start:stop], len(rows), spec, "benchmark")
    is_training = options.work == "train"
    if is_training:
        data = batches.training_batches(path, spec, len(rows), BATCH, MAX_LENGTH, seed=0)
    else:
        data = batches.evaluation_batches(path, spec, len(rows), BATCH, MAX_LENGTH).repeat()
    batch = tf.data.make_one_shot_iterator(data).get_next()
    tf.train.get_or_create_global_step()
    chosen = engine.choose_engine(options.kernels, False, BATCH)
    model = model_fn.Model(
        setup.read_config(f"{options.bert_dir}/bert_config.json"), "classification", 2,
        options.tuning, adapter_layers.AdapterConfig() if options.tuning == "adapters" else None,
        engine.choose_precision(options.precision, False))
    output, variables = model_fn.towers(model, batch, chosen.towers, is_training,
                                        chosen.formulas(engine.Places(0)))
    wanted = output.predictions["probabilities"]
    if is_training:
        wanted = optimization.create_optimizer(
            tf.reduce_mean(output.losses), 1e-4, 100_000, 100, bias_correction=True)
    start = checkpoints.Start(None, f"{options.bert_dir}/bert_model.ckpt", "")
    checkpoints.scaffold(list(variables.values()), start, fresh_allowed=True)
    session = tf.Session(config=chosen.session_config())
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    facts = {"engine": chosen.line(model.precision), "tensorflow": tf.__version__}
    return session, wanted, tf.shape(batch["input_ids"]), facts


def main():
    """Builds the graph and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--rows", required=True, help="a file that workload.write made")
    parser.add_argument("--work", choices=("train", "predict"), default="train")
    parser.add_argument("--tuning", default="adapters")
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    tf.disable_eager_execution()
    session, wanted, shape, facts = build(options, read(options.rows))

    def answer(request):
        shapes, start = [], time.perf_counter()
        for _ in range(request["steps"]):
            shapes.append(session.run([shape, wanted])[0])
        seconds = time.perf_counter() - start
        examples = int(sum(rows for rows, _ in shapes))
        return {"seconds": seconds, "examples": examples, "per_second": examples / seconds,
                "padded_tokens": int(np.prod(shapes, axis=1).sum()), "peak_bytes": peak_memory()}
    sides.serve(facts, answer)


if __name__ == "__main__":
    main()
