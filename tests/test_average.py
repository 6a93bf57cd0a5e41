"""Averages of packs, and packs of checkpoints."""
import dataclasses

import numpy as np
import pytest
from packs import tiny_pack

from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import from_checkpoint, manifest
from adapter_bert.packs.average import average

HEAD = ("output_weights", "output_bias")
ADAPTER, NORM = "bert/encoder/layer_1/output/adapters/biases2", "bert/embeddings/LayerNorm/gamma"


def test_mean_of_adapters_norms_and_head():
    packs = {str(seed): tiny_pack(seed) for seed in range(3)}
    found = average(packs, [1, 1, 2])
    for name in (ADAPTER, NORM, *HEAD):
        first, second, third = (pack.weights[name] for pack in packs.values())
        assert np.allclose(found.weights[name], (first + second + 2 * third) / 4, atol=1e-6)
    assert found.manifest.metrics == {} and found.manifest.labels == ("0", "1")
    assert found.weights.keys() == packs["0"].weights.keys()


def test_words_that_are_true_of_all():
    packs = {"a": tiny_pack(0, max_seq_length=9), "b": tiny_pack(1, pair=True, license="GPL-3.0")}
    found = average(packs).manifest
    assert (found.license, found.pair, found.max_seq_length) == ("", None, 16)
    assert found.description == "the average of 2 packs"


def test_the_pooler_is_of_the_head_where_it_trains():
    packs = {"a": tiny_pack(0, tuning="adapters_pooler"),
             "b": tiny_pack(1, tuning="adapters_pooler", task="CoLA")}
    found = average(packs, head_from="b").weights
    for name in ("bert/pooler/dense/kernel", "output_bias"):
        assert np.array_equal(found[name], packs["b"].weights[name])
    assert not np.array_equal(found[ADAPTER], packs["b"].weights[ADAPTER])


def test_one_pack_alone_counts():
    packs = {"a": tiny_pack(0), "b": tiny_pack(1)}
    found = average(packs, [0, 3])
    assert all(np.array_equal(found.weights[name], value)
               for name, value in packs["b"].weights.items())


def test_head_of_the_named_pack():
    packs = {"a": tiny_pack(0), "b": tiny_pack(1, task="CoLA", labels=("x", "y", "z"))}
    with pytest.raises(InputError, match="a and b: heads.*SST-2, CoLA.*--head_from"):
        average(packs)
    found = average(packs, head_from="b")
    assert found.manifest.task == "CoLA" and found.manifest.labels == ("x", "y", "z")
    assert all(np.array_equal(found.weights[name], packs["b"].weights[name]) for name in HEAD)
    mean = (packs["a"].weights[ADAPTER] + packs["b"].weights[ADAPTER]) / 2
    assert np.allclose(found.weights[ADAPTER], mean, atol=1e-6)


def test_heads_of_answers_that_are_found_in_other_ways():
    made = manifest.Spans(4, 6, 20, 30, None)
    packs = {name: tiny_pack(seed, head="spans", labels=(), pair=True, spans=spans)
             for seed, (name, spans) in enumerate({
                 "a": made, "same": made, "other": dataclasses.replace(
                     made, doc_stride=5, null_threshold=0.5)}.items())}
    assert average({name: packs[name] for name in ("a", "same")}).manifest.spans == made
    with pytest.raises(InputError, match="^a and other: answers found with another doc_stride and "
                                         "null_threshold; .*--head_from$"):
        average(packs)
    assert average(packs, head_from="other").manifest.spans == packs["other"].manifest.spans


@pytest.mark.parametrize("other,shares,message", [
    (tiny_pack(1, tuning="adapters_only"), None, "another tuning"),
    (tiny_pack(1, do_lower_case=False), None, "do_lower_case"),
    (tiny_pack(1), [1], "2 packs and 1 weights"), (tiny_pack(1), [1, -1], "add up"),
    (tiny_pack(1), [1, float("nan")], "numbers"), (tiny_pack(1), [1e308, 1e308], "numbers")])
def test_what_has_no_average(other, shares, message):
    with pytest.raises(InputError, match=message):
        average({"a": tiny_pack(0), "b": other}, shares)


@pytest.fixture(name="reference")
def fixture_reference(tiny_dir, tmp_path):
    """A checkpoint as the reference writes it, with slots, and the Base and weights it is of."""
    prefix = f"{tiny_dir}/bert_model.ckpt"
    original = checkpoint_io.Checkpoint(prefix)
    on = manifest.Base(
        "tiny", checkpoint_io.fingerprint(prefix), "1" * 64, tiny_pack().manifest.base.config
    )
    pack = tiny_pack(5, base=on)
    whole = {**dict(original), **pack.weights, "global_step": np.int64(573),
             **{f"{name}/adam_m": value for name, value in pack.weights.items()}}
    return str(tmp_path / "model.ckpt-573"), prefix, on, pack, whole


def convert(reference, **changes):
    checkpoint, prefix, on, _, whole = reference
    checkpoint_io.write_checkpoint(checkpoint, {**whole, **changes})
    return from_checkpoint.read(checkpoint, on, prefix, "MRPC", ("0", "1"), True, 16)


def test_a_checkpoint_of_the_reference_becomes_a_pack(reference):
    found = convert(reference)
    assert found.manifest.adapter.size == 4 and found.manifest.adapter.layers is None
    assert all(np.array_equal(found.weights[name], value)
               for name, value in reference[3].weights.items())
    assert found.weights.keys() == reference[3].weights.keys()


def test_a_checkpoint_that_trained_more_is_refused(reference):
    name = "bert/encoder/layer_0/intermediate/dense/kernel"
    with pytest.raises(InputError, match="intermediate/dense/kernel differ.*another base"):
        convert(reference, **{name: reference[4][name] + 1e-6})


def test_a_checkpoint_of_a_run_is_refused(reference):
    with pytest.raises(InputError, match="left a pack"):
        convert(reference, base_fingerprint=np.zeros(4, np.int64))


def test_a_checkpoint_without_its_base_is_refused(reference):
    reference[4].pop("bert/pooler/dense/bias")
    with pytest.raises(InputError, match="lacks bert/pooler/dense/bias"):
        convert(reference)


def test_a_checkpoint_of_other_labels_is_refused(reference):
    with pytest.raises(InputError, match="output_bias.*3"):
        convert(reference, output_bias=np.zeros(3, np.float32),
                output_weights=np.zeros([3, 16], np.float32))
