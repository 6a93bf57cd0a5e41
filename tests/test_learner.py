"""Inner loops side by side and one after the other, and the outer step against its formula."""
import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY

from adapter_bert import compute, network
from adapter_bert.bert import adapters, checkpoint_io, modeling
from adapter_bert.kinds.heads import batch_loss, labels
from adapter_bert.research.meta import outer
from adapter_bert.research.meta.adaptation import Steps
from adapter_bert.research.meta.learner import Inner, Learner, Row, rates
from adapter_bert.train.initial_values import Start

SMALL = dataclasses.replace(TINY, num_hidden_layers=1)
RATE, OUTER_RATE = 1e-2, 1e-3


def model_of(tuning, config=SMALL):
    adapter = adapters.AdapterConfig(size=4, init_stddev=0.1)
    return network.Model(config, "classification", 2, tuning,
                         adapter if tuning == "adapters" else None)


def rows(count, seed):
    random = np.random.default_rng(seed)
    return [Row(random.integers(1, SMALL.vocab_size, tokens), np.zeros(tokens, np.int64),
                int(random.integers(2))) for tokens in random.integers(3, 12, count)]


@pytest.fixture(name="start", scope="module")
def fixture_start(tmp_path_factory):
    """A checkpoint of the tiny BERT with a single layer."""
    prefix, random = str(tmp_path_factory.mktemp("base") / "bert"), np.random.default_rng(0)
    checkpoint_io.write_checkpoint(prefix, {
        name: random.normal(float(name.endswith("gamma")), 0.3, shape).astype(np.float32)
        for name, shape in checkpoint_io.variable_shapes(SMALL.to_dict()).items()})
    return Start(None, prefix, "")


@pytest.fixture(name="learners", scope="module")
def fixture_learners(start):
    """A function (tuning, K) -> Learner without dropout, which is built once."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "HEAD_DROPOUT", 0.0)

        def learner(tuning, tasks):
            if (tuning, tasks) not in made:
                made[tuning, tasks] = Learner(
                    model_of(tuning, modeling.without_dropout(SMALL)), start, compute.Engine(),
                    Inner("adam", RATE), tasks)
            return made[tuning, tasks]
        yield learner
    for one in made.values():
        one.close()


class Plain:
    """The loss and its gradient at any weights, from a graph of its own that knows no learner."""

    def __init__(self, tuning, prefix, shapes):
        model = model_of(tuning, modeling.without_dropout(SMALL))
        self.weights = {name: tf.placeholder(tf.float32, shape) for name, shape in shapes.items()}
        held = checkpoint_io.Checkpoint(prefix)
        self.ids = {name: tf.placeholder(tf.int32, [None, None])
                    for name in ("input_ids", "input_mask", "segment_ids")}
        self.labels = tf.placeholder(tf.int32, [None])

        def get(getter, name, *args, **options):
            return self.weights[name] if name in shapes else tf.constant(held[name])
        output = network.network(model, {**self.ids, "label_ids": self.labels}, False,
                                 modeling.plain_formulas(), False, get)
        self.gradients = tf.gradients(batch_loss(output), list(self.weights.values()))

    def gradient(self, values, batch):
        """{name: array}, one example at a time."""
        with tf.Session() as session:
            found = [session.run(self.gradients, {
                **{self.weights[name]: value for name, value in values.items()},
                self.ids["input_ids"]: [row.input_ids], self.labels: [row.label],
                self.ids["input_mask"]: [np.ones_like(row.input_ids)],
                self.ids["segment_ids"]: [row.segment_ids]}) for row in batch]
        dense = [[one if isinstance(one, np.ndarray) else scattered(one, values[name])
                  for name, one in zip(self.weights, parts, strict=True)] for parts in found]
        return dict(zip(self.weights, [np.mean(parts, axis=0) for parts in zip(
            *dense, strict=True)], strict=True))


def scattered(slices, like):
    whole = np.zeros_like(like)
    np.add.at(whole, slices.indices, slices.values)
    return whole


def by_hand(values, gradients, rate):
    """Adam from nothing: a function of the values -> their gradient, once for each step."""
    m = {name: 0.0 for name in values}
    v = dict(m)
    for t, gradient_at in enumerate(gradients, 1):
        gradient = gradient_at(values)
        m = {name: 0.9 * m[name] + 0.1 * gradient[name] for name in values}
        v = {name: 0.999 * v[name] + 0.001 * gradient[name] ** 2 for name in values}
        values = {name: value - rate * (m[name] / (1 - 0.9 ** t)) / (
            np.sqrt(v[name] / (1 - 0.999 ** t)) + 1e-8) for name, value in values.items()}
    return values


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(np.abs(first[name] - second[name]).max() for name in first)


SUPPORTS = [[rows(4, 1), rows(3, 2)], [rows(4, 3), rows(2, 4)]]   # of two tasks, two batches each
QUERIES = [rows(5, 5), rows(6, 6)]


@pytest.mark.parametrize("tuning", ["adapters", "full"])
def test_a_step_of_fomaml_is_its_formula(learners, start, tuning):
    """Two tasks, two inner steps, the query's gradient at what they lead to, Adam on its mean."""
    learner = learners(tuning, 2)
    first = learner.values
    plain = Plain(tuning, start.base, {name: value.shape for name, value in first.items()})
    gradients = []
    for support, query in zip(SUPPORTS, QUERIES, strict=True):
        adapted = by_hand(first, [lambda values, batch=batch: plain.gradient(values, batch)
                                  for batch in support], RATE)
        gradients.append(plain.gradient(adapted, query))
    mean = {name: (gradients[0][name] + gradients[1][name]) / 2 for name in first}

    learner.reset()
    learner.adapt([list(step) for step in zip(*SUPPORTS, strict=True)])
    found, losses = outer.fomaml(learner, QUERIES)
    adam = outer.Adam(OUTER_RATE, first)
    adam.step(found)
    assert largest_difference(found, mean) < 2e-5 and len(losses) == 2
    assert largest_difference(mean, plain.gradient(first, QUERIES[0])) > 1e-2   # of no other place
    assert largest_difference(adam.values, by_hand(first, [lambda _: found], OUTER_RATE)) < 1e-6


