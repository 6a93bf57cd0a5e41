"""Many tasks in one graph: each row's answer is that of its own task alone."""
import contextlib
import dataclasses
import json
import threading
import time

import numpy as np
import pytest
from packs import tiny_pack

import adapter_bert
from adapter_bert.bert.adapters import AdapterConfig
from adapter_bert.errors import InputError
from adapter_bert.packs import hub, store
from adapter_bert.packs.answers import ANSWERS
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import Spans
from adapter_bert.serve.engine import Bank, InOrder
from adapter_bert.serve.registry import Catalogue

TEXTS = ["the film was good", "not a dull story ! " * 9, ""]
# Everything in which packs of one base may differ.
KINDS = [
    {}, {"labels": ("a", "b", "c")}, {"head": "regression", "labels": ()},
    {"tuning": "adapters_only", "adapter": AdapterConfig(size=2, placement="feed_forward")},
    {"adapter": AdapterConfig(size=3, layers=(1,))}, {"tuning": "head", "adapter": None},
    {"tuning": "layer_norm", "adapter": None}, {"tuning": "adapters_pooler"},
    {"tuning": "adapters_norms_pooler"},
    {"adapter": AdapterConfig(size=4, activation="relu", original_ln_before=True)},
    {"adapter": AdapterConfig(size=4, activation="gelu_erf", residual_before_ln=False,
                              original_ln_before=True, placement="feed_forward")}]
EXACT = {"precision": "float32", "kernels": "plain"}


@pytest.fixture(name="on", scope="module")
def fixture_on(tiny_dir):
    """The manifest.Base of the tiny BERT."""
    return base_of(tiny_dir)


def rows_of(bank, name, texts=TEXTS):
    """The rows of texts, one each."""
    part, = bank.encode(name, texts)
    return part.rows


def predicted(bank, rows):
    """[probabilities float array [C], or [1] the score, of each row]."""
    return [np.atleast_1d(next(iter(one.values()))) for one in bank.predict(rows)]


def answers(bank, names, texts=TEXTS):
    """{name: float array [texts, C]} of one call for all names."""
    rows = [row for name in names for row in rows_of(bank, name, texts)]
    found = predicted(bank, rows)
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
    slot_of = rows_of(bank, "t0", ["a"])[0].task.lane._slot_of
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
    waiting = rows_of(bank, "t1")
    bank.add("t1", packs[5])          # replaced while a row of it waits
    assert largest(np.stack(predicted(bank, waiting)), wanted[1]) <= 1e-6
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


# Windows of 16 pieces, of which a context of some words makes many.
TOKEN_KINDS = {
    "names": {"head": "tokens", "labels": ("O", "B-PER", "I-PER", "B-LOC")},
    "parts": {"head": "tokens", "labels": ("NOUN", "VERB"), "max_seq_length": 9,
              "tuning": "adapters_only", "adapter": AdapterConfig(size=2)},
    "answers": {"head": "spans", "labels": (), "spans": Spans(5, 3, 20, 6, None)},
    "perhaps": {"head": "spans", "labels": (), "spans": Spans(5, 3, 20, 6, -0.8),
                "tuning": "layer_norm", "adapter": None},
    "class": {}}
ASKED = {"tokens": [*TEXTS, "\u00c9a \u4f60\u597d \U0001f642 caf\u00e9s"],
         "spans": [("film", "the film was good"), ("the story ?", "not a dull story ! " * 9),
                   ("", "\u00c9a \u4f60\u597d \U0001f642 caf\u00e9s"), ("a film", "good " * 40)],
         "classification": TEXTS}


def said(bank, names, kinds):
    """{name: answers to ASKED}, of one call for all names."""
    parts = {name: bank.encode(name, ASKED[kinds[name].get("head", "classification")])
             for name in names}
    rows = [row for of_name in parts.values() for part in of_name for row in part.rows]
    found = iter(bank.predict(rows))
    return {name: [one for part in of_name for one in ANSWERS[bank.manifest(name).head].answers(
        bank.manifest(name), part.asked, [next(found) for _ in part.rows])]
            for name, of_name in parts.items()}


def alike(found, wanted):
    """Whether answers are equal, numbers of them nearly."""
    if isinstance(wanted, float):
        return abs(found - wanted) <= 1e-5
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(map(alike, found.values(), wanted.values()))
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return found == wanted


@pytest.fixture(name="of_tokens", scope="module")
def fixture_of_tokens(tiny_dir, on):
    """{name: pack} of TOKEN_KINDS, and {name: what each says of ASKED alone}."""
    packs = {name: tiny_pack(seed, base=on, **kind)
             for seed, (name, kind) in enumerate(TOKEN_KINDS.items())}
    wanted = {}
    for name, pack in packs.items():
        with adapter_bert.load(tiny_dir, pack, **EXACT) as task:
            wanted[name] = task.predict(ASKED[pack.manifest.head])
    return packs, wanted


