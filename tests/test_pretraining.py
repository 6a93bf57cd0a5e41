"""Whole runs of the pre-training on a tiny BERT, and runs that start from what it leaves."""
import glob
import os
import re
import shutil

import numpy as np
import pytest
import runs
import tensorflow.compat.v1 as tf
from conftest import TINY
from masked import FLAGS, go, instances, write_records
from packs import tiny_pack
from runs import same, values

import adapter_bert
from adapter_bert.bert import checkpoint_io, conversion, formats, modeling
from adapter_bert.errors import InputError
from adapter_bert.export.savedmodel import export
from adapter_bert.files import read_json
from adapter_bert.kinds.heads import masked_lm
from adapter_bert.packs import store
from adapter_bert.packs.bases import base_of
from adapter_bert.serve.engine import Bank

pytestmark = pytest.mark.slow
HEAD = masked_lm.shapes(TINY.hidden_size, TINY.vocab_size)
EASY = {"vocabulary": 11}   # texts of six words: chance is a loss of 1.79
LEARNING = {"do_train": True, "num_warmup_steps": 10, "bias_correction": True}
PLAIN = {"precision": "float32", "kernels": "plain"}


@pytest.fixture(name="data", scope="module")
def fixture_data(tmp_path_factory):
    """Flags of two files to train on and one to evaluate on."""
    folder = tmp_path_factory.mktemp("masked")
    write_records(folder / "train" / "a.tfrecord", instances(90, seed=0, **EASY))
    write_records(folder / "train" / "b.tfrecord", instances(40, seed=1, **EASY))
    dev = write_records(folder / "dev.tfrecord", instances(60, seed=2, **EASY))
    return {"input_file": str(folder / "train" / "*"), "eval_input_file": dev}


@pytest.fixture(name="domain", scope="module")
def fixture_domain(tmp_path_factory, data, tiny_dir):
    """Flags of a finished run in adapters mode, never to be changed, with its metrics.

    Its batches have two parts, and it goes over the end of many epochs.
    """
    flags = {**data, **LEARNING, **PLAIN, "bert_dir": tiny_dir, "train_batch_size": 16,
             "num_train_steps": 300, "save_checkpoints_steps": 200, "learning_rate": 0.02,
             "output_dir": str(tmp_path_factory.mktemp("domain") / "out")}
    return flags, go(**flags, do_eval=True)


@pytest.fixture(name="prefix", scope="module")
def fixture_prefix(domain):
    """The last checkpoint of that run."""
    return f"{domain[0]['output_dir']}/model.ckpt-300"


@pytest.fixture(name="pack", scope="module")
def fixture_pack(domain):
    """The pack of that run."""
    return f"{domain[0]['output_dir']}/pack"


@pytest.fixture(name="scratch", scope="module")
def fixture_scratch(tmp_path_factory, data, tiny_dir):
    """The folder of a BERT trained from nothing, by BERT's own flags, and its metrics."""
    out = str(tmp_path_factory.mktemp("scratch") / "out")
    go(**data, **LEARNING, bert_config_file=f"{tiny_dir}/bert_config.json", output_dir=out,
       tuning="full", num_train_steps=200)
    return out, go(**data, output_dir=out, do_eval=True)


def of_encoder(weights):
    return {name: value for name, value in weights.items() if name.startswith("bert/")}


def test_it_learns(domain, scratch):
    """A guess is right in 1 of 6."""
    for (_, found), most in ((domain, 1.5), (scratch, 1.0)):
        assert found["masked_lm_loss"] < most < np.log(6) and found["masked_lm_accuracy"] > 0.4


