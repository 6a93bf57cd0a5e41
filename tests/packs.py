"""Packs of the tiny BERT for tests."""
import numpy as np
from conftest import TINY

from adapter_bert.bert import adapters
from adapter_bert.packs import manifest, store


def tiny_pack(seed=0, base=None, **changes):
    """A store.Pack of random weights; `changes` are fields of its manifest."""
    values = {
        "task": "SST-2", "head": "classification", "labels": ("0", "1"), "pair": False,
        "tuning": "adapters", "adapter": adapters.AdapterConfig(size=4),
        "base": base or manifest.Base("tiny", "0" * 64, "1" * 64, TINY), "do_lower_case": True,
        "max_seq_length": 16, "metrics": {"eval_accuracy": 0.75},
        "data": {"train": {"examples": 96, "sha256": "2" * 64}}, "versions": {"python": "3"},
        "license": "MIT", "description": "Made sentences.", **changes}
    found = manifest.Manifest(**values)
    random = np.random.default_rng(seed)
    return store.Pack(found, {
        name: random.normal(float(name.endswith("gamma")), 0.2, shape).astype(np.float32)
        for name, shape in found.shapes().items()})
