"""The schedule and the optimizer, by hand."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from adapter_bert.bert import optimization


@pytest.mark.parametrize("step,expected", [(0, 0.0), (1, 0.5), (2, 0.8), (5, 0.5), (10, 0.0)])
def test_schedule(step, expected):
    rate = optimization.learning_rate_schedule(tf.constant(step), 1.0, 10, 2)
    with tf.Session() as session:
        assert session.run(rate) == pytest.approx(expected)


def test_schedule_without_warm_up():
    rate = optimization.learning_rate_schedule(tf.constant(0), 3.0, 10, 0)
    with tf.Session() as session:
        assert session.run(rate) == 3.0


@pytest.mark.parametrize("bias_correction", [False, True])
def test_two_steps_by_hand(bias_correction):
    kernel = tf.get_variable("kernel", initializer=[1.0, -2.0])
    bias = tf.get_variable("bias", initializer=[1.0])
    loss = 0.1 * tf.reduce_sum(kernel * [1.0, 2.0]) + 0.2 * tf.reduce_sum(bias)
    train_op = optimization.create_optimizer(loss, 0.1, 10, 0, bias_correction=bias_correction)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            session.run(train_op)
        values = session.run([kernel, bias, tf.train.get_global_step()])
    expected = [np.array([1.0, -2.0]), np.array([1.0])]
    gradients, decays = [np.array([0.1, 0.2]), np.array([0.2])], [0.01, 0.0]
    for index in range(2):
        m = v = 0.0
        for step in range(2):
            m = 0.9 * m + 0.1 * gradients[index]
            v = 0.999 * v + 0.001 * gradients[index] ** 2
            m_hat, v_hat = ((m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1)))
                            if bias_correction else (m, v))
            update = m_hat / (np.sqrt(v_hat) + 1e-6) + decays[index] * expected[index]
            expected[index] = expected[index] - 0.1 * (1 - step / 10) * update
        assert np.abs(values[index] - expected[index]).max() < 1e-5
    assert values[2] == 2


def test_gradients_are_clipped_to_norm_one():
    x = tf.get_variable("x", initializer=[0.0, 0.0])
    optimization.create_optimizer(tf.reduce_sum(x * [30.0, 40.0]), 0.1, 10, 0)
    moments = [v for v in tf.global_variables() if v.op.name == "x/adam_m"]
    train_op = tf.get_default_graph().get_operation_by_name("AdamWeightDecayOptimizer")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train_op)
        assert np.allclose(session.run(moments[0]), [0.06, 0.08])


def test_a_repeated_embedding_row_counts_once_in_the_norm():
    table = tf.get_variable("table", initializer=[[0.0], [0.0]])
    optimization.create_optimizer(tf.reduce_sum(tf.gather(table, [1, 1])), 0.1, 10, 0)
    moment = next(v for v in tf.global_variables() if v.op.name == "table/adam_m")
    train_op = tf.get_default_graph().get_operation_by_name("AdamWeightDecayOptimizer")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train_op)
        assert np.allclose(session.run(moment), [[0.0], [0.1]])