@pytest.mark.parametrize("slots,kernels", [(2, "plain"), (40, "fused")])
def test_names_and_answers_beside_classes(tiny_dir, of_tokens, slots, kernels):
    """Rows of all in one call, and again with one gone and one in the place of another."""
    packs, wanted = of_tokens
    bank = Bank(tiny_dir, slots, "float32", kernels, max_adapter_size=5, max_labels=4)
    for name, pack in packs.items():
        bank.add(name, pack)
    found = said(bank, list(packs), TOKEN_KINDS)
    for name in packs:
        assert alike(found[name], wanted[name]), name
    assert sum(map(len, found["names"])) > 10 and {one.text for one in found["perhaps"]} > {""}
    assert len({row.task.lane for name in packs for row in bank.encode(
        name, ASKED[packs[name].manifest.head])[0].rows}) == 2   # those of tokens, the others
    bank.remove("answers")
    bank.add("names", packs["perhaps"])
    found = said(bank, ["names", "class"], {"names": {"head": "spans"}, "class": {}})
    assert alike(found, {"names": wanted["perhaps"], "class": wanted["class"]})
    assert not alike(found["names"], wanted["answers"])


def test_no_room_for_a_start_and_an_end(tiny_dir, on):
    bank = Bank(tiny_dir, 2, **EXACT, max_labels=1)
    with pytest.raises(InputError, match="2 labels, and there is room for 64 and 1"):
        bank.add("answers", tiny_pack(base=on, **TOKEN_KINDS["answers"]))


def test_a_pack_that_is_too_large_is_left_out_of_a_server(tiny_dir, tmp_path, caplog):
    """With more labels or wider adapters than the server has room for; the others are served."""
    on = base_of(tiny_dir)
    sizes = {"fits": {}, "labels": {"labels": tuple(map(str, range(17)))},
             "wide": {"adapter": AdapterConfig(size=65)}}
    for name, changes in sizes.items():
        store.write(str(tmp_path / f"{name}.zip"), tiny_pack(base=on, **changes))
    hub.make_index(str(tmp_path))
    with contextlib.closing(Bank(tiny_dir, slots=2, kernels="plain")) as bank:
        packs = Catalogue(bank, lambda change: change(), str(tmp_path), None, "adapter-bert")
        packs.start([])
        assert packs.names() == ["fits"]
        lines = [record.getMessage() for record in caplog.records]
        for name in ("labels", "wide"):
            (line,) = [line for line in lines if line.startswith(f"not loaded: {name}: ")]
            assert "start with a higher --max_adapter_size or --max_labels" in line
        with pytest.raises(InputError, match="17 labels.*--max_labels"):
            packs.start(["labels"])


@pytest.mark.parametrize("kernels", ["plain", "fused"])
@pytest.mark.parametrize("method", ["lora", "parallel_adapter"])
def test_packs_of_other_scales_share_a_graph(tiny_dir, on, kernels, method):
    packs = {f"task{scale}": tiny_pack(3, base=on, tuning="adapters_only", adapter=AdapterConfig(
        size=2, adapter_fn=method, scale=scale)) for scale in (0.5, 1.0, 4.0)}
    with contextlib.closing(Bank(tiny_dir, 4, "float32", kernels, max_adapter_size=4)) as bank:
        for name, pack in packs.items():
            bank.add(name, pack)
        found = answers(bank, packs)
        assert len(bank._lanes) == 1
    for name, pack in packs.items():
        assert largest(found[name], alone(tiny_dir, pack)) < 1e-5
    assert largest(found["task0.5"], found["task4.0"]) > 1e-3


@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_slots_of_a_kind_that_is_gone_are_freed(tiny_dir, on, kernels):
    packs = [tiny_pack(seed, base=on, **KINDS[kind]) for seed, kind in enumerate((0, 9))]
    with contextlib.closing(Bank(tiny_dir, 4, "float32", kernels, max_adapter_size=4)) as bank:
        bank.add("a", packs[0])
        bank.add("b", packs[1])
        before = answers(bank, ["a", "b"])
        rows = rows_of(bank, "b")
        bank.remove("b")
        assert [numbers_in(bank, lane) > 0 for lane in bank._lanes.values()] == [True, False]
        assert largest(np.stack(predicted(bank, rows)), before["b"]) == 0   # still answered
        assert [numbers_in(bank, lane) > 0 for lane in bank._lanes.values()] == [True, False]
        assert largest(answers(bank, ["a"])["a"], before["a"]) == 0
        bank.add("b", packs[1])
        bank.add("a", packs[1])
        assert largest(answers(bank, ["b"])["b"], before["b"]) == 0
        assert [numbers_in(bank, lane) > 0 for lane in bank._lanes.values()] == [False, True]


