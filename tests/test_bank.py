"""Many tasks in one graph: each row's answer is that of its own task alone."""
import dataclasses

import numpy as np
import pytest
from packs import tiny_pack

import adapter_bert
from adapter_bert.errors import InputError
from adapter_bert.packs.bases import base_of
from adapter_bert.serving.bank import Bank
from adapter_bert.tasks import Example
from adapter_layers import AdapterConfig

TEXTS = ["the film was good", "not a dull story ! " * 9, ""]
# Everything in which packs of one base may differ.
KINDS = [
    {}, {"labels": ("a", "b", "c")}, {"head": "regression", "labels": ()},
    {"tuning": "adapters_only", "adapter": AdapterConfig(size=2, placement="feed_forward")},
    {"adapter": AdapterConfig(size=3, layers=(1,))}, {"tuning": "head", "adapter": None},
    {"tuning": "layer_norm", "adapter": None}, {"tuning": "adapters_pooler"},
    {"adapter": AdapterConfig(size=4, activation="relu", original_ln_before=True)},
    {"adapter": AdapterConfig(size=4, activation="gelu_erf", residual_before_ln=False,
                              original_ln_before=True, placement="feed_forward")}]
EXACT = {"precision": "float32", "kernels": "plain"}


@pytest.fixture(name="on", scope="module")
def fixture_on(tiny_dir):
    """The manifest.Base of the tiny BERT."""
    return base_of(tiny_dir)


def answers(bank, names, texts=TEXTS):
    """{name: float array [texts, C]} of one call for all names."""
    rows = [row for name in names for row in bank.encode(
        name, [Example(text, None, None) for text in texts])]
    found = bank.predict(rows)
    return {name: np.stack(found[start:start + len(texts)])
            for name, start in zip(names, range(0, len(rows), len(texts)), strict=True)}


def alone(tiny_dir, pack, texts=TEXTS):
    """The same of adapter_bert.load."""
    with adapter_bert.load(tiny_dir, pack, **EXACT) as task:
        return np.array([[row] if isinstance(row, float) else list(row.probabilities.values())
                         for row in task.predict(texts)])


@pytest.fixture(name="every_kind", scope="module")
def fixture_every_kind(tiny_dir, on):
    """{name: (pack, its answers alone)} of every kind of pack."""
    packs = {f"task{seed}": tiny_pack(seed, base=on, **kind) for seed, kind in enumerate(KINDS)}
    return {name: (pack, alone(tiny_dir, pack)) for name, pack in packs.items()}


def largest(found, wanted):
    assert found.shape == wanted.shape
    return np.abs(found - wanted).max()


@pytest.mark.parametrize("slots", [2, 5, 40])
@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_every_kind_of_pack_in_one_batch(tiny_dir, every_kind, slots, kernels, record_property):
    bank = Bank(tiny_dir, slots, "float32", kernels, max_adapter_size=5, max_labels=4)
    for name, (pack, _) in every_kind.items():
        bank.add(name, pack)
    found = answers(bank, list(every_kind))
    worst = max(largest(found[name], wanted) for name, (_, wanted) in every_kind.items())
    record_property("largest difference", float(worst))
    assert worst <= 1e-5
    assert bank.names() == sorted(every_kind)


def test_a_hundred_tasks_in_a_batch(tiny_dir, on, record_property):
    bank = Bank(tiny_dir, 100, **EXACT)
    packs = {f"t{seed}": tiny_pack(seed, base=on) for seed in range(100)}
    for name, pack in packs.items():
        bank.add(name, pack)
    found = answers(bank, list(packs), TEXTS[:1])
    with adapter_bert.load(tiny_dir, packs["t0"], **EXACT) as task:
        worst = 0.0
        for name, pack in packs.items():
            task.use(pack)
            wanted = list(task.predict(TEXTS[:1])[0].probabilities.values())
            worst = max(worst, largest(found[name][0], np.array(wanted)))
    record_property("largest difference", float(worst))
    assert worst <= 1e-5
    assert np.ptp([row[0, 0] for row in found.values()]) > 0.1   # tasks answer differently


def test_wrong_slots_would_be_seen(tiny_dir, on):
    """The negative control: rows that are told others' slots get other answers."""
    bank = Bank(tiny_dir, 4, **EXACT)
    packs = {f"t{seed}": tiny_pack(seed, base=on) for seed in range(2)}
    for name, pack in packs.items():
        bank.add(name, pack)
    before = answers(bank, ["t0", "t1"])
    slot_of = bank.encode("t0", [Example("a", None, None)])[0].task.lane._slot_of
    first, second = list(slot_of)
    slot_of[first], slot_of[second] = slot_of[second], slot_of[first]
    after = answers(bank, ["t0", "t1"])
    assert largest(after["t0"], before["t1"]) <= 1e-6
    assert largest(after["t0"], before["t0"]) > 1e-3


def test_packs_come_go_and_are_replaced(tiny_dir, on):
    bank = Bank(tiny_dir, 3, **EXACT)
    packs = [tiny_pack(seed, base=on) for seed in range(6)]
    wanted = [alone(tiny_dir, pack) for pack in packs]
    for seed in range(5):
        bank.add(f"t{seed}", packs[seed])
    waiting = bank.encode("t1", [Example(text, None, None) for text in TEXTS])
    bank.add("t1", packs[5])          # replaced while a row of it waits
    assert largest(np.stack(bank.predict(waiting)), wanted[1]) <= 1e-6
    assert largest(answers(bank, ["t1"])["t1"], wanted[5]) <= 1e-6
    bank.remove("t2")
    with pytest.raises(KeyError):
        bank.encode("t2", [])
    with pytest.raises(KeyError):
        bank.remove("t2")
    assert bank.names() == ["t0", "t1", "t3", "t4"]
    for _ in range(3):
        for name, number in (("t0", 0), ("t1", 5), ("t3", 3), ("t4", 4)):
            assert largest(answers(bank, [name])[name], wanted[number]) <= 1e-6
    lane = waiting[0].task.lane
    assert len(lane._slot_of) + len(lane._free) == 3   # no slot is lost


def test_what_is_not_served_together(tiny_dir, on):
    bank = Bank(tiny_dir, 2, **EXACT, max_adapter_size=4, max_labels=2)
    for pack, message in (
            (tiny_pack(base=on, adapter=AdapterConfig(size=5)), "--max_adapter_size"),
            (tiny_pack(base=on, labels=("a", "b", "c")), "--max_labels"),
            (tiny_pack(base=on, tuning="bias", adapter=None), "bias"),
            (tiny_pack(base=dataclasses.replace(on, name="other", fingerprint="4" * 64)),
             "made on other")):
        with pytest.raises(InputError, match=message):
            bank.add("task", pack)
    assert bank.names() == []
