"""Generated hostile packs: each is refused with one line, and none keeps a server from the others.

A generated manifest is a sound one in which values were replaced by hostile ones, with a checksum
that is right, so that nothing but the checks of its values stands in between.
"""
import copy
import hashlib
import itertools
import random

import pytest
from banks import FakeBank, serving
from packs import tiny_pack
from test_packs import META, SPANS

from adapter_bert.__main__ import main
from adapter_bert.bert import adapters
from adapter_bert.cli.pack import lines
from adapter_bert.errors import InputError
from adapter_bert.packs import hub, index, manifest, store
from adapter_bert.packs.bases import base_of

NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, -10**400, 1e308, 5e-324, 0.5, -0.0)
TEXTS = ("", "a" * 20_000, "\n", "\x1b[31m", "\u202e", "\ud800", "\0", "../..", "٣", "e\u0301" * 99)
OTHERS = (None, True, [], {}, [[]], [0], [2**63], ["0", "0"], {"": {}}, {"a": 1e300}, [None] * 3)
HOSTILE = (*NUMBERS, *TEXTS, *OTHERS)
QUICK, ALL = 1500, 10_000


def sound():
    """Values of sound manifests of several kinds."""
    lora = adapters.AdapterConfig(adapter_fn="lora", size=2, scale=2.0)
    packs = [tiny_pack(), tiny_pack(**SPANS), tiny_pack(**META),
             tiny_pack(adapter=lora, tuning="adapters_only"),
             tiny_pack(adapter=None, tuning="head", warning="learned nothing")]
    for pack in packs:
        written, content = store.to_bytes("p", pack, "float32")
        yield manifest.json.loads(written.manifest.to_bytes()), content


def places_of(values, place=()):
    """The path of every value in nested dicts and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*place, key)
        if isinstance(value, (dict, list)):
            yield from places_of(value, (*place, key))


def changed(values, place, value):
    """A copy of nested values in which one is another."""
    values = copy.deepcopy(values)
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return values


def hostile_manifests(count):
    """(bytes of a pack.json, bytes of the weights): first every value at every place, then more
    than one change at once."""
    packs = list(sound())
    source = random.Random(0)
    singles = [(values, content, place) for values, content in packs for place in places_of(values)
               if place != ("checksum",)]
    order = [(one, value) for one in singles for value in HOSTILE]
    source.shuffle(order)
    for (values, content, place), value in itertools.islice(order, count * 3 // 4):
        yield signed(changed(values, place, value)), content
    for _ in range(count - count * 3 // 4):
        values, content = source.choice(packs)
        for _ in range(source.randint(2, 4)):
            place = source.choice([one for one in places_of(values) if one != ("checksum",)])
            values = changed(values, place, source.choice(HOSTILE))
        yield signed(values), content


def signed(values):
    """The bytes of a pack.json with a right checksum; of what cannot be written, anything."""
    values = {name: value for name, value in values.items() if name != "checksum"}
    try:
        checksum = hashlib.sha256(manifest._dump(values)).hexdigest()
        return manifest._dump({**values, "checksum": checksum})
    except ValueError:
        return manifest.json.dumps(values).encode()


@pytest.mark.parametrize("count", [QUICK, pytest.param(ALL, marks=pytest.mark.long)])
def test_hostile_packs_are_refused_in_one_printable_line(tmp_path, count):
    path = str(tmp_path / "p.zip")
    refused = 0
    for text, content in hostile_manifests(count):
        with open(path, "wb") as file:
            file.write(store._zip(text, content))
        try:
            pack = store.read(path)
        except InputError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < 1000, str(error)
        else:
            assert pack.manifest.to_bytes() == text
            entry = hub._entry("p", pack.manifest, 100, "0" * 64)
            assert index.parse(index.to_bytes([entry]), "index") == [entry]
            for line in (*index.table([entry]), *lines(pack)):
                assert line.isprintable(), line
    assert refused > 0.7 * count


def test_a_hub_full_of_hostile_packs_lists_and_serves_the_good_ones(tmp_path, tiny_dir, caplog):
    on = base_of(tiny_dir)
    folder = tmp_path / "hub"
    folder.mkdir()
    for number, (text, content) in enumerate(itertools.islice(hostile_manifests(QUICK), 200)):
        (folder / f"bad{number}.zip").write_bytes(store._zip(text, content))
    for name in ("good1", "good2"):
        store.write(str(folder / f"{name}.zip"), tiny_pack(base=on, task=name))
    hub.make_index(str(folder))
    names = [entry.name for entry in hub.entries(str(folder))]
    assert {"good1", "good2"} < set(names) and len(names) < 60
    assert sum("left out" in record.getMessage() for record in caplog.records) == 202 - len(names)
    with serving(FakeBank(tiny_dir), hub=str(folder)) as client:
        _, listing = client.json("GET", "/v1/packs?limit=500")
        loaded = [row["name"] for row in listing["packs"] if row["loaded"]]
        assert loaded == ["good1", "good2"] and listing["total"] == len(names)
        assert client.json("POST", "/v1/models/good1:predict", {"instances": ["a"]})[0] == 200


def said(capsys, *words):
    """The lines that `adapter-bert pack` prints; its code is 0 or 1."""
    try:
        main(["pack", *words])
    except SystemExit as ended:
        assert ended.code in (None, 0, 1), words
    found = capsys.readouterr()
    return (found.out + found.err).splitlines()


def test_every_job_of_pack_bears_hostile_packs(tmp_path, tiny_dir, capsys):
    folder = tmp_path / "hub"
    folder.mkdir()
    for number, (text, content) in enumerate(itertools.islice(hostile_manifests(QUICK), 60)):
        (folder / f"bad{number}.zip").write_bytes(store._zip(text, content))
    store.write(str(folder / "good.zip"), tiny_pack(base=base_of(tiny_dir), task="good"))
    paths = sorted(map(str, folder.glob("*.zip")))
    verified = said(capsys, "verify", *paths)
    assert len(verified) >= len(paths) and f"OK: {folder}/good.zip" in verified
    outputs = [verified, said(capsys, "index", str(folder)), said(capsys, "list", str(folder)),
               said(capsys, "search", str(folder), "good")]
    assert any("good" in line for line in outputs[2])
    for path in paths:
        outputs.append(said(capsys, "show", path))
    for entry in hub.entries(str(folder)):
        outputs.append(said(capsys, "pull", str(folder), entry.name, str(tmp_path / entry.name)))
    assert (tmp_path / "good").exists()
    for lines_of_job in outputs:
        assert lines_of_job and all(line.isprintable() for line in lines_of_job), lines_of_job
        assert not any("Traceback" in line for line in lines_of_job)
