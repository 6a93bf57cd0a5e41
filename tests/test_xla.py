"""Graphs at static shapes compile with XLA, which is what a TPU needs."""
import pathlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY

from adapter_bert import network
from adapter_bert.bert import adapters, modeling, optimization
from adapter_bert.compute import Places
from adapter_bert.kinds import heads
from adapter_bert.network import Model, towers

BATCH, TOKENS, PREDICTIONS = 4, 24, 5

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def features(kind):
    """{name: array} of a batch with labels."""
    random = np.random.default_rng(0)
    shape = [BATCH, TOKENS]
    tokens = {"input_ids": random.integers(0, TINY.vocab_size, shape),
              "input_mask": np.tile(np.arange(TOKENS) < 17, [BATCH, 1]),
              "segment_ids": random.integers(0, 2, shape)}
    places = [BATCH, PREDICTIONS]
    labels = {"classification": {"label_ids": random.integers(0, 2, BATCH)},
              "regression": {"label_ids": random.random(BATCH)},
              "tokens": {"label_ids": random.integers(0, 2, shape),
                         "word_starts": np.tile(np.arange(TOKENS) < 9, [BATCH, 1])},
              "spans": {"start_positions": random.integers(0, 9, BATCH),
                        "end_positions": random.integers(9, 17, BATCH)},
              "masked_lm": {
                  "masked_lm_positions": random.integers(0, 17, places),
                  "masked_lm_ids": random.integers(0, TINY.vocab_size, places),
                  "masked_lm_weights": (np.arange(PREDICTIONS) < [[5], [1], [3], [0]]) * 1.0,
                  "next_sentence_labels": random.integers(0, 2, BATCH)}}
    return {name: column.astype(np.float32 if column.dtype.kind == "f" else np.int32)
            for name, column in {**tokens, **labels[kind]}.items()}


def keep(x, rate):
    del rate
    return x


def computation(model, is_training, dropout=keep):
    """What a TPU runs: a function of tensors to the loss and the predictions, with the step."""
    def compute(*columns):
        batch = dict(zip(features(model.kind), columns, strict=True))
        output, _ = towers(model, batch, 1, is_training, modeling.plain_formulas(dropout),
                           use_tpu=True)
        loss = heads.batch_loss(output)
        prediction = next(iter(output.predictions.values()))
        if not is_training:
            return loss, prediction
        with tf.control_dependencies([optimization.create_optimizer(loss, 0.01, 10, 1)]):
            return tf.identity(loss), prediction
    return compute


def fed(model):
    return [tf.constant(value) for value in features(model.kind).values()]


def losses(model, is_training, compiled):
    """Loss and predictions of three steps, and the trained values after them."""
    with tf.Graph().as_default():
        tf.set_random_seed(3)
        tf.train.get_or_create_global_step()
        compute = computation(model, is_training)
        fetch = (tf.xla.experimental.compile(compute, fed(model)) if compiled
                 else compute(*fed(model)))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            random = np.random.default_rng(5)
            network.load(session, [
                (variable, random.normal(0.3 if variable.trainable else 0.0, 0.3, variable.shape))
                for variable in sorted(tf.global_variables(), key=lambda v: v.op.name)
                if variable.trainable or
                ("bert/" in variable.op.name and "/adam_" not in variable.op.name)])
            found = [session.run(list(fetch)) for _ in range(3)]
            return found, session.run({v.op.name: v for v in tf.trainable_variables()})


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("kind,tuning", [
    ("classification", "adapters"), ("classification", "full"), ("regression", "adapters"),
    ("spans", "adapters"), ("masked_lm", "adapters"), ("masked_lm", "full")])
def test_compiled_equals_plain(kind, tuning, is_training, record_property):
    config = adapters.AdapterConfig(size=4) if tuning == "adapters" else None
    model = Model(TINY, kind, heads.width(kind, ("0", "1")), tuning, config)
    plain, values = losses(model, is_training, compiled=False)
    compiled, compiled_values = losses(model, is_training, compiled=True)
    for (loss, prediction), (other_loss, other_prediction) in zip(plain, compiled, strict=True):
        record_property("largest difference of a loss", float(abs(loss - other_loss)))
        assert abs(loss - other_loss) < 1e-4
        change = prediction - other_prediction
        if kind == "spans":   # adding one number to all logits of a text changes no loss
            change = np.where(prediction > -1e8, change - change[:, :1], 0.0)
        assert np.abs(change).max() < 1e-4
    assert values.keys() == compiled_values.keys()
    assert max(np.abs(values[name] - compiled_values[name]).max() for name in values) < 1e-3
    assert (abs(plain[0][0] - plain[2][0]) > 1e-4) == is_training


def test_the_dropout_of_training_compiles():
    """Its masks may differ from the plain path's: XLA orders random bits of large shapes anew."""
    tf.train.get_or_create_global_step()
    model = Model(TINY, "classification", 2, "adapters", adapters.AdapterConfig(size=4))
    compute = computation(model, True, Places(7).dropout)
    fetch = tf.xla.experimental.compile(compute, fed(model))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        found = [session.run(list(fetch))[0] for _ in range(3)]
    assert np.isfinite(found).all() and len(set(found)) == 3


def known_to_tpus():
    """The types of operations that a TPU compiles, of those that we use."""
    lines = (FIXTURES / "tpu_operations.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.startswith("#")}


def operations_on_a_tpu(compute, inputs):
    """The types of operations in what a TPU would run, as TensorFlow cuts it out of the graph."""
    tf.tpu.rewrite(compute, inputs)
    return {operation.type for operation in tf.get_default_graph().get_operations()
            if "_tpu_replicate" in operation.node_def.attr} - {"TPUReplicateMetadata"}


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("tuning", ["adapters", "full"])
@pytest.mark.parametrize("kind", ["classification", "regression", "tokens", "spans", "masked_lm"])
def test_every_operation_is_one_that_a_tpu_compiles(kind, tuning, is_training):
    tf.train.get_or_create_global_step()
    config = adapters.AdapterConfig(size=4) if tuning == "adapters" else None
    model = Model(TINY, kind, heads.width(kind, ("0", "1")), tuning, config)
    found = operations_on_a_tpu(computation(model, is_training, Places(7).dropout), fed(model))
    assert {"MatMul", "Softmax"} < found <= known_to_tpus()


def test_an_operation_that_no_tpu_compiles_is_noticed():
    def compute(x):
        return tf.strings.length(tf.strings.as_string(x))
    found = operations_on_a_tpu(compute, [tf.ones([2])])
    assert found - known_to_tpus() == {"AsString", "StringLength"}


def test_dropout_depends_on_step_place_and_seed_alone():
    step = tf.train.get_or_create_global_step()
    x = tf.ones([1000])

    def masks(seed):
        drop = Places(seed).dropout
        return [drop(x, 0.1), drop(x, 0.1)]
    fetch = [*masks(1), *masks(1), *masks(2)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        first, second, again, _, other, _ = session.run(fetch)
        step.load(1, session)
        later = session.run(fetch[0])
    assert np.array_equal(first, again)
    for mask in (first, second, other, later):
        assert abs((mask == 0).mean() - 0.1) < 0.04
        assert np.allclose(mask[mask > 0], 1 / 0.9)
    assert all(not np.array_equal(first, mask) for mask in (second, other, later))
