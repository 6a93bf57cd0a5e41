"""Whether a base's pooler was trained, by its weights and by what it gives for texts."""
import numpy as np
import pytest
from conftest import TINY
from runs import values

from adapter_bert.bert import checkpoint_io, tokenization
from adapter_bert.data import features, records
from adapter_bert.kinds import Example
from adapter_bert.train import pooler
from adapter_bert.train.split_records import Split

KERNEL, BIAS = "bert/pooler/dense/kernel", "bert/pooler/dense/bias"


@pytest.fixture(name="split")
def fixture_split(tiny_dir, tmp_path):
    tokenizer = tokenization.FullTokenizer(f"{tiny_dir}/vocab.txt", True)
    examples = [Example("a good film", None, "0"), Example("a very dull plot", None, "1")]
    spec = features.feature_spec("classification", True)
    path = str(tmp_path / "train.tf_record")
    records.write_once(path, lambda start, stop: features.featurize(
        examples[start:stop], tokenizer, 16, {"0": 0, "1": 1}, start), 2, spec, "x")
    return Split("train", path, 2, 10, spec, True, None, "x")


def changed(tiny_dir, folder, **changes):
    """A copy of the tiny base with other values of its pooler."""
    weights = values(f"{tiny_dir}/bert_model.ckpt")
    prefix = str(folder / "changed.ckpt")
    checkpoint_io.write_checkpoint(prefix, {**weights, **{
        name: change(weights[name]) for name, change in changes.items()}})
    return prefix


def test_large_outputs_are_those_of_a_trained_pooler(tiny_dir, tmp_path, split):
    prefix = changed(tiny_dir, tmp_path, **{KERNEL: lambda kernel: kernel * 20})
    assert pooler.pooled_size(prefix, TINY, split) > 0.7
    assert pooler.is_trained(prefix, TINY, split)


def test_small_outputs_are_not(tiny_dir, tmp_path, split):
    prefix = changed(tiny_dir, tmp_path, **{KERNEL: lambda kernel: kernel * 0.01,
                                            BIAS: lambda bias: bias * 0 + 1e-3})
    assert pooler.pooled_size(prefix, TINY, split) < 0.1
    assert not pooler.is_trained(prefix, TINY, split)


def test_a_bias_of_zeros_decides_without_a_text(tiny_dir, tmp_path):
    prefix = changed(tiny_dir, tmp_path, **{KERNEL: lambda kernel: kernel * 20,
                                            BIAS: np.zeros_like})
    assert not pooler.is_trained(prefix, TINY, None)


def test_no_base_and_no_pooler_are_untrained(tiny_dir, tmp_path):
    weights = values(f"{tiny_dir}/bert_model.ckpt")
    prefix = str(tmp_path / "bare.ckpt")
    checkpoint_io.write_checkpoint(prefix, {name: value for name, value in weights.items()
                                   if "/pooler/" not in name})
    assert not pooler.is_trained(prefix, TINY, None)
    assert not pooler.is_trained(None, TINY, None)


def test_the_demo_base_has_an_untrained_pooler(minilm_dir):
    assert not pooler.is_trained(f"{minilm_dir}/bert_model.ckpt", None, None)