def metrics_by_numpy(prefix, tiny_dir, rows):
    """BERT's four metrics of instances in their padded form, the head computed by NumPy."""
    held = {**values(f"{tiny_dir}/bert_model.ckpt"), **values(prefix)}
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    bert = modeling.BertModel(TINY, False, *(tf.constant(columns[name], tf.int32) for name in (
        "input_ids", "input_mask", "segment_ids")), methods=adapters())
    with tf.Session() as session:
        for variable in tf.global_variables():
            variable.load(held[variable.op.name], session)
        sequence, pooled = session.run([bert.get_sequence_output(), bert.get_pooled_output()])
    x = sequence[np.arange(len(rows))[:, None], columns["masked_lm_positions"]]
    w, b, gamma, beta, bias, of_pairs, pair_bias = (held[name].astype(np.float64) for name in HEAD)
    h = x @ w + b
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    h = (h - h.mean(-1, keepdims=True)) / h.std(-1, keepdims=True) * gamma + beta
    words = h @ held["bert/embeddings/word_embeddings"].T + bias
    pairs = pooled @ of_pairs.T + pair_bias
    weights, labels = columns["masked_lm_weights"], columns["masked_lm_ids"]
    follows = columns["next_sentence_labels"][:, 0]
    return {
        "masked_lm_accuracy": np.average(words.argmax(-1) == labels, weights=weights),
        "masked_lm_loss": np.average(entropies(words, labels), weights=weights),
        "next_sentence_accuracy": (pairs.argmax(-1) == follows).mean(),
        "next_sentence_loss": entropies(pairs, follows).mean()}


def adapters():
    from adapter_bert.bert import adapters
    return adapters.attach(adapters.AdapterConfig(size=FLAGS["adapter_size"]), 2)


def entropies(logits, labels):
    total = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    return total - np.take_along_axis(logits, labels[..., None], -1)[..., 0]


def test_metrics_are_those_of_the_whole_set(tiny_dir, domain, prefix):
    """Of 60 records in batches of 8."""
    wanted = metrics_by_numpy(prefix, tiny_dir, instances(60, seed=2, **EASY))
    assert {name: domain[1][name] for name in wanted} == pytest.approx(wanted, abs=2e-5)


def test_results_have_berts_names(domain):
    out, metrics = domain[0]["output_dir"], domain[1]
    assert list(metrics) == ["global_step", "loss", "masked_lm_accuracy", "masked_lm_loss",
                             "next_sentence_accuracy", "next_sentence_loss"]
    with open(f"{out}/eval_results.txt", encoding="utf-8") as file:
        assert file.read() == "".join(f"{key} = {value}\n" for key, value in metrics.items())
    counts = read_json(f"{out}/results.json")["counts"]
    assert counts["train_examples"] == 130
    assert counts["variables"]["head"] == {"variables": 7, "trained": True, "parameters": sum(
        int(np.prod(shape)) for shape in HEAD.values())}


def test_a_run_that_was_interrupted_ends_with_the_same_weights(tmp_path, data, domain, prefix):
    """And one more command changes nothing."""
    broken = str(tmp_path / "broken")
    shutil.copytree(domain[0]["output_dir"], broken)
    for path in glob.glob(f"{broken}/model.ckpt-300*"):
        os.remove(path)
    flags = {**domain[0], "output_dir": broken}
    go(**flags)
    assert same(values(f"{broken}/model.ckpt-300"), values(prefix))
    stamp = os.path.getmtime(f"{broken}/model.ckpt-300.index")
    go(**flags)
    assert os.path.getmtime(f"{broken}/model.ckpt-300.index") == stamp
    with pytest.raises(InputError, match="num_warmup_steps: 10 then, 2 now"):
        go(**{**flags, "num_warmup_steps": 2})
    with pytest.raises(InputError, match="other training data"):
        go(**{**flags, "input_file": data["eval_input_file"]})


def test_a_full_checkpoint_has_googles_names_and_shapes(tmp_path, data, tiny_dir, prefix):
    """Its evaluation on the first 24 records, which are the most, is that of the run's own."""
    full = str(tmp_path / "full" / "bert_model.ckpt")
    conversion.convert(prefix, full, to="full")
    shapes = checkpoint_io.Checkpoint(full).shapes
    wanted = {**checkpoint_io.variable_shapes(TINY.to_dict()), **HEAD}
    assert {name: shape for name, shape in shapes.items()
            if "/adapters/" not in name and name != "global_step"} == wanted
    found = go(**data, **PLAIN, bert_dir=tiny_dir, init_checkpoint=full, do_eval=True,
               max_eval_steps=3, output_dir=str(tmp_path / "eval"))
    wanted = metrics_by_numpy(prefix, tiny_dir, instances(60, seed=2, **EASY)[:24])
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=2e-5)
    runs.go(data_dir=runs.write_sst2(tmp_path / "sst2", 16, 8), init_checkpoint=full, do_train=True,
            output_dir=str(tmp_path / "task"), num_train_epochs=1.0, learning_rate=0.0,
            vocab_file=f"{tiny_dir}/vocab.txt", bert_config_file=f"{tiny_dir}/bert_config.json")
    found, started = values(str(tmp_path / "task" / "model.ckpt-2")), values(full)
    trained = [name for name in found if "/adapters/" in name or "/LayerNorm/" in name]
    assert all(np.array_equal(found[name], started[name]) for name in trained
               if not checkpoint_io.is_training_state(name))
    assert not any(name.startswith("cls/") for name in found)