@pytest.mark.parametrize("algorithm", ["fomaml", "reptile"])
def test_side_by_side_is_one_after_the_other(learners, algorithm):
    """Three tasks of unequal size over two copies: the second run has one task only."""
    together, alone = learners("adapters", 2), learners("adapters", 1)
    alone.load(together.values)
    episodes = [(rows(7, 11), rows(5, 12)), (rows(3, 13), rows(40, 14)), (rows(5, 15), rows(2, 16))]
    steps = Steps(2, 3)
    found = [outer.outer_gradient(learner, count, episodes, steps, algorithm, [0, 1])
             for learner, count in ((together, 2), (alone, 1))]
    assert largest_difference(found[0][0], found[1][0]) < 1e-5
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-5)
    other = outer.outer_gradient(alone, 1, episodes, steps, algorithm, [0, 2])[0]
    assert largest_difference(found[0][0], other) > 1e-3   # of another order of the batches


def test_a_task_without_a_batch_stays_and_goes_on_later(learners):
    together, alone = learners("adapters", 2), learners("adapters", 1)
    alone.load(together.values)
    together.reset()
    losses = together.adapt([[rows(4, 1), rows(4, 2)], [[], rows(4, 3)]])
    assert np.isnan(losses[1, 0]) and np.isfinite(np.delete(losses.ravel(), 2)).all()
    stayed = together.adapted(0)
    together.adapt([[[], rows(4, 4)]])
    assert largest_difference(stayed, together.adapted(0)) == 0
    together.adapt([[rows(4, 5), []]])
    alone.adapt([[rows(4, 1)], [rows(4, 5)]])
    assert largest_difference(together.adapted(0), alone.adapted(0)) < 1e-5
    assert largest_difference(together.adapted(0), together.adapted(1)) > 1e-3


def test_reset_forgets_weights_and_optimizer(learners):
    learner = learners("adapters", 1)
    learner.reset()
    learner.adapt([[rows(4, 1)]])
    first = learner.adapted(0)
    learner.adapt([[rows(4, 2)]])
    learner.reset()
    assert largest_difference(learner.adapted(0), learner.values) == 0
    learner.adapt([[rows(4, 1)]])
    assert largest_difference(learner.adapted(0), first) == 0


def test_predictions_are_in_the_order_of_the_rows(learners):
    learner = learners("adapters", 1)
    asked = rows(70, 7)
    learner.reset()
    found, = learner.predict([asked])
    for place in (0, 33, 69):
        np.testing.assert_allclose(found[place], learner.predict([[asked[place]]])[0][0], atol=1e-6)
    assert found.shape == (70, 2) and np.ptp(found[:, 0]) > 1e-3


def test_other_weights_are_refused(learners):
    learner = learners("adapters", 1)
    values = dict(learner.values)
    values["output_bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="other names or shapes"):
        learner.load(values)
    with pytest.raises(ValueError, match="rows of 2 tasks, and there are 1"):
        learner.adapt([[[], []]])


def test_sgd_and_dropout(start):
    """A step down the gradient; what is dropped depends on `now` alone."""
    learner = Learner(model_of("head"), start, compute.Engine(), Inner("sgd", 0.5))
    batch, found = rows(6, 8), []
    for now in (3, 3, 4):
        learner.reset(now)
        learner.adapt([[batch]])
        found.append(learner.adapted(0))
    assert largest_difference(found[0], found[1]) == 0
    assert largest_difference(found[0], found[2]) > 1e-4
    learner.reset(3)
    gradient, _ = learner.query_gradient([batch])
    expected = {name: value - 0.5 * gradient[name] for name, value in learner.values.items()}
    assert largest_difference(found[0], expected) < 1e-6
    learner.close()


def test_rates():
    """The first step of Adam is as long as the learning rate, whatever the gradient."""
    size, epsilon = rates(Inner("adam", 0.01), 1)
    assert size * 0.1 / (0.001 ** 0.5 + epsilon) == pytest.approx(0.01, rel=1e-5)
    assert rates(Inner("sgd", 0.01), 7) == (0.01, 0.0)


def test_adam_goes_on_from_its_slots():
    values = {"w": np.array([1.0, -2.0], np.float32)}
    gradients = [{"w": np.array(one, np.float32)} for one in ([0.5, 1], [-0.1, 2], [3, 0])]
    whole = outer.Adam(0.1, values)
    for gradient in gradients:
        whole.step(gradient)
    half = outer.Adam(0.1, values)
    half.step(gradients[0])
    going_on = outer.Adam(0.1, half.values, half.slots, half.taken)
    for gradient in gradients[1:]:
        going_on.step(gradient)
    assert np.array_equal(whole.values["w"], going_on.values["w"])
    expected = by_hand(values, [lambda _, one=one: one for one in gradients], 0.1)
    np.testing.assert_allclose(whole.values["w"], expected["w"], rtol=1e-5)
