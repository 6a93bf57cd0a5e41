"""Adapters to and from the library `adapters`: the same logits on both sides, the same weights.

    python benchmarks/interop.py --bert_dir=DIR --glue_dir=DIR [--run=DIR]

Adapters trained here on MRPC are loaded by that library, which saves them again; its own default
adapter with its default head, with random weights, is read here. Both sides compute the logits of
MRPC's dev set in float32 on the same base from the same ids. Written into docs/interop.json.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import sides
import tensorflow.compat.v1 as tf

from adapter_bert import files, kinds, network
from adapter_bert.bert import checkpoint_io, conversion, modeling, tokenization
from adapter_bert.data import features, padding
from adapter_bert.packs import adapterhub, store

RECORD = sides.ROOT / "docs" / "interop.json"
WORK_DIR = sides.ROOT / "demo" / "work" / "interop"
INPUTS = ("input_ids", "input_mask", "segment_ids")
MOST, LEAST_WITHOUT, BATCH = 1e-4, 1e-2, 32
TRAINING = ("--task_name=MRPC", "--tuning=adapters_only", "--precision=float32", "--do_train",
            "--do_eval", "--learning_rate=5e-4", "--bias_correction",
            "--adapter_init_stddev=2e-2", "--num_train_epochs=2", "--eval_batch_size=32")


def train(options):
    """Trains on MRPC, or goes on from what is in the folder of the run."""
    command = [sys.executable, "run_classifier.py", *TRAINING, *sides.REFERENCE,
               f"--bert_dir={options.bert_dir}", f"--data_dir={options.glue_dir}/MRPC",
               f"--output_dir={options.run}"]
    subprocess.run(command, cwd=sides.ROOT, check=True, stdout=sys.stderr)


def dev_ids(options):
    """The dev set of MRPC: {name: int32 [examples, longest]}."""
    task = kinds.get_task("MRPC")
    examples = kinds.read_examples(task, os.path.join(options.glue_dir, "MRPC"), "dev")
    tokenizer = tokenization.FullTokenizer(os.path.join(options.bert_dir, "vocab.txt"))
    labels = {label: index for index, label in enumerate(task.labels)}
    return padding.padded([row for rows in features.featurize(examples, tokenizer, 128, labels)
                          for row in padding.rows_of(rows)])


def our_logits(pack, bert_dir, ids):
    """Float [examples, classes] of the pack on its base, in float32."""
    values = {
        **checkpoint_io.Checkpoint(checkpoint_io.locate(bert_dir).init_checkpoint),
        **pack.weights,
    }
    with tf.Graph().as_default(), tf.Session() as session:
        batch = {name: tf.placeholder(tf.int32, [None, None]) for name in INPUTS}
        output, variables = network.towers(pack.manifest.model(), batch, 1, False,
                                           modeling.plain_formulas())
        network.load(session, [(variables[name], values[name]) for name in variables])
        return np.concatenate([
            session.run(output.predictions["logits"], {
                batch[name]: ids[name][start:start + BATCH] for name in INPUTS})
            for start in range(0, len(ids["input_ids"]), BATCH)])


def without_adapters(pack):
    """The pack with adapters of zeros: the control, which must give other logits."""
    return pack._replace(weights={name: value * ("/adapters/" not in name)
                                  for name, value in pack.weights.items()})


def ask_library(options, ids, folder):
    """Has the library load folder/ours; what it computes and saves lies in `folder` then."""
    hugging_face = WORK_DIR / "minilm-huggingface"
    print(
        conversion.convert(options.bert_dir, str(hugging_face), to="huggingface"), file=sys.stderr
    )
    np.savez(folder / "ids.npz", **ids)
    subprocess.run([str(sides.PEER_PYTHON), "benchmarks/peer_interop.py", f"--base={hugging_face}",
                    f"--folder={folder}"], cwd=sides.ROOT, check=True, stdout=sys.stderr,
                   env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return dict(np.load(folder / "logits.npz"))


def compare(pack, options, folder):
    """{what was compared: largest difference of a logit, or how many weights differ}."""
    ids, its_base = dev_ids(options), pack.manifest.base
    adapterhub.write(pack, str(folder / "ours"), "mrpc")
    theirs, ours = ask_library(options, ids, folder), our_logits(pack, options.bert_dir, ids)
    found = {"examples": len(ours)}
    for kind in ("bin", "safetensors"):
        found[f"ours there, {kind}"] = largest(ours, theirs[f"ours-{kind}"])
        back = adapterhub.read(str(folder / f"again-{kind}"), its_base)
        found[f"weights that differ when back, {kind}"] = sum(
            value.tobytes() != back.weights[name].tobytes()
            for name, value in pack.weights.items())
        read = adapterhub.read(str(folder / f"default-{kind}"), its_base)
        found[f"its default here, {kind}"] = largest(
            our_logits(read, options.bert_dir, ids), theirs["default"])
    found["control: ours without adapters"] = largest(
        our_logits(without_adapters(pack), options.bert_dir, ids), theirs["ours-bin"])
    found["control: its default without adapters"] = largest(
        our_logits(without_adapters(read), options.bert_dir, ids), theirs["default"])
    return found


def largest(ours, theirs):
    """The largest difference of two arrays of one shape; infinite where the shapes differ."""
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")


def misses(found):
    """The names of what is not as it should be."""
    def is_right(name, value):
        if name == "examples":
            return value > 0
        if name.startswith("weights"):
            return value == 0
        return value > LEAST_WITHOUT if name.startswith("control") else value <= MOST
    return [name for name, value in found.items() if not is_right(name, value)]


def main():
    """Prints and writes the numbers; exits with 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True, help="the MiniLM base in Google's form")
    parser.add_argument("--glue_dir", required=True, help="folder of MRPC")
    parser.add_argument("--run", type=pathlib.Path, default=WORK_DIR / "run",
                        help="folder of the run, which goes on from where it is")
    options = parser.parse_args()
    tf.disable_eager_execution()
    train(options)
    pack = store.read(os.path.join(options.run, "pack"))
    with tempfile.TemporaryDirectory() as folder:
        found = compare(pack, options, pathlib.Path(folder))
    wrong = misses(found)
    files.write_json(RECORD, {"command": "make interop", "commit": sides.commit(),
                              "training": " ".join(TRAINING), "found": found, "most": MOST,
                              "machine": sides.machine(), "misses": wrong})
    print(", ".join(f"{name} {value:.3g}" for name, value in found.items())
          + (f": MISSED {', '.join(wrong)}" if wrong else ""))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