def test_a_bert_of_its_own(tmp_path, data, tiny_dir, scratch):
    """What was trained from nothing goes on, is a base, and is Hugging Face's too."""
    out, metrics = scratch
    folder = tmp_path / "mine"
    shutil.copytree(tiny_dir, folder)
    for path in glob.glob(f"{folder}/bert_model*"):
        os.remove(path)
    trained = {name: value for name, value in values(f"{out}/model.ckpt-200").items()
               if not checkpoint_io.is_training_state(name)}
    assert {name: value.shape for name, value in trained.items()} == {
        **checkpoint_io.variable_shapes(TINY.to_dict()), **HEAD}
    checkpoint_io.write_checkpoint(str(folder / "bert_model.ckpt"), trained)
    conversion.convert(str(folder), str(tmp_path / "hf"))
    assert read_json(str(tmp_path / "hf" / "config.json"))["architectures"] == [
        "BertForPreTraining"]
    assert same(formats.read_hugging_face(str(tmp_path / "hf")).weights, trained)
    own = go(**data, bert_dir=str(folder), output_dir=str(tmp_path / "o"), do_eval=True,
             tuning="full")
    assert metrics["global_step"] == 200
    assert {**own, "global_step": 200} == metrics   # its own head is read
    further = str(tmp_path / "further")
    shutil.copytree(out, further)
    go(**data, **LEARNING, bert_config_file=f"{tiny_dir}/bert_config.json", output_dir=further,
       tuning="full", num_train_steps=201)
    assert checkpoint_io.FINGERPRINT_VARIABLE not in checkpoint_io.Checkpoint(
        f"{further}/model.ckpt-201"
    )


def test_a_new_head_is_at_chance_and_berts_own_is_read(tmp_path, data, tiny_dir, scratch):
    """What a base has of the heads is where training starts; the rest starts anew."""
    found = go(**data, bert_dir=tiny_dir, output_dir=str(tmp_path / "new"), do_eval=True)
    assert found["global_step"] == 0 and found["next_sentence_loss"] == pytest.approx(
        np.log(2), abs=0.1)
    held = {name: value for name, value in values(f"{scratch[0]}/model.ckpt-200").items()
            if not checkpoint_io.is_training_state(name) and not name.startswith(masked_lm.NEXT)}
    folder = tmp_path / "base"
    shutil.copytree(tiny_dir, folder)
    checkpoint_io.write_checkpoint(str(folder / "bert_model.ckpt"), held)
    go(**data, bert_dir=str(folder), output_dir=str(tmp_path / "out"), do_train=True,
       learning_rate=0.0, num_train_steps=1)
    pack = store.read(str(tmp_path / "out" / "pack"))
    words = [name for name in HEAD if name.startswith(masked_lm.WORDS)]
    assert len(words) == 5 and all(np.array_equal(pack.weights[name], held[name])
                                   for name in words)
    held.pop(words[0])
    checkpoint_io.write_checkpoint(str(folder / "bert_model.ckpt"), held)
    with pytest.raises(InputError, match=f"lacks {words[0]}"):
        go(**data, bert_dir=str(folder), output_dir=str(tmp_path / "half"), do_train=True)


def test_the_best_checkpoint_and_fused_kernels(tmp_path, data, tiny_dir):
    found = go(**data, bert_dir=tiny_dir, output_dir=str(tmp_path), do_train=True, do_eval=True,
               keep_best=True, eval_steps=4, num_train_steps=8, precision="bfloat16",
               train_batch_size=16)
    rows = read_json(str(tmp_path / "eval_history.json"))
    assert [row["global_step"] for row in rows] == [4, 8]
    best = max(rows, key=lambda row: row["masked_lm_accuracy"])
    assert found == best and len(list((tmp_path / "best").glob("*.index"))) == 1


