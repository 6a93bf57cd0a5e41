"""Predictions from a base and a pack alone."""
import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY_VOCAB
from packs import tiny_pack

import adapter_bert
from adapter_bert import network
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest, store
from adapter_bert.packs.bases import base_of

TEXTS = ["The FILM was GOOD", "a dull story ! " * 30, "", "Éa 你好 🙂 very bad",
         ("the plot", "it was fine")]


@pytest.fixture(name="on", scope="module")
def fixture_on(tiny_dir):
    """The manifest.Base of the tiny BERT."""
    return base_of(tiny_dir)


def test_as_plain_tensorflow_computes_it(tiny_dir, on):
    """The probabilities are those of the graph with base and pack fed by hand."""
    pack = tiny_pack(base=on)
    with adapter_bert.load(tiny_dir, pack, precision="float32", kernels="plain") as task:
        found = task.predict(["the film was good"])[0]
    words = ["[CLS]", "the", "film", "was", "good", "[SEP]"]
    ids = [[TINY_VOCAB.index(word) for word in words]]
    output, variables = network.towers(pack.manifest.model(), {
        "input_ids": tf.constant(ids), "input_mask": tf.ones([1, 6], tf.int32),
        "segment_ids": tf.zeros([1, 6], tf.int32)}, 1, False, network.modeling.plain_formulas())
    checkpoint = checkpoint_io.Checkpoint(f"{tiny_dir}/bert_model.ckpt")
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        network.load(session, [(variables[name], pack.weights.get(name, checkpoint.get(name)))
                               for name in variables])
        wanted = session.run(output.predictions["probabilities"])[0]
    assert np.allclose(list(found.probabilities.values()), wanted, atol=1e-6)
    assert found.label == pack.manifest.labels[wanted.argmax()]


def test_order_batches_and_lengths_do_not_matter(tiny_dir, on):
    with adapter_bert.load(tiny_dir, tiny_pack(base=on, pair=None), precision="float32") as task:
        alone = [task.predict([text])[0].probabilities["1"] for text in TEXTS]
        together = [row.probabilities["1"] for row in task.predict(TEXTS * 20)]
        assert np.allclose(together, alone * 20, atol=1e-6)
        assert np.ptp(alone) > 0.01
        assert task.predict([]) == []


def test_scores_of_a_regression(tiny_dir, on):
    pack = tiny_pack(base=on, head="regression", labels=(), pair=None)
    with adapter_bert.load(tiny_dir, pack) as task:
        assert all(isinstance(score, float) for score in task.predict(TEXTS))


def test_one_session_takes_pack_after_pack(tiny_dir, on, tmp_path):
    first, second = (str(tmp_path / f"{seed}.zip") for seed in range(2))
    for seed, path in enumerate((first, second)):
        store.write(path, tiny_pack(seed, base=on, do_lower_case=not seed, pair=None,
                                    max_seq_length=(9, 16)[seed], labels=(("0", "1"), ("x", "y"))[
                                        seed]))
    alone = {}
    for path in (first, second):
        with adapter_bert.load(tiny_dir, path) as task:
            alone[path] = task.predict(TEXTS)
    assert alone[first] != alone[second]
    with adapter_bert.load(tiny_dir, first) as task:
        for path in (second, first, second):
            task.use(path)
            assert task.predict(TEXTS) == alone[path]


def test_pairs_and_single_texts(tiny_dir, on):
    with adapter_bert.load(tiny_dir, tiny_pack(base=on)) as task, pytest.raises(
            InputError, match="for single texts, not for pairs"):
        task.predict(["a", ("a", "b")])
    with adapter_bert.load(tiny_dir, tiny_pack(base=on, pair=True)) as task, pytest.raises(
            InputError, match="for pairs of texts, not for single"):
        task.predict(["a"])


def test_packs_in_memory_are_checked_too(tiny_dir, on):
    for change in ("missing", "nan"):
        pack = tiny_pack(base=on)
        if change == "missing":
            del pack.weights["output_bias"]
        else:
            pack.weights["output_bias"][0] = np.nan
        with pytest.raises(InputError, match="output_bias"):
            adapter_bert.load(tiny_dir, pack)
    for options in ({"precision": "float16"}, {"kernels": "fast"}):
        with pytest.raises(InputError, match="not one of"):
            adapter_bert.load(tiny_dir, tiny_pack(base=on), **options)


def test_the_bases_name_does_not_count(tiny_dir, on):
    with adapter_bert.load(tiny_dir, tiny_pack(base=on)) as task:
        task.use(tiny_pack(base=dataclasses.replace(on, name="the same elsewhere")))


def test_another_form_of_pack_is_refused_and_nothing_changes(tiny_dir, on):
    with adapter_bert.load(tiny_dir, tiny_pack(base=on)) as task:
        before = task.predict(TEXTS[:4])
        with pytest.raises(InputError, match="another base, adapters or head"):
            task.use(tiny_pack(base=on, labels=("a", "b", "c")))
        assert task.predict(TEXTS[:4]) == before


def test_another_base_is_refused_with_both_names(tiny_dir, on):
    other = manifest.Base("minilm", "3" * 64, on.vocab, on.config)
    with pytest.raises(InputError, match="made on minilm.*uncased_L-2_H-16_A-2.*fingerprint"):
        adapter_bert.load(tiny_dir, tiny_pack(base=other))


@pytest.mark.parametrize("texts,message", [
    ("a text", r"predict\(\[text\]\)"), ([3], "text 0: 3"), (["a", ("b",)], "text 1"),
    ([b"bytes"], "text 0"), ([None], "text 0")])
def test_what_is_no_text(tiny_dir, on, texts, message):
    with adapter_bert.load(tiny_dir, tiny_pack(base=on)) as task, pytest.raises(
            InputError, match=message):
        task.predict(texts)
