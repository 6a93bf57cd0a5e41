"""What a graph is computed with: parts side by side, precision, kernels."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from runs import go, write_sst2

from adapter_bert import compute, kernels, network
from adapter_bert.bert import adapters, optimization
from adapter_bert.errors import InputError
from adapter_bert.files import read_json
from adapter_bert.kinds import heads

ADAPTER = adapters.AdapterConfig(size=4, init_stddev=0.1)


def batch(rows, tokens=9):
    random = np.random.default_rng(0)
    lengths = random.integers(2, tokens + 1, [rows, 1])
    return {"input_ids": tf.constant(random.integers(0, 40, [rows, tokens]), tf.int32),
            "input_mask": tf.constant(np.arange(tokens)[None] < lengths, tf.int32),
            "segment_ids": tf.zeros([rows, tokens], tf.int32),
            "label_ids": tf.constant(random.integers(0, 2, rows), tf.int32)}


def losses_and_gradients(towers, rows, fused=False, precision="float32", tuning="adapters",
                         adapter=ADAPTER):
    model = network.Model(TINY, "classification", 2, tuning, adapter, precision)
    tf.train.get_or_create_global_step()
    chosen = compute.Engine(fused, towers)
    output, variables = network.towers(model, batch(rows), towers, False, chosen.formulas())
    trained = [variable for variable in variables.values() if variable.trainable]
    gradients = tf.gradients(heads.batch_loss(output), trained)
    fetch = [output.losses["loss"].sums, output.predictions["probabilities"],
             *(tf.convert_to_tensor(gradient) for gradient in gradients)]
    with tf.Session(config=chosen.session_config()) as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        random = np.random.default_rng(4)
        network.load(session, [
            (variables[name], random.normal(name.endswith("gamma"), 0.3, variables[name].shape)
             .astype(variables[name].dtype.as_numpy_dtype)) for name in sorted(variables)])
        return session.run(fetch)


@pytest.mark.parametrize("towers,rows", [(2, 8), (2, 7), (3, 8), (2, 1), (4, 3)])
def test_parts_of_a_batch_equal_the_whole(towers, rows):
    with tf.Graph().as_default():
        whole = losses_and_gradients(1, rows)
    with tf.Graph().as_default():
        parts = losses_and_gradients(towers, rows)
    assert whole[0].shape == (rows,) and np.ptp(whole[0]) > 0 or rows == 1
    for one, other in zip(whole, parts, strict=True):
        assert one.shape == other.shape and np.abs(one - other).max() < 1e-5


@pytest.mark.parametrize("precision,most", [("float32", 1e-5), ("bfloat16", 0.1)])
def test_fused_equals_plain(precision, most):
    try:
        kernels.load()
    except kernels.UnavailableError as error:
        pytest.skip(f"no compiled kernels: {error}")
    with tf.Graph().as_default():
        plain = losses_and_gradients(1, 6)
    with tf.Graph().as_default():
        fused = losses_and_gradients(2, 6, True, precision)
    assert all(np.abs(one - other).max() <= most * max(1, np.abs(one).max())
               for one, other in zip(plain, fused, strict=True))


@pytest.mark.slow
def test_both_kernels_and_precisions_train_from_the_command(tmp_path, tiny_dir):
    data, scores = write_sst2(tmp_path / "data"), {}
    for flags in ({"kernels": "plain", "precision": "float32"},
                  {"kernels": "auto", "precision": "bfloat16"}):
        out = str(tmp_path / "_".join(flags.values()))
        go(data_dir=data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
           num_train_epochs=1.0, **flags)
        results = read_json(f"{out}/results.json")
        assert results["flags"]["precision"] == flags["precision"]
        scores[tuple(flags.items())] = results["metrics"]["eval_loss"]
    assert np.ptp(list(scores.values())) < 0.05


def kinds_of_operations(use_tpu, is_training):
    """The types and attributes in a graph of the engine that is chosen for a device."""
    with tf.Graph().as_default() as graph:
        chosen = compute.choose_engine("auto", use_tpu, 32)
        tf.train.get_or_create_global_step()
        model = network.Model(TINY, "classification", 2, "adapters",
                               adapters.AdapterConfig(size=32), "bfloat16")
        output, _ = network.towers(model, batch(4), 1, is_training,
                                    chosen.formulas(0, is_training), use_tpu)
        if is_training:
            optimization.create_optimizer(heads.batch_loss(output), 0.01, 10, 1)
        nodes = graph.as_graph_def().node
        return {node.op for node in nodes} | {name for node in nodes for name in node.attr}


@pytest.mark.parametrize("is_training", [False, True])
def test_a_tpu_graph_holds_nothing_that_was_compiled_here(is_training):
    found = kinds_of_operations(True, is_training)
    assert "_XlaMustCompile" not in found
    assert not any(name.startswith("AdapterBert") for name in found)
    if compute.choose_engine("auto", False, 32).fused:
        assert any(name.startswith("AdapterBert") for name in kinds_of_operations(
            False, is_training))


def test_precision_and_kernels_of_the_device(monkeypatch):
    monkeypatch.setattr(compute, "cpu_flags", lambda: b"flags: fpu avx2 amx_bf16")
    assert compute.choose_precision("auto", use_tpu=False) == "bfloat16"
    assert compute.choose_precision("auto", use_tpu=True) == "float32"
    assert compute.choose_precision("float32", use_tpu=False) == "float32"
    monkeypatch.setattr(compute, "cpu_flags", lambda: b"flags: fpu avx2")
    assert compute.choose_precision("auto", use_tpu=False) == "float32"
    assert compute.choose_engine("auto", use_tpu=True, rows=32) == compute.Engine()
    assert compute.choose_engine("plain", use_tpu=False, rows=32) == compute.Engine()
    with pytest.raises(InputError, match="are for the CPU"):
        compute.choose_engine("fused", use_tpu=True, rows=32)


def test_without_a_compiler_the_plain_formulas_stand_in(monkeypatch):
    def unavailable():
        raise kernels.UnavailableError("there is no C compiler")
    monkeypatch.setattr(kernels, "load", unavailable)
    chosen = compute.choose_engine("auto", use_tpu=False, rows=32)
    assert not chosen.fused
    assert "plain TensorFlow kernels (there is no C compiler)" in chosen.line("float32")
    with pytest.raises(InputError, match="--kernels=fused: there is no C compiler"):
        compute.choose_engine("fused", use_tpu=False, rows=32)


def test_the_line_names_device_precision_and_kernels():
    line = compute.Engine(True, 2).line("bfloat16")
    assert line.startswith(f"device {compute.device_name()}, ")
    assert line.endswith("precision bfloat16, compiled CPU kernels, 2 parallel workers per batch")
    assert "threads" in line or "GPU" in line
    assert compute.Engine(reason="no C compiler").line("float32").endswith(
        "precision float32, plain TensorFlow kernels (no C compiler)")


@pytest.mark.parametrize("chosen, driver, smi, shown", [
    ("0", False, None, "CUDA_VISIBLE_DEVICES=0"), ("-1", True, "GPU 0: A", None),
    ("", True, "GPU 0: A", None), (None, True, None, "/gpus"),
    (None, False, "GPU 0: A", "GPU 0: A"), (None, False, "", None), (None, False, None, None)])
def test_a_gpu_that_tensorflow_cannot_use_is_warned_of_once(
        tmp_path, monkeypatch, caplog, chosen, driver, smi, shown):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    monkeypatch.setattr(compute, "_DRIVER_GPUS", str(tmp_path / "gpus"))
    if driver:
        (tmp_path / "gpus" / "0000:01").mkdir(parents=True)
    if smi is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{smi} (UUID: x)'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(compute, "has_gpu", lambda: False)
    compute.warn_of_unused_gpu.cache_clear()
    with caplog.at_level("WARNING"):
        for _ in range(2):
            compute.choose_engine("plain", False, 8)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (shown is not None)
    assert not shown or shown in warnings[0]
