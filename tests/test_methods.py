"""The contract of a method: every row of METHODS goes through every test here."""
import dataclasses
import os
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from packs import tiny_pack
from runs import go, write_sst2
from test_bank import EXACT, TEXTS, alone, answers
from test_engine import batch, losses_and_gradients

import adapter_bert
from adapter_bert import kernels, network
from adapter_bert.bert import adapters, modeling, optimization, tokenization, tuning_modes
from adapter_bert.bert.adapters import METHODS, AdapterConfig
from adapter_bert.data import padding
from adapter_bert.errors import InputError
from adapter_bert.export.savedmodel import export
from adapter_bert.kinds import heads
from adapter_bert.packs import store
from adapter_bert.packs.bases import base_of
from adapter_bert.serve.engine import Bank
from adapter_bert.train.settings import Settings, adapter_config, with_method


class Row(NamedTuple):
    """A method.

    name: key of adapters.METHODS.
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
    "parallel": Row("parallel", {"size": 4, "placement": "both"}),
    "AdapterDrop": Row("houlsby", {"size": 4, "init_stddev": 1e-4, "layers": (1,)},
                       "adapters_drop", start=1e-6),
    "LoRA": Row("lora", {"size": 3, "scale": 2.0}),
    "(IA)3": Row("ia3", {"layers": (1,)}, "adapters"),
    "prefix": Row("prefix", {"size": 3}, start=None),   # it has a share of the attention at once
}
# What else of a method one batch has.
OTHERS = {
    "LoRA at the top": Row("lora", {"size": 2, "scale": 2.0, "layers": (1,)}),
    "prefix at the top": Row("prefix", {"size": 2, "layers": (1,)}),
    "(IA)3 everywhere": Row("ia3", {}),
}


def name_of(row):
    """The name of a row of ROWS."""
    return next(name for name, one in ROWS.items() if one is row)


each_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def test_every_published_method_has_a_row():
    assert {row.name for row in ROWS.values()} == set(METHODS)
    assert {row.adapter.adapter_fn for row in ROWS.values()} == set(adapters.ADAPTERS)


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


def perturbed(variables, seed=0):
    """{name: values} for all variables, far from the first ones, and the same for one name."""
    return {name: np.random.default_rng([seed, *name.encode()]).normal(
        float(name.endswith("gamma")), 0.3, variable.shape) for name, variable in variables.items()}


@each_row
def test_it_starts_at_the_bases_output(row):
    found = {}
    for adapter in (None, row.adapter):
        with tf.Graph().as_default(), tf.Session() as session:
            output, variables = built(dataclasses.replace(model_of(row), adapter=adapter))
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            values, own = perturbed(variables), {name for name in variables if "/adapters/" in name}
            network.load(session, [(variables[name], values[name])
                                   for name in variables.keys() - own])
            found[adapter] = [session.run(output.predictions["probabilities"])]
            network.load(session, [(variables[name], values[name]) for name in own])
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
            (variables[name], value) for name, value in perturbed(variables).items()
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


@pytest.mark.slow
@each_row
def test_it_compiles_with_xla(row):
    def compute(*columns):
        output, variables = network.towers(
            model_of(row), dict(zip(batch(2), columns, strict=True)), 1, False,
            modeling.plain_formulas(), use_tpu=True)
        loss = heads.batch_loss(output)
        trained = [variable for name, variable in variables.items() if variable.trainable
                   and ("/adapters/" in name or name.startswith("output"))]
        return [loss, *(tf.convert_to_tensor(one) for one in tf.gradients(loss, trained))]

    tf.train.get_or_create_global_step()
    columns = list(batch(2).values())
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        plain, compiled = compute(*columns), tf.xla.experimental.compile(compute, columns)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for one, other in zip(*session.run([plain, compiled]), strict=True):
            assert np.abs(one - other).max() <= 1e-5


@pytest.fixture(name="packs", scope="module")
def fixture_packs(tiny_dir, on, tmp_path_factory):
    """{name of a row: (path of a pack, its answers alone)}."""
    folder, packs = tmp_path_factory.mktemp("packs"), {}
    for seed, (name, row) in enumerate((ROWS | OTHERS).items()):
        path = str(folder / f"{seed}.zip")
        store.write(path, tiny_pack(seed, base=on, task=name, **row.settings))
        packs[name] = path, alone(tiny_dir, path)
    return packs


@each_row
def test_its_pack_says_what_the_model_says(row, tiny_dir, packs):
    path, found = packs[name_of(row)]
    pack = store.read(path)
    assert pack.manifest.adapter == row.adapter and pack.manifest.tuning == row.settings["tuning"]
    wanted, variables = said_by(pack.manifest.model(), f"{tiny_dir}/bert_model.ckpt", pack.weights)
    assert np.abs(found - wanted).max() <= 1e-6
    assert pack.weights.keys() == {name for name, one in variables.items() if one.trainable}


def said_by(model, checkpoint, weights):
    """Probabilities of TEXTS by a graph with values of a checkpoint and weights; its variables."""
    tokenizer = tokenization.FullTokenizer(os.path.join(os.path.dirname(checkpoint), "vocab.txt"))
    rows = [tokenizer.convert_tokens_to_ids(["[CLS]", *tokenizer.tokenize(text)[:14], "[SEP]"])
            for text in TEXTS]
    features = padding.padded([(ids, [0] * len(ids)) for ids in rows])
    output, variables = network.towers(
        model, {name: tf.constant(column, tf.int32) for name, column in features.items()}, 1,
        False, modeling.plain_formulas())
    network.start_from(checkpoint, {
        name: variable for name, variable in variables.items() if name not in weights})
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        network.load(session, [(variables[name], value) for name, value in weights.items()])
        return session.run(output.predictions["probabilities"]), variables


@pytest.mark.parametrize("name", ["plain", pytest.param("fused", marks=pytest.mark.slow)])
def test_all_in_one_batch(tiny_dir, packs, name):
    bank = Bank(tiny_dir, 20, "float32", name, max_adapter_size=5, max_labels=4)
    for task, (path, _) in packs.items():
        bank.add(task, path)
    found = answers(bank, list(packs))
    for task, (_, wanted) in packs.items():
        assert np.abs(found[task] - wanted).max() <= 1e-5, task
    assert np.ptp([wanted[0, 0] for _, wanted in packs.values()]) > 0.1


IDS = {"input_ids": [[2, 5, 7, 3], [2, 3, 0, 0]], "input_mask": [[1] * 4, [1, 1, 0, 0]],
       "segment_ids": [[0] * 4] * 2}


def asked_of(version, tasks=()):
    """What a SavedModel says of the rows of IDS, of all rows for each of the tasks if it has any.

    Returns:
      Probabilities float [rows, C], and the names of its variables.
    """
    count = len(tasks) or 1
    columns = {name: column * count for name, column in IDS.items()}
    columns |= {"task": [task for task in tasks for _ in range(2)]} if tasks else {}
    with tf.Graph().as_default(), tf.Session() as session:
        asked = tf.saved_model.load(session, ["serve"], version).signature_def["ids"]
        found = session.run(asked.outputs["probabilities"].name, {
            asked.inputs[name].name: column for name, column in columns.items()})
        return found, {variable.op.name for variable in tf.global_variables()}


def by_predictor(tiny_dir, path):
    """The same of a pack in adapter_bert.load."""
    with adapter_bert.load(tiny_dir, path, **EXACT) as task:
        return np.stack([one["probabilities"] for one in task._run(
            [([2, 5, 7, 3], [0] * 4), ([2, 3], [0] * 2)])])


@pytest.mark.slow
@each_row
def test_it_is_exported_alone(row, tiny_dir, packs, tmp_path):
    path, _ = packs[name_of(row)]
    version = export(tiny_dir, [path], str(tmp_path / "model"), ids_only=True)
    found, variables = asked_of(version)
    assert np.abs(found - by_predictor(tiny_dir, path)).max() <= 1e-5
    is_merged = not any("/adapters/" in name for name in variables)
    assert is_merged == (row.name == "lora")


@pytest.mark.slow
@each_row
def test_it_is_exported_beside_another_size_and_a_head(row, tiny_dir, on, packs, tmp_path):
    others = {"wider": {**row.settings, "adapter": dataclasses.replace(row.adapter, size=5)},
              "a head": {"tuning": "head", "adapter": None}}
    paths = {name_of(row): packs[name_of(row)][0]}
    for seed, (name, fields) in enumerate(others.items(), start=20):
        paths[name] = str(tmp_path / f"{name}.zip")
        store.write(paths[name], tiny_pack(seed, base=on, task=name, **fields))
    output = str(tmp_path / "model")
    if row.name == "prefix":
        for beside, words in (("wider", "size 3 and 5; export them apart"),
                              ("a head", "a head has no adapters, .*prefixes do.*apart")):
            with pytest.raises(InputError, match=words):
                export(tiny_dir, [paths["prefix"], paths[beside]], output, ids_only=True)
        return
    found, _ = asked_of(export(tiny_dir, list(paths.values()), output, ids_only=True), list(paths))
    wanted = np.concatenate([by_predictor(tiny_dir, path) for path in paths.values()])
    assert np.abs(found - wanted).max() <= 1e-5


def test_methods_of_different_kinds_share_no_exported_graph(tiny_dir, packs, tmp_path):
    paths = [packs[name][0] for name in ("LoRA", "houlsby")]
    with pytest.raises(InputError, match="adapter_fn lora and feedforward_adapter.*export them"):
        export(tiny_dir, paths, str(tmp_path / "many"), ids_only=True)


@pytest.mark.parametrize("build,config,values,expected", [
    (adapters.parallel, AdapterConfig(size=1, activation="relu", scale=2.0),
     {"weights1": [[1.0], [1.0]], "biases1": [[0.5]], "weights2": [[2.0, -1.0]],
      "biases2": [[0.0, 1.0]]}, [10 + 2 * 7.0, 20 + 2 * (1 - 3.5)]),
    (adapters.lora, AdapterConfig(size=1, scale=3.0),
     {"weights1": [[2.0], [1.0]], "weights2": [[1.0, -1.0]]}, [10 + 3 * 10.0, 20 - 3 * 10.0]),
    (adapters.ia3, AdapterConfig(size=1), {"scale": [0.5, -1.0]}, [15.0, 0.0])])
def test_by_hand(build, config, values, expected):
    """The sublayer reads [1, 2], a projection [3, 4], and what comes out is [10, 20]."""
    source, output, residual = (tf.constant([[pair]]) for pair in (
        [3.0, 4.0], [10.0, 20.0], [1.0, 2.0]))
    found = build(modeling.Site("output", 0, source, output, residual, modeling.plain_formulas()),
                  config)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert np.array_equal(session.run(found), [[[10.0, 20.0]]])
        for variable in tf.global_variables():
            variable.load(values[variable.op.name.split("/")[-1]], session)
        assert np.allclose(session.run(found), [[expected]])


def test_a_prefix_by_hand():
    """One head, one token, one prefix: softmax over two scores of a width of 4."""
    query, key, value = (tf.constant([[[a, 0.0, 0.0, 0.0]]]) for a in (2.0, 3.0, 5.0))
    prefix = tf.constant([[1.0, 0, 0, 0]]), tf.constant([[0.0, 7.0, 0, 0]])
    keys, values, bias = modeling.behind(prefix, key, value, tf.zeros([1, 1]))
    context = modeling.attend(lambda x, rate: x, query, keys, values, bias, 1, 0.0)
    share = np.exp(1.0) / (np.exp(1.0) + np.exp(3.0))   # scores 2 * 1 / 2 and 2 * 3 / 2
    with tf.Session() as session:
        found = session.run(context)
    assert np.allclose(found, [[[5 * (1 - share), 7 * share, 0, 0]]], atol=1e-6)


def test_a_prefix_each_row_of_its_own():
    random = np.random.default_rng(0)
    key, value = (tf.constant(random.normal(size=[2, 3, 4]), tf.float32) for _ in range(2))
    own = tuple(tf.constant(random.normal(size=[2, 5, 4]), tf.float32) for _ in range(2))
    both = modeling.behind(own, key, value, tf.zeros([2, 3]))
    parts = [modeling.behind([one[row] for one in own], key[row:row + 1], value[row:row + 1],
                             tf.zeros([1, 3])) for row in range(2)]
    with tf.Session() as session:
        whole, (first, second) = session.run([both, parts])
    for one, *rows in zip(whole, first, second, strict=True):
        assert np.array_equal(one, np.concatenate(rows))


def gradients_in(layer, tuning, adapter):
    """Operations of a training step that belong to the gradient of a layer."""
    with tf.Graph().as_default() as graph:
        output, _ = built(network.Model(TINY, "classification", 2, tuning, adapter))
        step = optimization.create_optimizer(heads.batch_loss(output), 0.01, 10, 0)
        pruned = tf.graph_util.extract_sub_graph(graph.as_graph_def(), [step.name])
        return [node.name for node in pruned.node if "gradients" in node.name
                and f"/layer_{layer}/" in node.name]


def test_adapter_drop_has_no_backward_pass_below_its_adapters():
    top = AdapterConfig(size=4, layers=(1,))
    assert not gradients_in(0, "adapters_drop", top)
    assert gradients_in(1, "adapters_drop", top)
    assert gradients_in(0, "adapters", top)   # the LayerNorms below train


@pytest.mark.parametrize("layers,trained", [
    (None, {0, 1, 2}), ((1, 2), {1, 2}), ((2,), {2}), ((0, 2), {0, 1, 2}), ((), set())])
def test_the_layer_norms_of_adapter_drop(layers, trained):
    rules = tuning_modes.tuning_rules("adapters_drop", 3, AdapterConfig(layers=layers))
    found = {layer for layer in range(3) if tuning_modes.group_of(
        f"bert/encoder/layer_{layer}/output/LayerNorm/beta", rules) == "layer_norm"}
    assert found == trained
    assert tuning_modes.group_of("bert/embeddings/LayerNorm/beta", rules) == "frozen"


def resolved(**flags):
    return with_method(Settings(**flags), frozenset(flags))[0]


def test_a_method_stands_for_flags_that_are_not_given():
    settings = resolved(adapter_method="pfeiffer", adapter_size=16)
    assert settings.tuning == "adapters_only"
    assert adapter_config(settings) == AdapterConfig(
        16, "feed_forward", activation="relu", original_ln_before=True)
    settings = resolved(adapter_method="lora", adapter_scale=2.0, tuning="adapters")
    assert (settings.tuning, settings.adapter_size, settings.adapter_scale) == ("adapters", 8, 2.0)
    assert resolved(adapter_fn="lora") == Settings(adapter_fn="lora")
    with pytest.raises(InputError, match="--tuning=full has no adapters"):
        resolved(adapter_method="ia3", tuning="full")


def test_a_scale_of_one_is_not_written():
    assert "scale" not in AdapterConfig().to_dict()
    written = AdapterConfig(scale=4.0).to_dict()
    assert written["scale"] == 4.0 and AdapterConfig.from_dict(written).scale == 4.0
    text = tiny_pack(adapter=AdapterConfig(size=4)).manifest.to_bytes()
    assert b"scale" not in text


@pytest.mark.slow
def test_the_command_trains_evaluates_and_refuses_another_method(tmp_path, tiny_dir):
    data, out = write_sst2(tmp_path / "data"), str(tmp_path / "run")
    flags = {"data_dir": data, "bert_dir": tiny_dir, "output_dir": out, "do_eval": True,
             "adapter_method": "lora", "adapter_size": 2}
    trained = go(**flags, do_train=True, num_train_epochs=1.0)
    assert go(**flags) == trained
    assert store.read(f"{out}/pack").manifest.adapter == AdapterConfig(2, adapter_fn="lora")
    with pytest.raises(InputError, match="--adapter_fn=lora, not ia3"):
        go(**{**flags, "adapter_method": "ia3"})
