"""BERT's graph: recorded numbers, weights a row, methods at sites."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY

from adapter_bert import kernels, network
from adapter_bert.bert import adapters, checkpoint_io, modeling, optimization, tuning_modes
from adapter_bert.compute import Places
from adapter_bert.files import read_json
from adapter_bert.kinds import heads

GOLDEN = "tests/fixtures/golden/"


@pytest.fixture(name="formulas", params=["plain", "fused"])
def fixture_formulas(request):
    """Both sets of formulas; the compiled ones skip where there is no compiler."""
    if request.param == "plain":
        return modeling.plain_formulas()
    try:
        kernels.load()
    except kernels.UnavailableError as error:
        pytest.skip(f"no compiled kernels: {error}")
    return kernels.fused_formulas(Places(0).next_seed)


def minilm_config(folder, hidden_act):
    values = read_json(f"{folder}/bert_config.json")
    return modeling.BertConfig.from_dict({
        **values, "hidden_act": hidden_act, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0})


def load(session, values):
    """Puts arrays into every variable; a name without an array is an error."""
    packed = {copy.op.name: (name, turned) for name, turned, copy in kernels.copies()}
    variables = {variable.op.name: variable for variable in
                 tf.global_variables() + tf.local_variables()}
    network.load(session, [
        (variable, values[name]) for name, variable in variables.items()
        if name not in packed and name != "global_step" and "/adam_" not in name])
    session.run([
        variables[copy].assign(kernels.pack(tf.cast(values[name], tf.bfloat16), turned))
        for copy, (name, turned) in packed.items()])


def random_ids(random, batch, tokens):
    mask = np.arange(tokens)[None] < random.integers(3, tokens + 1, [batch, 1])
    return {"input_ids": random.integers(0, TINY.vocab_size, [batch, tokens]).astype(np.int32),
            "input_mask": mask.astype(np.int32),
            "token_type_ids": random.integers(0, 2, [batch, tokens]).astype(np.int32)}


def tiny_bert(ids, methods=None):
    return modeling.BertModel(TINY, False, tf.constant(ids["input_ids"]),
                              tf.constant(ids["input_mask"]),
                              tf.constant(ids["token_type_ids"]), methods=methods)


def run_with(values, fetch):
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        load(session, values)
        return session.run(fetch)


@pytest.mark.parametrize("form,hidden_act", [("erf", "gelu_erf"), ("tanh", "gelu")])
def test_hidden_states_equal_recorded(minilm_dir, formulas, form, hidden_act, record_property):
    recorded = np.load(GOLDEN + "minilm_l6.npz")
    model = modeling.BertModel(
        minilm_config(minilm_dir, hidden_act), False, tf.constant(recorded["input_ids"]),
        tf.constant(recorded["input_mask"]), tf.constant(recorded["segment_ids"]),
        formulas=formulas)
    layers = [model.get_embedding_output(), *model.get_all_encoder_layers()]
    weights = checkpoint_io.Checkpoint(f"{minilm_dir}/bert_model.ckpt")
    states, pooled = run_with(weights, [layers, model.get_pooled_output()])
    states = np.stack(states)[:, :, ::4]
    difference = max(np.abs(states - recorded[f"hidden_states_{form}"]).max(),
                     np.abs(pooled - recorded[f"pooled_{form}"]).max())
    record_property("largest difference", float(difference))
    assert difference <= 1e-4
    other = {"erf": "tanh", "tanh": "erf"}[form]
    assert np.abs(states - recorded[f"hidden_states_{other}"]).max() > 1e-4


def recorded_arrays():
    """The batches of the recorded ten steps, and the values before and after them."""
    return ({name.replace("|", "/"): array for name, array in np.load(
        f"{GOLDEN}seed_train_{part}.npz").items()} for part in ("batches", "initial", "final"))


def recorded_training_graph(config, formulas, dtype=tf.float32):
    """Placeholders, logits, loss and train op of the recorded ten steps."""
    feed = {name: tf.placeholder(tf.int32, [8, 64])
            for name in ("input_ids", "input_mask", "segment_ids")}
    feed["label_ids"] = tf.placeholder(tf.int32, [8])
    getter = tuning_modes.tuning_getter(tuning_modes.tuning_rules("adapters", 6), dtype=dtype)
    with tf.variable_scope(tf.get_variable_scope(), custom_getter=getter):
        model = modeling.BertModel(
            config, True, feed["input_ids"], feed["input_mask"], feed["segment_ids"],
            methods=adapters.attach(adapters.AdapterConfig(), 6), formulas=formulas,
            dtype=dtype)
        output = heads.HEADS["classification"].build(model, feed, 2, network.undropped)
    loss = heads.batch_loss(output)
    train_op = optimization.create_optimizer(loss, 1e-3, 10, 2)
    return feed, output.predictions["logits"], loss, train_op


def test_ten_training_steps_equal_recorded(minilm_dir, formulas, record_property):
    recorded = read_json(GOLDEN + "seed_train_run.json")
    batches, initial, final = recorded_arrays()
    feed, logits, loss, train_op = recorded_training_graph(
        minilm_config(minilm_dir, "gelu"), formulas)
    trained = {variable.op.name: variable for variable in tf.trainable_variables()}
    assert set(trained) == set(recorded["trainable_variables"])
    assert sum(v.shape.num_elements() for v in trained.values()) == 605_954
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        load(session, {**checkpoint_io.Checkpoint(f"{minilm_dir}/bert_model.ckpt"), **initial})
        steps = [session.run([logits, loss, train_op], {
            feed[name]: batches[name][8 * (i % 8):8 * (i % 8) + 8] for name in feed})
            for i in range(10)]
        values = session.run({name: trained[name] for name in final})
    differences = {
        "logits": np.abs(steps[0][0] - recorded["first_batch_logits"]).max(),
        "losses": np.abs(np.array([step[1] for step in steps]) - recorded["losses"]).max(),
        "values": max(np.abs(values[name] - final[name]).max() for name in final)}
    for name, difference in differences.items():
        record_property(name, float(difference))
    assert differences["logits"] <= 1e-4
    assert differences["losses"] <= 1e-3
    assert differences["values"] <= 5e-3
    moved = [np.abs(initial[name] - final[name]).max() for name in initial if name in final]
    assert max(moved) > 5e-3


def test_bfloat16_products_stay_near_the_recorded_logits(minilm_dir, formulas, record_property):
    recorded = read_json(GOLDEN + "seed_train_run.json")
    batches, initial, final = recorded_arrays()
    found = {}
    for dtype in (tf.float32, tf.bfloat16):
        with tf.Graph().as_default():
            feed, logits, _, _ = recorded_training_graph(
                minilm_config(minilm_dir, "gelu"), formulas, dtype)
            first = {feed[name]: batches[name][:8] for name in feed}
            with tf.Session() as session:
                session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
                weights = {**checkpoint_io.Checkpoint(f"{minilm_dir}/bert_model.ckpt"), **initial}
                load(session, weights)
                start = session.run(logits, first)
                load(session, {**weights, **final})
                found[dtype] = start, session.run(logits, first)
    assert np.abs(found[tf.float32][0] - recorded["first_batch_logits"]).max() <= 1e-4
    for exact, rounded in zip(found[tf.float32], found[tf.bfloat16], strict=True):
        record_property("largest difference of logits", float(np.abs(exact - rounded).max()))
        assert 0 < np.abs(exact - rounded).max() <= 0.05


def test_padding_and_mask_change_nothing_for_real_tokens():
    random = np.random.default_rng(0)
    ids = random_ids(random, 2, 8)
    ids["input_mask"][:] = 1
    longer = {name: np.pad(array, [[0, 0], [0, 4]]) for name, array in ids.items()}
    short = tiny_bert(ids)
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        long = tiny_bert(longer)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        a, b = session.run([short.get_sequence_output(), long.get_sequence_output()])
    assert np.abs(a - b[:, :8]).max() < 1e-5


@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize("method", adapters.METHODS)
def test_the_pooled_output_alone_is_the_same(formulas, method, tokens):
    fields = {**adapters.METHODS[method], "size": 4, "init_stddev": 0.3}
    fields.pop("tuning")
    methods = adapters.attach(adapters.AdapterConfig(**fields), 2)
    ids = random_ids(np.random.default_rng(0), 3, max(3, tokens))
    ids = {name: tf.constant(array[:, :tokens]) for name, array in ids.items()}
    found, last = [], []
    for only_pooled in (False, True):
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            bert = modeling.BertModel(TINY, False, **ids, methods=methods, formulas=formulas,
                                      only_pooled=only_pooled)
        pooled = bert.get_pooled_output()
        gradients = tf.gradients(tf.reduce_sum(tf.square(pooled)), tf.trainable_variables())
        found.append([pooled, *map(tf.convert_to_tensor, gradients)])
        last.append(tf.shape(bert.get_sequence_output())[1])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            variable.load(np.random.default_rng(1).normal(0, 0.5, variable.shape), session)
        for whole, alone in zip(*session.run(found), strict=True):
            assert np.abs(whole - alone).max() <= 2e-5 * max(1, np.abs(whole).max())
        assert session.run(last) == [tokens, 1]


def every_weight_a_row(values, rows):
    """A getter that gives each row of the batch its own copy of the weights in `rows`."""
    def getter(getter, name, *args, **options):
        variable = getter(name, *args, **options)
        return tf.constant(np.stack([row[name] for row in rows])) if name in rows[0] else variable
    return getter


def perturbed(random, shapes):
    return {name: random.normal(0.5, 0.5, shape).astype(np.float32)
            for name, shape in shapes.items()}


def adapter_classifier(ids):
    model = tiny_bert(ids, adapters.attach(adapters.AdapterConfig(size=4), 2))
    return heads.HEADS["classification"].build(
        model, {}, 3, network.undropped).predictions["logits"]


def test_rows_with_their_own_weights_equal_single_runs(record_property):
    random = np.random.default_rng(0)
    ids = random_ids(random, 5, 7)
    with tf.Graph().as_default():
        adapter_classifier(ids)
        shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    base_values = perturbed(random, shapes)
    own = {name: shape for name, shape in shapes.items() if "embeddings" not in name
           or "LayerNorm" in name}
    assert any("LayerNorm" in n for n in own) and "output_weights" in own
    rows = [perturbed(random, own) for _ in range(5)]
    with tf.Graph().as_default(), tf.variable_scope(
            tf.get_variable_scope(), custom_getter=every_weight_a_row(base_values, rows)):
        together = run_with(base_values, adapter_classifier(ids))
    for index, row in enumerate(rows):
        with tf.Graph().as_default():
            logits = adapter_classifier({n: a[index:index + 1] for n, a in ids.items()})
            alone = run_with({**base_values, **row}, logits)
        record_property("largest difference", float(np.abs(together[index] - alone[0]).max()))
        assert np.abs(together[index] - alone[0]).max() <= 1e-5
        assert np.abs(together[index - 1] - alone[0]).max() > 1e-3


@pytest.mark.parametrize("site", [site for site in modeling.SITES if site != "prefix"])
def test_a_method_attaches_at_each_site(site):
    ids, seen = random_ids(np.random.default_rng(0), 2, 5), []

    def double(place):
        seen.append((place.name, place.layer))
        scale = tf.get_variable("toy/scale", [], initializer=tf.constant_initializer(2.0))
        return place.output * scale

    plain = tiny_bert(ids).get_sequence_output()
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        changed = tiny_bert(ids, {site: double}).get_sequence_output()
    assert seen == [(site, 0), (site, 1)]
    scales = [v for v in tf.global_variables() if v.op.name.endswith("toy/scale")]
    assert len(scales) == 2
    random = np.random.default_rng(1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            if not variable.op.name.endswith("toy/scale"):
                variable.load(random.normal(0, 0.5, variable.shape), session)
        assert np.abs(np.subtract(*session.run([plain, changed]))).max() > 1e-3
        for scale in scales:
            scale.load(1.0, session)
        assert np.abs(np.subtract(*session.run([plain, changed]))).max() < 1e-5


def test_one_method_at_several_sites_has_weights_at_each():
    def scaled(site):
        return site.output * tf.get_variable("scale", [site.output.shape[-1]],
                                             initializer=tf.ones_initializer())
    tiny_bert(random_ids(np.random.default_rng(0), 1, 3),
              {"key": scaled, "value": scaled, "intermediate": scaled})
    names = {v.op.name for v in tf.global_variables() if v.op.name.endswith("/scale")}
    assert len(names) == 6 and "bert/encoder/layer_0/attention/self/key/scale" in names


def test_an_unknown_site_is_refused():
    with pytest.raises(ValueError, match="no such site.*kye"):
        tiny_bert(random_ids(np.random.default_rng(0), 1, 3), {"kye": lambda site: site.output})


def test_one_hot_embeddings_equal_gathered_ones():
    ids = tf.constant([[3, 1, 2], [7, 7, 0]])
    table = tf.random.normal([8, 4])
    with tf.Session() as session:
        a, b = session.run([modeling.look_up(table, ids, one_hot) for one_hot in (True, False)])
    assert np.abs(a - b).max() < 1e-6


def test_add_norm_by_hand():
    x = np.array([[[1.0, 3.0], [0.0, 4.0]]], np.float32)
    gamma, beta = tf.constant([2.0, 1.0]), tf.constant([0.5, 0.0])
    with tf.Session() as session:
        y = session.run(modeling.add_norm(tf.constant(x - 1), tf.ones([1, 2, 2]), gamma, beta))
    assert np.abs(y - [[[-1.5, 1.0], [-1.5, 1.0]]]).max() < 1e-6


@pytest.mark.parametrize("values,message", [
    ({"hidden_size": 8}, "vocab_size"),
    ({"vocab_size": 8, "hidden": 4}, "hidden"),
    ({"vocab_size": 8, "hidden_size": 10, "num_attention_heads": 4}, "multiple"),
    ({"vocab_size": 8, "hidden_act": "glu"}, "glu"),
])
def test_config_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        modeling.BertConfig.from_dict(values)


def test_config_takes_the_keys_of_googles_files():
    config = modeling.BertConfig.from_dict({"vocab_size": 9, "directionality": "bidi"})
    assert config.hidden_size == 768
    assert modeling.BertConfig.from_dict(config.to_dict()) == config
