"""The head of masked words and next sentences against formulas by hand, value and gradient.

Letters: B batch, T tokens, P predictions, D hidden, V vocabulary.
"""
import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from masked import instances

from adapter_bert import network
from adapter_bert.bert import adapters, modeling, tuning_modes
from adapter_bert.compute import Engine
from adapter_bert.kinds import heads
from adapter_bert.kinds.heads import masked_lm

B, T, P, D, V = 3, 6, 4, 5, 11
EPSILON = 1e-12


class Stub:
    """A BERT that is its embeddings: sequence E[ids], pooled the first token's."""

    def __init__(self, ids, table):
        self.config = dataclasses.replace(TINY, vocab_size=V, hidden_size=D, hidden_act="tanh",
                                          num_attention_heads=1)
        self._table, self._sequence = table, tf.gather(table, ids)

    def get_embedding_table(self):
        return self._table

    def get_sequence_output(self):
        return self._sequence

    def get_embedding_output(self):
        return self._sequence

    def get_pooled_output(self):
        return self._sequence[:, 0]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def by_hand(values, features, table):
    """The loss, and its gradient with respect to the table: through the gather, and the product."""
    w, b, gamma, beta, c, u, d = (values[name] for name in masked_lm.shapes(D, V))
    ids, places = features["input_ids"], features["masked_lm_positions"]
    rows = np.arange(B)[:, None]
    x = table[ids][rows, places]                                       # [B, P, D]
    h = np.tanh(x @ w + b)
    centred = h - h.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    y = centred * scale * gamma + beta
    probabilities = softmax(y @ table.T + c)                           # [B, P, V]
    labels, weights = features["masked_lm_ids"], features["masked_lm_weights"]
    picked = probabilities[rows, np.arange(P), labels]
    first = table[ids[:, 0]]                                           # [B, D]
    pairs, follows = softmax(first @ u.T + d), features["next_sentence_labels"]
    loss = (-np.log(picked) * weights).sum() / weights.sum()
    loss -= np.log(pairs[np.arange(B), follows]).mean()

    dlogits = (probabilities - np.eye(V)[labels]) * (weights / weights.sum())[..., None]
    dense = np.einsum("bpv,bpd->vd", dlogits, y)
    dn = (dlogits @ table) * gamma                                     # [B, P, D]
    n = centred * scale
    dh = scale * (dn - dn.mean(axis=-1, keepdims=True) - n * (dn * n).mean(axis=-1, keepdims=True))
    dx = (dh * (1 - h**2)) @ w.T
    gathered = np.zeros_like(table)
    np.add.at(gathered, ids[rows, places], dx)
    np.add.at(gathered, ids[:, 0], (pairs - np.eye(2)[follows]) / B @ u)
    return loss, dense, gathered


def random_features(random):
    weights = (np.arange(P) < [[4], [1], [2]]).astype(np.float32)
    return {"input_ids": random.integers(0, V, [B, T]),
            "masked_lm_positions": random.integers(0, T, [B, P]),
            "masked_lm_ids": random.integers(0, V, [B, P]), "masked_lm_weights": weights,
            "next_sentence_labels": random.integers(0, 2, B)}


def test_loss_and_gradient_of_the_tied_table_equal_the_formula(record_property):
    random = np.random.default_rng(0)
    values = {name: random.normal(0, 0.7, shape) for name, shape in masked_lm.shapes(D, V).items()}
    table, features = random.normal(0, 0.7, [V, D]), random_features(random)
    variable = tf.get_variable("table", initializer=table.astype(np.float32), use_resource=True)
    output = masked_lm.masked_lm(Stub(features["input_ids"], variable), {
        name: tf.constant(column, tf.float32 if column.dtype.kind == "f" else tf.int32)
        for name, column in features.items()}, 2, None)
    loss = heads.batch_loss(output)
    gradient = tf.convert_to_tensor(tf.gradients(loss, variable)[0])
    made = {v.op.name: v for v in tf.global_variables() if v.op.name in values}
    assert {name: tuple(v.shape) for name, v in made.items()} == masked_lm.shapes(D, V)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        network.load(session, [(made[name], value) for name, value in values.items()])
        found_loss, found = session.run([loss, gradient])
    wanted_loss, dense, gathered = by_hand(values, features, table)
    differences = abs(found_loss - wanted_loss), np.abs(found - dense - gathered).max()
    record_property("loss", float(differences[0]))
    record_property("gradient", float(differences[1]))
    assert max(differences) < 1e-5
    assert min(np.abs(dense).max(), np.abs(gathered).max()) > 0.05   # without either it is wrong