@pytest.fixture(name="started", scope="module")
def fixture_started(tmp_path_factory, tiny_dir, pack):
    """Flags of a classifier's finished run that started from the domain's pack, at rate 0."""
    folder = tmp_path_factory.mktemp("started")
    flags = {"data_dir": runs.write_sst2(folder / "sst2", 16, 8), "bert_dir": tiny_dir,
             "output_dir": str(folder / "task"), "do_train": True, "num_train_epochs": 1.0,
             "init_pack": pack, "learning_rate": 0.0}
    start(flags)
    return flags


@pytest.fixture(name="task")
def fixture_task(tmp_path, started):
    """Flags of such a run that is yet to begin."""
    return {**started, "output_dir": str(tmp_path / "task")}


def without(flags, *names):
    return {name: value for name, value in flags.items() if name not in names}


def start(flags):
    """Starts runs.go with the flags but for the adapter's size, which a person leaves to a pack."""
    from adapter_bert.train.run import run
    from adapter_bert.train.settings import Settings
    flags = {"task_name": "SST-2", "max_seq_length": 16, "train_batch_size": 8, **flags}
    from adapter_bert.train.named_task import text_task
    settings = Settings(**flags)
    return run(settings, frozenset(flags), text_task(settings))


def test_a_task_starts_from_the_packs_encoder_and_a_new_head(started, pack):
    """At rate 0 the task's pack is what it started from; it is whole in itself."""
    before, after = store.read(pack), store.read(f"{started['output_dir']}/pack")
    assert same(of_encoder(after.weights), of_encoder(before.weights))
    assert after.weights.keys() - of_encoder(after.weights).keys() == {"output_weights",
                                                                       "output_bias"}
    assert after.manifest.adapter == before.manifest.adapter and after.manifest.adapter.size == 4
    in_base = values(f"{started['bert_dir']}/bert_model.ckpt")
    norms = [name for name in before.weights if "/LayerNorm/" in name and name in in_base]
    assert len(norms) == 10   # else it might have started from its base
    assert not any(np.array_equal(before.weights[name], in_base[name]) for name in norms)
    answer, = adapter_bert.load(started["bert_dir"], f"{started['output_dir']}/pack").predict(
        ["a film"])
    assert answer.label in ("0", "1")


def test_a_run_knows_the_pack_that_it_started_from(started, tmp_path):
    start(started)   # the same is the same
    pack = store.read(started["init_pack"])
    name = "bert/embeddings/LayerNorm/beta"
    store.write(str(tmp_path / "other"), pack._replace(
        weights={**pack.weights, name: pack.weights[name] + 1}))
    with pytest.raises(InputError, match="another --init_pack"):
        start({**started, "init_pack": str(tmp_path / "other")})
    with pytest.raises(InputError, match="another --init_pack, or none"):
        start({**without(started, "init_pack"), "adapter_size": 4})
    found = start({**without(started, "init_pack", "do_train"), "do_eval": True})
    assert found["global_step"] == 2   # a trained run needs the pack no more


@pytest.mark.parametrize("flags,message", [
    ({"adapter_size": 8}, "--adapter_size=4, not 8"), ({"tuning": "full"}, "--tuning=adapters"),
    ({"init_checkpoint": "x"}, "give no --init_checkpoint"), ({"pack": "PACK"}, "no other pack"),
    ({"bert_dir": None}, "name the folder of its base"),
    ({"do_train": False, "do_eval": True}, "training starts from it"),
    ({"init_pack": "/nowhere"}, "/nowhere"),
    ({"init_pack": None, "pack": "PACK"}, "its head is for masked_lm.*give --init_pack")])
def test_starts_that_do_not_fit(task, pack, flags, message):
    flags = {name: pack if value == "PACK" else value for name, value in flags.items()}
    with pytest.raises(InputError, match=message):
        start({**task, **flags})


def test_another_base_is_refused(task, tmp_path, tiny_dir):
    other = tmp_path / "another_base"
    shutil.copytree(tiny_dir, other)
    held = values(f"{tiny_dir}/bert_model.ckpt")
    checkpoint_io.write_checkpoint(str(other / "bert_model.ckpt"), {
        name: value + 1e-6 for name, value in held.items()})
    with pytest.raises(InputError, match="another_base.*another base"):
        start({**task, "bert_dir": str(other)})


