"""The contract of a method: every row of METHODS goes through every test here."""
import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from packs import tiny_pack
from test_bank import EXACT, TEXTS, alone, answers
from test_engine import batch, losses_and_gradients
from test_xla import losses

import adapter_bert
import adapter_layers
import modeling
import optimization
from adapter_bert import heads, kernels, network
from adapter_bert.engine import Engine
from adapter_bert.errors import InputError
from adapter_bert.packs import store
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import parse
from adapter_bert.serving.bank import Bank
from adapter_bert.serving.export import export
from adapter_layers import METHODS, AdapterConfig


class Row(NamedTuple):
    """A method.

    name: key of adapter_layers.METHODS.
    fields: what of its AdapterConfig is another here.
    tuning: what trains; that of METHODS where None.
    start: how far from the base's output it starts at most; None for one that starts elsewhere.
    """

    name: str
    fields: dict
    tuning: str | None = None
    start: float | None = 0.0

    @property
    def adapter(self):
        """Its AdapterConfig."""
        return AdapterConfig(**{key: value for key, value in {
            **METHODS[self.name], **self.fields}.items() if key != "tuning"})

    @property
    def settings(self):
        """Its fields of a Model or Manifest."""
        return {"tuning": self.tuning or METHODS[self.name]["tuning"], "adapter": self.adapter}


ROWS = {
    "houlsby": Row("houlsby", {"size": 4, "init_stddev": 1e-4}, start=1e-6),
    "pfeiffer": Row("pfeiffer", {"size": 4, "init_stddev": 1e-4}, start=1e-6),
    "parallel": Row("parallel", {"size": 4}),
    "parallel to both": Row("parallel", {"size": 3, "placement": "both", "activation": "gelu"}),
    "AdapterDrop": Row("houlsby", {"size": 4, "init_stddev": 1e-4, "layers": (1,)},
                       "adapters_drop", start=1e-6),
    "LoRA": Row("lora", {"size": 2, "scale": 2.0}),
    "LoRA and LayerNorms": Row("lora", {"size": 3, "layers": (1,)}, "adapters"),
    "(IA)3": Row("ia3", {}),
    "(IA)3 at the top": Row("ia3", {"layers": (1,)}),
    "prefix": Row("prefix", {"size": 3}, start=None),   # it has a share of the attention at once
    "prefix at the top": Row("prefix", {"size": 2, "layers": (1,)}, start=None),
}
each_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def test_every_published_method_has_a_row():
    assert {row.name for row in ROWS.values()} == set(METHODS)
    assert {row.adapter.adapter_fn for row in ROWS.values()} == set(adapter_layers.ADAPTERS)


@pytest.fixture(name="on", scope="module")
def fixture_on(tiny_dir):
    """The manifest.Base of the tiny BERT."""
    return base_of(tiny_dir)


def model_of(row):
    return network.Model(TINY, "classification", 2, **row.settings)


def built(model):
    """heads.Output of a batch, and {name: variable}."""
    tf.train.get_or_create_global_step()
    return network.towers(model, batch(6), 1, False, modeling.plain_formulas())


def perturbed(variables, seed):
    """Values for all variables: far from the first ones, of adapters too."""
    random = np.random.default_rng(seed)
    return {name: random.normal(float(name.endswith("gamma")), 0.3, variables[name].shape)
            for name in sorted(variables)}


@each_row
def test_it_starts_at_the_bases_output(row):
    found = {}
    for adapter in (None, row.adapter):
        with tf.Graph().as_default(), tf.Session() as session:
            output, variables = built(dataclasses.replace(model_of(row), adapter=adapter))
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            everything = perturbed(variables, 0)
            network.load(session, [
                (variable, np.random.default_rng(len(name)).normal(0, 0.3, variable.shape))
                for name, variable in variables.items() if "/adapters/" not in name])
            found[adapter] = [session.run(output.predictions["probabilities"])]
            network.load(session, [(variable, everything[name])
                                   for name, variable in variables.items() if "/adapters/" in name])
            found[adapter].append(session.run(output.predictions["probabilities"]))
    (base, _), (first, other) = found.values()
    difference = np.abs(first - base).max()
    assert difference > 1e-4 if row.start is None else difference <= row.start
    assert np.abs(other - base).max() > 1e-3