def numbers_in(bank, lane):
    """How many numbers the slots of a lane hold."""
    return sum(values.size for values in bank._session.run(list(lane.slots.stacks.values())))


def test_the_count_of_graphs_is_bounded(tiny_dir, on):
    with contextlib.closing(Bank(tiny_dir, 2, max_adapter_size=4, max_graphs=1, **EXACT)) as bank:
        bank.add("a", tiny_pack(base=on))
        with pytest.raises(InputError, match="there are 1 graphs already.*--max_graphs"):
            bank.add("b", tiny_pack(base=on, **KINDS[9]))
        assert bank.names() == ["a"]


def test_a_pack_that_is_too_large_is_refused_before_its_weights_are_read(tiny_dir, on, tmp_path,
                                                                         monkeypatch):
    store.write(str(tmp_path / "wide.zip"), tiny_pack(base=on, adapter=AdapterConfig(size=8)))
    monkeypatch.setattr(store, "_weights", None)   # nobody gets so far
    with contextlib.closing(Bank(tiny_dir, 2, max_adapter_size=4, **EXACT)) as bank:
        packs = Catalogue(bank, lambda change: change(), None, None, "all")
        with pytest.raises(InputError, match="start with a higher --max_adapter_size"):
            packs.add("wide", str(tmp_path / "wide.zip"))
        packs = Catalogue(bank, lambda change: change(), None, None, "all", 100)
        with pytest.raises(InputError, match="--max_pack_bytes allows 100"):
            packs.add("wide", str(tmp_path / "wide.zip"))


def test_one_pack_that_makes_the_program_fail_keeps_no_other_from_being_served(
        tiny_dir, on, tmp_path, monkeypatch, caplog):
    for name in ("bad", "good"):
        store.write(str(tmp_path / f"{name}.zip"), tiny_pack(base=on, task=name))
        hub.push(str(tmp_path / f"{name}.zip"), str(tmp_path / "hub"), name)
    read = store.read

    def fails(path, accept):
        if path.endswith("bad.zip"):
            raise OverflowError("int too large\nforged line")
        return read(path, accept)
    monkeypatch.setattr(store, "read", fails)
    with contextlib.closing(Bank(tiny_dir, 2, max_adapter_size=4, **EXACT)) as bank:
        packs = Catalogue(bank, lambda change: change(), str(tmp_path / "hub"), None, "all")
        packs.start(())
        assert packs.names() == ["good"]
    assert "not loaded: bad: OverflowError while loading it" in caplog.text


def test_a_large_index_is_listed_in_bounds_and_prepared_once(tiny_dir, on, tmp_path, monkeypatch):
    store.write(str(tmp_path / "p.zip"), tiny_pack(base=on))
    hub.push(str(tmp_path / "p.zip"), str(tmp_path / "hub"), "p")
    entry, = hub.entries(str(tmp_path / "hub"))
    many = [dataclasses.replace(entry, name=f"n{number:05}", description="y" * 9000, labels=tuple(
        f"{label}{'x' * 900}" for label in range(120))) for number in range(60)]
    many += [dataclasses.replace(entry, name=f"z{number:05}") for number in range(20_000)]
    calls = []
    monkeypatch.setattr(hub, "entries", lambda place: calls.append(place) or many)
    with contextlib.closing(Bank(tiny_dir, 2, max_adapter_size=4, **EXACT)) as bank:
        packs = Catalogue(bank, lambda change: change(), str(tmp_path / "hub"), None, "all")
        packs._read_hub()
        listing = packs.listing(limit=60)
        assert (listing["total"], len(listing["packs"]), len(calls)) == (20_060, 60, 1)
        row = listing["packs"][0]
        assert (row["label_count"], len(row["labels"]), len(row["description"])) == (120, 100, 500)
        assert len(json.dumps(listing)) < 60 * 60_000
        assert packs.listing(["Z00007"] * 100)["total"] == 1
        start = time.process_time()
        for _ in range(20):
            packs.listing(["none", "of", "these"])
        assert time.process_time() - start < 20   # 0.1 s here; 20 s as it was


def test_the_tokenizer_s_lock_is_given_in_order():
    lock, order, taken = InOrder(), [], threading.Event()

    def hold(name, count):
        for _ in range(count):
            with lock:
                order.append(name)
                taken.set()
                time.sleep(0.02)
    first = threading.Thread(target=hold, args=("first", 20))
    first.start()
    taken.wait()
    second = threading.Thread(target=hold, args=("second", 1))
    second.start()
    for thread in (first, second):
        thread.join()
    assert order.index("second") < 10 and len(order) == 21
