"""On a GPU: the CPU's numbers, and training that learns. `make test-gpu`."""
import os
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf
from runs import go, write_sst2

from adapter_bert import compute
from adapter_bert.files import read_json

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.skipif(
    not compute.has_gpu(), reason="TensorFlow sees no GPU on this machine: nothing was tested")]


def test_a_gpu_gives_the_scores_of_the_cpu(tmp_path, tiny_dir):
    """Products may be in TF32 there, of 10 bits."""
    data, out = write_sst2(tmp_path / "data"), str(tmp_path / "out")
    on_gpu = go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
                tuning="full", learning_rate=0.002, bias_correction=True, num_train_epochs=20.0)
    assert on_gpu["eval_accuracy"] >= 0.9
    subprocess.run([sys.executable, "run_classifier.py", "--task_name=SST-2", "--do_eval",
                    f"--data_dir={data}", f"--bert_dir={tiny_dir}", f"--output_dir={out}"],
                   env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}, check=True)
    on_cpu = read_json(f"{out}/results.json")["metrics"]
    assert abs(on_gpu["eval_loss"] - on_cpu["eval_loss"]) < 5e-3


def test_products_run_on_the_gpu():
    x = tf.ones([256, 256])
    metadata = tf.RunMetadata()
    with tf.Session() as session:
        session.run(tf.matmul(x, x), run_metadata=metadata, options=tf.RunOptions(
            trace_level=tf.RunOptions.FULL_TRACE))
    assert any("GPU" in part.device for part in metadata.step_stats.dev_stats)