def test_any_kind_of_pack_is_a_start_but_a_head_alone(started, data, tmp_path, tiny_dir):
    """A classifier's pack for the pre-training; what a pack of a head holds is no start."""
    flags = dict(**data, bert_dir=tiny_dir, do_train=True, learning_rate=0.0, num_train_steps=1)
    go(**flags, output_dir=str(tmp_path / "lm"), init_pack=f"{started['output_dir']}/pack")
    before, after = (store.read(str(path)) for path in (f"{started['output_dir']}/pack",
                                                        tmp_path / "lm" / "pack"))
    assert same(of_encoder(after.weights), of_encoder(before.weights))
    assert HEAD.keys() <= after.weights.keys() and "output_weights" not in after.weights
    store.write(str(tmp_path / "head"), tiny_pack(
        base=base_of(tiny_dir), tuning="head", adapter=None))
    with pytest.raises(InputError, match="holds nothing but its head"):
        go(**flags, output_dir=str(tmp_path / "x"), init_pack=str(tmp_path / "head"))


def test_a_domain_pack_answers_no_texts(pack, tiny_dir, tmp_path):
    for ask in (lambda: adapter_bert.load(tiny_dir, pack),
                lambda: export(tiny_dir, [pack], str(tmp_path / "model")),
                lambda: Bank(tiny_dir).add("domain", pack)):
        with pytest.raises(InputError, match="of pretraining has a head for masked_lm.*init_pack"):
            ask()


@pytest.mark.parametrize("flags,message", [
    ({"input_file": None}, "--input_file is missing"),
    ({"input_file": "/nowhere/*.tfrecord"}, "--input_file=/nowhere.*no file"),
    ({"eval_input_file": "/nowhere/*"}, "--eval_input_file=/nowhere"),
    ({"max_seq_length": 20}, "a.tfrecord, record 0: input_ids has 16 values, not 20"),
    ({"max_predictions_per_seq": 5}, "has 4 values, not 5; give the --max_predictions_per_seq"),
    ({"max_seq_length": 25}, "24 positions"), ({"num_train_steps": 0}, "--num_train_steps=0"),
    ({"max_eval_steps": 0}, "--max_eval_steps=0"), ({"num_warmup_steps": -1}, "num_warmup_steps"),
    ({"do_train": False, "do_eval": False}, "nothing to do: give --do_train or --do_eval$"),
    ({"bert_dir": None}, "--vocab_file is missing"),
    ({"bert_dir": None, "bert_config_file": "TINY/bert_config.json"},
     "--init_checkpoint is missing.*--tuning=full"),
    ({"do_train": False, "bert_dir": None, "bert_config_file": "TINY/bert_config.json",
      "tuning": "full"}, "no checkpoint")])
def test_bad_flags(tmp_path, data, tiny_dir, flags, message):
    flags = {name: value.replace("TINY", tiny_dir) if isinstance(value, str) else value
             for name, value in flags.items()}
    with pytest.raises(InputError, match=message):
        go(**{**data, "bert_dir": tiny_dir, "output_dir": str(tmp_path), "do_train": True,
              "do_eval": True, **flags})
    assert not re.search("model.ckpt-[1-9]", " ".join(os.listdir(tmp_path)))


def test_flags_are_berts_with_its_defaults():
    from adapter_bert.train.pretraining_run import Settings
    settings = Settings()
    assert {name: getattr(settings, name) for name in (
        "max_seq_length", "max_predictions_per_seq", "train_batch_size", "eval_batch_size",
        "learning_rate", "num_train_steps", "num_warmup_steps", "save_checkpoints_steps",
        "iterations_per_loop", "max_eval_steps", "num_tpu_cores")} == {
        "max_seq_length": 128, "max_predictions_per_seq": 20, "train_batch_size": 32,
        "eval_batch_size": 8, "learning_rate": 5e-5, "num_train_steps": 100000,
        "num_warmup_steps": 10000, "save_checkpoints_steps": 1000, "iterations_per_loop": 1000,
        "max_eval_steps": 100, "num_tpu_cores": 8}