@each_row
def test_it_trains_what_its_rules_say(row):
    model = model_of(row)
    output, variables = built(model)
    loss = heads.batch_loss(output)
    step = optimization.create_optimizer(loss, 0.02, 1000, 0, bias_correction=True)
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        network.load(session, [
            (variables[name], value) for name, value in perturbed(variables, 1).items()
            if "/adapters/" not in name])
        before, first = session.run([variables, loss])
        for _ in range(8):
            session.run(step)
        after, last = session.run([variables, loss])
    changed = {name for name in variables if not np.array_equal(before[name], after[name])}
    assert changed == set(network.trained_shapes(model))
    assert all(before[name].shape == shape for name, shape in network.trained_shapes(model).items())
    assert any("/adapters/" in name for name in changed) and "output_weights" in changed
    assert last < first - 0.01


@each_row
def test_its_kernels_agree(row):
    try:
        kernels.load()
    except kernels.UnavailableError as error:
        pytest.skip(f"no compiled kernels: {error}")
    found = []
    for towers, fused in ((1, False), (2, True)):
        with tf.Graph().as_default():
            found.append(losses_and_gradients(towers, 6, fused, **row.settings))
    assert all(np.abs(one - other).max() <= 1e-5 * max(1, np.abs(one).max())
               for one, other in zip(*found, strict=True))


@each_row
def test_it_compiles_with_xla(row):
    plain, _ = losses(model_of(row), True, compiled=False)
    compiled, _ = losses(model_of(row), True, compiled=True)
    for (loss, prediction), (other, other_prediction) in zip(plain, compiled, strict=True):
        assert abs(loss - other) < 1e-4
        assert np.abs(prediction - other_prediction).max() < 1e-4


@pytest.fixture(name="packs", scope="module")
def fixture_packs(tiny_dir, on, tmp_path_factory):
    """{name of a row: (path of a pack, its answers alone)}."""
    folder, packs = tmp_path_factory.mktemp("packs"), {}
    for seed, (name, row) in enumerate(ROWS.items()):
        path = str(folder / f"{seed}.zip")
        store.write(path, tiny_pack(seed, base=on, task=name, **row.settings))
        packs[name] = path, alone(tiny_dir, path)
    return packs


@each_row
def test_its_pack_says_what_the_model_said(row, tiny_dir, on):
    """What was trained in a graph goes through a pack, and predicts what the graph predicted."""
    pack = tiny_pack(3, base=on, **row.settings)
    written, content = store.to_bytes("", pack, "float32")
    assert parse(written.manifest.to_bytes()).adapter == row.adapter
    with adapter_bert.load(tiny_dir, pack, **EXACT) as task:
        found = task._run([([2, 5, 3], [0, 0, 0])])[0]["probabilities"]
    features = {"input_ids": tf.constant([[2, 5, 3]]), "input_mask": tf.ones([1, 3], tf.int32),
                "segment_ids": tf.zeros([1, 3], tf.int32)}
    output, variables = network.towers(pack.manifest.model(), features, 1, False,
                                       modeling.plain_formulas())
    network.start_from(f"{tiny_dir}/bert_model.ckpt", {
        name: variable for name, variable in variables.items() if name not in pack.weights})
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        network.load(session, [(variables[name], value) for name, value in pack.weights.items()])
        wanted = session.run(output.predictions["probabilities"])[0]
    assert np.abs(found - wanted).max() <= 1e-6 and content


@pytest.mark.parametrize("name", ["plain", "fused"])
def test_all_in_one_batch(tiny_dir, packs, name):
    bank = Bank(tiny_dir, 20, "float32", name, max_adapter_size=5, max_labels=4)
    for task, (path, _) in packs.items():
        bank.add(task, path)
    found = answers(bank, list(packs))
    for task, (_, wanted) in packs.items():
        assert np.abs(found[task] - wanted).max() <= 1e-5, task
    assert np.ptp([wanted[0, 0] for _, wanted in packs.values()]) > 0.1
