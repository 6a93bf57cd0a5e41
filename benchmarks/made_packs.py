"""Packs with random weights for measurements, and hubs of them."""
import os

import numpy as np

from adapter_bert.bert import adapters
from adapter_bert.packs import hub, manifest, store

WIDTH = 64


def pack(base, number):
    """A Pack of the task task-NUMBER on a manifest.Base, with adapters of width 64."""
    found = manifest.Manifest(
        task=f"task-{number}", head="classification", labels=("negative", "positive"), pair=False,
        tuning="adapters", adapter=adapters.AdapterConfig(size=WIDTH), base=base,
        do_lower_case=True, max_seq_length=min(128, base.config.max_position_embeddings),
        metrics={"accuracy": 0.9}, data={}, versions={}, description="Whether a film is liked.")
    random = np.random.default_rng(number)
    return store.Pack(found, {name: random.normal(
        float(name.endswith("gamma")), 0.02, shape).astype(np.float32)
        for name, shape in found.shapes().items()})


def fill(folder, base, count, dtype="float32"):
    """A hub in `folder` with packs named as their tasks, task-0, task-1, ...; its path."""
    path, place = os.path.join(folder, "one.zip"), os.path.join(folder, "hub")
    for number in range(count):
        store.write(path, pack(base, number), dtype)
        hub.push(path, place, f"task-{number}")
    return place