def batch(count):
    rows = instances(count)
    return {name: tf.constant(np.stack([row[name] for row in rows]).astype(
        np.float32 if name == "masked_lm_weights" else np.int32)) for name in rows[0]} | {
            "next_sentence_labels": tf.constant(
                [int(row["next_sentence_labels"][0]) for row in rows])}


def model(tuning, precision="float32"):
    adapter = adapters.AdapterConfig(size=4) if tuning == "adapters" else None
    return network.Model(TINY, "masked_lm", 2, tuning, adapter, precision)


@pytest.mark.parametrize("count", [1, 2])
def test_the_gradient_of_a_whole_bert_is_the_slope(count, record_property):
    """Along a random direction of the table; and in a batch that is cut into parts."""
    config = modeling.without_dropout(TINY)
    whole = dataclasses.replace(model("full"), bert_config=config)
    output, variables = network.towers(whole, batch(6), count, True, modeling.plain_formulas())
    loss, table = heads.batch_loss(output), variables["bert/embeddings/word_embeddings"]
    gradient = tf.convert_to_tensor(tf.gradients(loss, table)[0])
    random = np.random.default_rng(1)
    direction = random.normal(size=table.shape).astype(np.float32)
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        network.load(session, [(variable, random.normal(float(name.endswith("gamma")), 0.3,
                                                        variable.shape))
                               for name, variable in sorted(variables.items())])
        values, slope = session.run(table), (session.run(gradient) * direction).sum()
        ends = []
        for step in (-1e-3, 1e-3):
            network.load(session, [(table, values + step * direction)])
            ends.append(session.run(loss))
    found = (ends[1] - ends[0]) / 2e-3
    record_property("slope", float(slope))
    record_property("measured", float(found))
    assert abs(slope - found) < 0.01 * abs(slope) and abs(slope) > 0.1


def test_only_masked_tokens_meet_the_vocabulary():
    network.network(model("adapters"), batch(4), False, modeling.plain_formulas(), False, None)
    products = [op.outputs[0].shape.as_list() for op in tf.get_default_graph().get_operations()
                if op.type == "MatMul"]
    assert [shape for shape in products if shape[-1] == TINY.vocab_size] == [
        [4 * 4, TINY.vocab_size]]


def test_predictions_and_hits():
    output, _ = network.towers(model("adapters"), batch(5), 1, False, modeling.plain_formulas())
    features = batch(5)
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        found, ids, weights, labels = session.run([
            output.predictions, features["masked_lm_ids"], features["masked_lm_weights"],
            features["next_sentence_labels"]])
    right = (found["masked_lm_predictions"] == ids) * weights
    assert np.array_equal(found["masked_lm_hits"], right.sum(axis=1))
    assert np.array_equal(found["next_sentence_hits"],
                          found["next_sentence_predictions"] == labels)


def test_what_trains_beside_the_adapters():
    """The head's own LayerNorm is the head's; the tied table is frozen, and trained in full."""
    names = masked_lm.shapes(16, 40)
    rules = model("adapters").rules
    assert {tuning_modes.group_of(name, rules) for name in names} == {"head"}
    trained = {tuning: network.trained_shapes(model(tuning)).keys()
               for tuning in ("adapters", "full", "head", "bias")}
    assert all(names.keys() <= some for some in trained.values())
    assert trained["head"] == names.keys()
    table = "bert/embeddings/word_embeddings"
    assert [table in trained[tuning] for tuning in ("adapters", "full")] == [False, True]


@pytest.mark.parametrize("towers", [1, 2])
def test_bfloat16_is_near_float32(towers):
    losses = {}
    for precision in ("float32", "bfloat16"):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(0)
            output, _ = network.towers(model("adapters", precision), batch(8), towers, False,
                                       Engine().formulas())
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            losses[precision] = session.run(heads.batch_loss(output))
    assert abs(losses["float32"] - losses["bfloat16"]) < 0.02
    assert losses["float32"] != losses["bfloat16"]
