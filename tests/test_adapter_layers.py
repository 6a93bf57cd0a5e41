"""Adapters and tuning rules."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from test_modeling import random_ids, tiny_bert

from adapter_bert import network
from adapter_bert.bert import adapters, modeling, tuning_modes
from adapter_bert.bert.adapters import AdapterConfig
from adapter_bert.kinds import heads


def test_adapter_by_hand():
    x, residual = tf.constant([[[1.0, 2.0]]]), tf.constant([[[10.0, 20.0]]])
    y = adapters.feedforward_adapter(
        x, residual, AdapterConfig(size=1, activation="relu"), modeling.plain_formulas())
    values = {"weights1": [[1.0], [1.0]], "biases1": [[0.5]], "weights2": [[2.0, -1.0]],
              "biases2": [[0.0, 1.0]]}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            variable.load(values[variable.op.name.split("/")[-1]], session)
        assert np.allclose(session.run(y), [[[10 + 7.0, 20 - 3.5 + 1]]])


@pytest.mark.parametrize("stddev,most", [(0.0, 0.0), (1e-6, 1e-5)])
def test_near_zero_adapters_are_plain_bert(stddev, most):
    ids = random_ids(np.random.default_rng(0), 3, 6)
    plain = tiny_bert(ids).get_sequence_output()
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        methods = adapters.attach(AdapterConfig(size=8, init_stddev=stddev), 2)
        adapted = tiny_bert(ids, methods).get_sequence_output()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert np.abs(np.subtract(*session.run([plain, adapted]))).max() <= most
        for variable in tf.global_variables():
            if "/adapters/" in variable.op.name:
                variable.load(np.random.default_rng(1).normal(0, 1, variable.shape), session)
        assert np.abs(np.subtract(*session.run([plain, adapted]))).max() > 0.01


@pytest.mark.parametrize("placement,layers,expected", [
    ("both", None, 4), ("attention", None, 2), ("feed_forward", None, 2), ("both", (1,), 2)])
def test_placement(placement, layers, expected):
    config = AdapterConfig(size=3, placement=placement, layers=layers)
    tiny_bert(random_ids(np.random.default_rng(0), 1, 3), adapters.attach(config, 2))
    names = [v.op.name for v in tf.global_variables() if v.op.name.endswith("adapters/weights1")]
    assert len(names) == expected
    assert all("layer_1" in name for name in names) or layers is None


@pytest.mark.parametrize("values,message", [
    ({"size": 0}, "size"), ({"placement": "top"}, "placement.*both"),
    ({"activation": "glu"}, "activation"), ({"init_stddev": float("nan")}, "stddev"),
    ({"adapter_fn": "relora"}, "adapter_fn.*lora"), ({"scale": 0.0}, "scale"),
    ({"width": 3}, "width")])
def test_config_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        AdapterConfig.from_dict(values)


def test_config_round_trip():
    config = AdapterConfig(size=8, layers=[0, 1], activation="swish")
    assert AdapterConfig.from_dict(config.to_dict()) == config


def test_layers_outside_the_model_are_refused():
    with pytest.raises(ValueError, match=r"\[2\].*0 to 1"):
        adapters.attach(AdapterConfig(layers=(0, 2)), 2)


def variables_of(tuning):
    rules = tuning_modes.tuning_rules(tuning, TINY.num_hidden_layers)
    config = AdapterConfig(size=4) if tuning_modes.uses_adapters(tuning) else None
    with tf.variable_scope(tf.get_variable_scope(),
                           custom_getter=tuning_modes.tuning_getter(rules)):
        model = tiny_bert(random_ids(np.random.default_rng(0), 1, 3),
                          adapters.attach(config, 2))
        heads.HEADS["classification"].build(model, {}, 2, network.undropped)
    return {v.op.name for v in tf.trainable_variables()}, {v.op.name for v in tf.local_variables()}


@pytest.mark.parametrize("tuning,count,some,none", [
    ("adapters", 16 + 10 + 2, "bert/embeddings/LayerNorm/gamma", "bert/pooler/dense/kernel"),
    ("adapters_pooler", 16 + 2 + 2, "bert/pooler/dense/kernel", "bert/embeddings/LayerNorm/gamma"),
    ("adapters_norms_pooler", 16 + 10 + 2 + 2, "bert/pooler/dense/kernel",
     "bert/encoder/layer_0/output/dense/bias"),
    ("full", 2 * 16 + 5 + 2 + 2, "bert/embeddings/word_embeddings", "nothing"),
    ("top_layers=1", 16 + 2 + 2, "bert/encoder/layer_1/output/dense/bias",
     "bert/encoder/layer_0/output/dense/bias"),
    ("layer_norm", 10 + 2, "bert/encoder/layer_0/output/LayerNorm/beta",
     "bert/encoder/layer_0/output/dense/bias"),
    ("bias", 2 * 8 + 1 + 1 + 2, "bert/encoder/layer_0/output/LayerNorm/beta",
     "bert/encoder/layer_0/output/LayerNorm/gamma"),
    ("head", 2, "output_weights", "bert/pooler/dense/bias"),
])
def test_what_trains(tuning, count, some, none):
    trained, frozen = variables_of(tuning)
    assert len(trained) == count
    assert some in trained and none not in trained
    assert not trained & frozen
    assert {"output_weights", "output_bias"} <= trained


def test_top_layers_ten_is_not_layer_one():
    rules = tuning_modes.tuning_rules("top_layers=2", 12)
    assert tuning_modes.group_of("bert/encoder/layer_1/output/dense/bias", rules) == "frozen"
    assert tuning_modes.group_of("bert/encoder/layer_10/output/dense/bias", rules) == "top_layers"


@pytest.mark.parametrize("tuning", ["none", "top_layers=0", "top_layers=3", "top_layers=x", ""])
def test_unknown_tuning_is_refused(tuning):
    with pytest.raises(ValueError, match="tuning"):
        tuning_modes.tuning_rules(tuning, 2)


def test_an_uncovered_variable_is_refused():
    with pytest.raises(ValueError, match="no tuning rule covers the variable bert/x"):
        tuning_modes.group_of("bert/x", [tuning_modes.HEAD])
