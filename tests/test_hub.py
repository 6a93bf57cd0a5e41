"""Hubs: what is pulled is what was pushed, or nothing is there; no index leads outside its hub."""
import copy
import fcntl
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc

import hubs
import pytest
from hubs import HASH, content_of, files_in, hub_of, pack, serving, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_bert.errors import InputError
from adapter_bert.packs import hub, hub_sources, index, store

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(name="no_pauses", autouse=True)
def fixture_no_pauses(monkeypatch):
    monkeypatch.setattr(hub_sources, "PAUSES", (0, 0, 0, 0))
    monkeypatch.setattr(hub_sources, "BLOCK", 512)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
    """A hub with packs p0 and p1."""
    return hub_of(tmp_path)


@pytest.fixture(name="server")
def fixture_server(folder):
    with serving(folder) as server:
        yield server


@pytest.fixture(name="out")
def fixture_out(tmp_path):
    """A folder for what is pulled; nothing else is in it."""
    (tmp_path / "out").mkdir()
    return str(tmp_path / "out")


def refused(words, function, *args, **kwargs):
    with pytest.raises(InputError, match=words) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)


# Folders


def test_push_list_and_pull_a_file(folder, out):
    assert [entry.name for entry in hub.entries(folder)] == ["p0", "p1"]
    assert hub.pull(folder, "p1", f"{out}/mine.zip")
    assert files_in(out) == {f"{out}/mine.zip": content_of(folder, "p1.zip")}
    assert not hub.pull(folder, "p1", f"{out}/mine.zip")


def test_pull_a_folder(folder, out):
    assert hub.pull(folder, "p1", f"{out}/mine/")
    there, wanted = store.read(f"{out}/mine"), pack(1)
    assert all((there.weights[name] == wanted.weights[name]).all() for name in wanted.weights)
    assert os.listdir(out) == ["mine"]
    assert not hub.pull(folder, "p1", f"{out}/mine")


def test_a_bfloat16_pack_goes_through_a_folder_unchanged(tmp_path, out):
    store.write(f"{tmp_path}/mine", pack(), "bfloat16")
    hub.push(f"{tmp_path}/mine", f"{tmp_path}/hub", "half")
    hub.pull(f"{tmp_path}/hub", "half", f"{out}/half")
    hub.push(f"{out}/half", f"{tmp_path}/other", "half")
    assert hub.entries(f"{tmp_path}/hub") == hub.entries(f"{tmp_path}/other")


def test_an_entry_says_what_the_pack_is(folder):
    entry = hub.entries(folder)[1]
    assert (entry.task, entry.labels, entry.metrics) == (
        "SST-2", ("negative", "positive"), {"accuracy": 0.51})
    assert entry.adapter == {"size": 4, "placement": "both"}
    assert entry.parameters == sum(value.size for value in pack().weights.values())
    assert (entry.base_name, entry.base_fingerprint) == ("tiny", HASH)
    assert entry.bytes == len(content_of(folder, "p1.zip"))


@pytest.mark.parametrize("destination", ["mine.zip", "mine"])
def test_what_lies_at_the_destination_stays(folder, out, destination):
    store.write(f"{out}/{destination}", pack(9))
    before = files_in(out)
    refused("another pack is there", hub.pull, folder, "p0", f"{out}/{destination}")
    assert files_in(out) == before


def test_other_things_at_the_destination_stay(folder, out):
    os.symlink(f"{folder}/p0.zip", f"{out}/link.zip")
    os.makedirs(f"{out}/full")
    with open(f"{out}/full/letter", "w") as file:
        file.write("dear")
    before = files_in(out)
    for name in ("link.zip", "full"):
        refused("in the way", hub.pull, folder, "p0", f"{out}/{name}")
    assert files_in(out) == before and os.path.islink(f"{out}/link.zip")


def test_the_same_push_twice_is_none(folder, tmp_path):
    before = files_in(folder)
    assert not hub.push(f"{tmp_path}/made/p0.zip", folder, "p0")
    assert not hub.push(f"{tmp_path}/made/p0.zip", folder, "p0", overwrite=True)
    assert files_in(folder) == before


def test_another_pack_of_a_name_needs_overwrite(folder, tmp_path, out):
    before = files_in(folder)
    refused("another pack has this name", hub.push, f"{tmp_path}/made/p1.zip", folder, "p0")
    assert files_in(folder) == before
    assert hub.push(f"{tmp_path}/made/p1.zip", folder, "p0", overwrite=True)
    assert [entry.metrics["accuracy"] for entry in hub.entries(folder)] == [0.51, 0.51]
    assert hub.pull(folder, "p0", f"{out}/p0.zip")


def test_an_index_made_anew_is_the_one_of_pushing(folder, caplog):
    before = content_of(folder, "index.json")
    os.remove(f"{folder}/index.json")
    refused("pack index", hub.entries, folder)
    assert len(hub.make_index(folder)) == 2
    assert content_of(folder, "index.json") == before and not caplog.records


def test_the_index_leaves_out_what_cannot_be_trusted(folder, caplog):
    content = content_of(folder, "p0.zip")
    for name, text in (("cut.zip", content[:-1]), ("a b.zip", content), ("text.zip", b"hello")):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(text)
    os.symlink(f"{folder}/p0.zip", f"{folder}/link.zip")
    os.makedirs(f"{folder}/folder.zip")
    with open(f"{folder}/index.json", "ab") as file:
        file.write(b" ")
    assert [entry.name for entry in hub.make_index(folder)] == ["p0", "p1"]
    assert len(caplog.records) == 6   # five packs and the index of before


def test_known_packs_are_not_opened_again(folder, monkeypatch):
    before = content_of(folder, "index.json")
    monkeypatch.setattr(store, "read", None)
    hub.make_index(folder)
    assert content_of(folder, "index.json") == before


def test_links_in_a_hub_are_not_followed(folder, out):
    os.rename(f"{folder}/p0.zip", f"{folder}/other")
    os.symlink(f"{folder}/other", f"{folder}/p0.zip")
    refused("links are not followed", hub.pull, folder, "p0", f"{out}/p0.zip")
    os.rename(f"{folder}/index.json", f"{folder}/there")
    os.symlink(f"{folder}/there", f"{folder}/index.json")
    refused("links are not followed", hub.entries, folder)
    assert not os.listdir(out)


@pytest.mark.parametrize("address", ["", " ", "ftp://host/hub", "file:///tmp/hub", "hf://owner", "hf://a/b@../..",
                                     "hf://a/b/c", "https://", "http://host/hub?x=1", "http://[/x"])
def test_addresses_that_are_no_hub(address, tmp_path):
    for call in (lambda: hub.entries(address), lambda: hub.make_index(address),
                 lambda: hub.pull(address, "p0", f"{tmp_path}/p0.zip")):
        refused(".", call)


@pytest.mark.parametrize("address", ["http://host/hub", "hf://owner/repo"])
def test_nothing_is_pushed_over_the_network(address):
    refused("hf upload owner/repo", hub.push, "pack.zip", address, "p0")
    refused("hf upload owner/repo", hub.make_index, address)


@pytest.mark.parametrize("name", ["", "../p0", "/p0", "a/b", ".p0", "a b", "p\n", "x" * 101, "ö"])
def test_names_that_are_no_name(name, folder, tmp_path, out):
    refused("no name for a pack", hub.push, f"{tmp_path}/made/p0.zip", folder, name)
    refused("no name for a pack", hub.pull, folder, name, f"{out}/p0.zip")


def test_a_pack_that_is_not_there(folder, out):
    refused("holds no pack p7", hub.pull, folder, "p7", f"{out}/p7.zip")
    os.remove(f"{folder}/p0.zip")
    refused("no such file", hub.pull, folder, "p0", f"{out}/p0.zip")
    assert not os.listdir(out)


# Processes


def _push_some(folder, tmp_path, start):
    for number in range(start, start + 5):
        hub.push(f"{tmp_path}/made/p{number % 2}.zip", folder, f"n{number}")


def test_pushes_at_once_lose_nothing(folder, tmp_path):
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_push_some, args=(folder, tmp_path, start))
               for start in (0, 5, 10, 15)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    names = {"p0", "p1", *(f"n{number}" for number in range(20))}
    assert {entry.name for entry in hub.entries(folder)} == names
    assert {name for name in os.listdir(folder) if name.endswith(".zip")} == {
        f"{name}.zip" for name in names}


def _killed_push(path, folder, name, replaces, **options):
    """A push in a process that ends where it is about to rename once too often."""
    child = os.fork()
    if child == 0:
        replace, done = os.replace, []

        def counting(*args):
            if len(done) == replaces:
                os._exit(9)
            done.append(replace(*args))
        os.replace = counting
        hub.push(path, folder, name, **options)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("replaces", [0, 1])
def test_a_killed_push_leaves_a_hub_that_works(folder, tmp_path, out, replaces):
    made = f"{tmp_path}/made/p1.zip"
    _killed_push(made, folder, "new", replaces)
    assert os.path.exists(f"{folder}/new.zip") == bool(replaces)
    assert [entry.name for entry in hub.entries(folder)] == ["p0", "p1"]
    assert hub.pull(folder, "p0", f"{out}/p0.zip")
    assert hub.push(made, folder, "new")
    assert hub.pull(folder, "new", f"{out}/new.zip")


def test_what_killed_pushes_left_goes(folder, tmp_path):
    for name in ("old", "new"):
        _killed_push(f"{tmp_path}/made/p1.zip", folder, name, 0)
        (left,) = (name for name in os.listdir(folder) if name.endswith(".part"))
        assert left.startswith(f".{name}.zip.")


def test_a_killed_replacement_says_so_until_it_is_pushed_again(folder, tmp_path, out):
    _killed_push(f"{tmp_path}/made/p1.zip", folder, "p0", 1, overwrite=True)
    refused("sha256|more than the", hub.pull, folder, "p0", f"{out}/p0.zip")
    assert not os.listdir(out)
    assert hub.push(f"{tmp_path}/made/p1.zip", folder, "p0")
    assert hub.pull(folder, "p0", f"{out}/p0.zip")


def test_two_pulls_of_one_pack_to_one_place(folder, out):
    entry = hub.entries(folder)[0]
    with open(f"{out}/.p0.zip.{entry.sha256[:16]}.part", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused("another pull", hub.pull, folder, "p0", f"{out}/p0.zip")


# The web


@pytest.mark.parametrize("slash", ["", "/"])
def test_pull_from_the_web(server, folder, out, slash):
    assert hub.entries(server.address + slash) == hub.entries(folder)
    assert hub.pull(server.address + slash, "p0", f"{out}/p0.zip")
    assert files_in(out) == {f"{out}/p0.zip": content_of(folder, "p0.zip")}


def test_a_cut_connection_goes_on_where_it_ended(server, folder, out):
    server.way, server.patience = "cut", 3
    assert hub.pull(server.address, "p0", f"{out}/p0.zip")
    size = len(content_of(folder, "p0.zip"))
    first = size // 2
    second = first + (size - first) // 2
    assert [asked[2] for asked in server.asked if asked[1] == "p0.zip"] == [
        None, f"bytes={first}-", f"bytes={second}-"]
    assert content_of(out, "p0.zip") == content_of(folder, "p0.zip")


def test_the_next_pull_goes_on_too(server, folder, out):
    server.way = "cut"
    refused("after 5 attempts", hub.pull, server.address, "p0", f"{out}/p0.zip")
    (part,) = os.listdir(out)
    got = os.path.getsize(f"{out}/{part}")
    assert part.startswith(".") and content_of(folder, "p0.zip").startswith(content_of(out, part))
    server.way, server.asked = "good", []
    assert hub.pull(server.address, "p0", f"{out}/p0.zip")
    assert server.asked[1:] == [("GET", "p0.zip", f"bytes={got}-")]
    assert os.listdir(out) == ["p0.zip"]


@pytest.mark.parametrize("way", ["rangeless", "shifted"])
def test_servers_that_cannot_go_on_start_over(server, folder, out, way):
    server.way, server.patience = way, 2
    assert hub.pull(server.address, "p0", f"{out}/p0.zip")
    assert content_of(out, "p0.zip") == content_of(folder, "p0.zip")
    assert [asked[1] for asked in server.asked].count("index.json") == 1


def test_a_file_shorter_than_what_came_starts_over(server, folder, out):
    server.way = "cut"
    refused("after 5 attempts", hub.pull, server.address, "p0", f"{out}/p0.zip")
    content = content_of(folder, "p0.zip")
    with open(f"{folder}/p0.zip", "wb") as file:
        file.write(content[:100])
    server.way = "good"
    refused("after 5 attempts", hub.pull, server.address, "p0", f"{out}/p0.zip")
    assert [len(left) for left in files_in(out).values()] in ([100], [])
    with open(f"{folder}/p0.zip", "wb") as file:
        file.write(content)
    assert hub.pull(server.address, "p0", f"{out}/p0.zip")


@pytest.mark.parametrize("beginning", [b"wrong bytes", b"x" * 10 ** 6])
def test_a_wrong_beginning_is_thrown_away(server, folder, out, beginning):
    part = f"{out}/.p0.zip.{hub.entries(folder)[0].sha256[:16]}.part"
    with open(part, "wb") as file:
        file.write(beginning)
    assert hub.pull(server.address, "p0", f"{out}/p0.zip")
    assert os.listdir(out) == ["p0.zip"]


@pytest.mark.parametrize("way,words", [
    ("lying", "sha256"), ("endless", "more than the"), ("failing", "the server says 500"),
    ("redirecting", "file:///etc/passwd"), ("packed", "compresses its responses")])
@pytest.mark.parametrize("destination", ["p0.zip", "p0"])
def test_bad_servers_leave_nothing(server, out, way, words, destination):
    server.way = way
    refused(words, hub.pull, server.address, "p0", f"{out}/{destination}")
    assert not os.listdir(out)


def test_redirects_are_followed_on_the_web_alone(server, folder, out):
    with serving(folder) as other:
        server.way, server.location = "redirecting", f"{other.address}/p0.zip"
        assert hub.pull(server.address, "p0", f"{out}/p0.zip")


def test_an_index_that_is_endless(server, monkeypatch):
    monkeypatch.setattr(index, "INDEX_LIMIT", 1000)
    refused("more than the 1,000 bytes", hub.entries, server.address)


def test_no_server_and_no_hub_there(out, server):
    server.prefix = "/hub/"
    assert hub.entries(f"{server.address}/hub")
    refused("404", hub.entries, server.address)
    refused("after 5 attempts", hub.entries, "http://127.0.0.1:9/hub")


def test_a_pack_replaced_after_the_index_was_read(server, folder, tmp_path, out):
    old = content_of(folder, "index.json")
    hub.push(f"{tmp_path}/made/p1.zip", folder, "p0", overwrite=True)
    server.indexes = [old]
    assert hub.pull(server.address, "p0", f"{out}/p0.zip")
    assert content_of(out, "p0.zip") == content_of(folder, "p1.zip")


# Hugging Face


HF = """
import sys
from adapter_bert.errors import InputError
from adapter_bert.packs import hub
for address, destination in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        print([entry.name for entry in hub.entries(address)], hub.pull(address, "p0", destination))
    except InputError as error:
        print("error:", error)
"""


def hf(endpoint, cache, *args, **environment):
    """What the script prints, with a Hugging Face hub of its own."""
    environment = {**os.environ, "PYTHONPATH": ROOT, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache),
                   "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", HF, *args], env=environment, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_pull_from_hugging_face(server, folder, tmp_path, out):
    server.prefix = "/owner/repo/resolve/main/"
    lines = hf(server.address, tmp_path / "cache", "hf://owner/repo", f"{out}/p0.zip",
               "hf://owner/repo@main", f"{out}/p0", "hf://owner/none", f"{out}/none.zip",
               HF_HUB_OFFLINE="0")
    assert lines[:2] == ["['p0', 'p1'] True"] * 2
    assert len(lines) == 3 and lines[2].startswith("error: hf://owner/none: index.json cannot be")
    assert sorted(os.listdir(out)) == ["p0", "p0.zip"]
    lines = hf(server.address, tmp_path / "cache", "hf://owner/repo", f"{out}/again.zip",
               "hf://owner/none", f"{out}/none.zip", HF_HUB_OFFLINE="1")
    assert lines[0] == "['p0', 'p1'] True" and lines[1].startswith("error: ") and len(lines) == 2
    assert content_of(out, "again.zip") == content_of(folder, "p0.zip")


def test_hugging_face_with_other_bytes(server, tmp_path, out, folder):
    server.prefix, server.way = "/owner/repo/resolve/main/", "lying"
    (line,) = hf(server.address, tmp_path / "cache", "hf://owner/repo", f"{out}/p0.zip",
                 HF_HUB_OFFLINE="0")
    assert line.startswith("error: p0.zip: its size or sha256")
    with open(f"{folder}/p0.zip", "ab") as file:
        file.write(b"\0" * 10 ** 6)
    server.way, server.asked = "good", []
    (line,) = hf(server.address, tmp_path / "other", "hf://owner/repo", f"{out}/p0.zip",
                 HF_HUB_OFFLINE="0")
    assert "more than" in line and ("GET", "p0.zip", None) not in server.asked
    assert not os.listdir(out)


# The index


def entry_values(folder):
    return json.loads(content_of(folder, "index.json"))["packs"][0]


@pytest.mark.parametrize("change", [
    {"name": "../p0", "file": "../p0.zip"}, {"file": "../p0.zip"}, {"file": "/etc/passwd"},
    {"name": "/p0", "file": "/p0.zip"}, {"name": "p0\n", "file": "p0\n.zip"}, {"file": "p1.zip"},
    {"name": "..", "file": "...zip"}, {"bytes": -1}, {"bytes": 1 << 40}, {"bytes": True},
    {"sha256": "0" * 63}, {"sha256": "G" * 64}, {"labels": "positive"}, {"labels": [1]},
    {"adapter": {"size": 4}}, {"adapter": {"size": 0, "placement": "both"}}, {"adapter": []},
    {"metrics": {"accuracy": "high"}}, {"metrics": {"accuracy": 1e300}}, {"parameters": 1.5},
    {"description": "x" * 10_001}, {"license": None}, {"extra": 1}])
def test_entries_that_cannot_be(folder, out, change):
    values = entry_values(folder)
    assert index.parse(signed([values]), "index")[0].name == "p0"
    with open(f"{folder}/index.json", "wb") as file:
        file.write(signed([{**values, **change}]))
    before = files_in(os.path.dirname(folder))
    refused(".", hub.entries, folder)
    refused(".", hub.pull, folder, "p0", f"{out}/p0.zip")
    assert files_in(os.path.dirname(folder)) == before


def test_indexes_that_cannot_be(folder):
    values = entry_values(folder)
    missing = {key: value for key, value in values.items() if key != "task"}
    whole = signed([values])
    for text in (b"", b"[]", b"{}", b"7", b"[" * 10 ** 6, b"\xff", whole[:-1], whole + b"\n",
                 signed([values, values]), signed([missing]), signed([7]),
                 whole.replace(b"SST-2", b"SST-3"),
                 whole.replace(b'"schema_version": 1', b'"schema_version": 2'),
                 signed([{**values, "metrics": {"accuracy": float("nan")}}]),
                 signed([{**values, "task": "\ud800"}])):
        refused("^index: ", index.parse, text, "index")


def test_an_index_that_misdescribes_a_pack(folder, out):
    values = entry_values(folder)
    with open(f"{folder}/index.json", "wb") as file:
        file.write(signed([{**values, "task": "MRPC"}]))
    refused("describes another pack", hub.pull, folder, "p0", f"{out}/p0.zip")
    assert not os.listdir(out)


def test_search(folder):
    first, second = hub.entries(folder)
    other = index.Entry(**{**vars(first), "name": "a", "task": "MRPC", "base_name": "bert",
                           "base_fingerprint": "f" * 64, "description": "Paraphrases of news"})
    held = [second, other, first]

    def names(*words, **options):
        return [entry.name for entry in index.search(held, words, **options)]
    assert names() == ["a", "p0", "p1"]
    assert names("NEWS", "mrpc") == ["a"] and names("news", "sst") == []
    assert names("Positive", "P1") == ["p1"]
    assert names(task="sst-2") == ["p0", "p1"] and names(base="BERT") == ["a"]
    assert names(base=HASH[:8]) == ["p0", "p1"] and names(base="tin") == []


def test_the_table_holds_no_control_characters(folder):
    entry = index.Entry(**{**vars(hub.entries(folder)[0]), "task": "\x1b[2J\nname\u202e"})
    lines = index.table([entry])
    assert all(line.isprintable() for line in lines) and len(lines) == 2
    assert "adapters, 4 in both" in lines[1] and "accuracy 0.5" in lines[1]


def test_listing_imports_neither_tensorflow_nor_numpy(folder):
    script = ("import sys; from adapter_bert.packs import hub, index; "
              "print(index.table(index.search(hub.entries(sys.argv[1])))); "
              "assert not {'tensorflow', 'numpy'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", script, folder], check=True,
                   env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True)


# Damage of any kind


@pytest.fixture(name="whole", scope="module")
def fixture_whole(tmp_path_factory):
    """The files of a hub with one pack."""
    folder = hub_of(tmp_path_factory.mktemp("whole"), 1)
    return {name: content_of(folder, name) for name in ("p0.zip", "index.json")}


def damaged(draw, content):
    position = draw(st.integers(0, len(content) - 1))
    if draw(st.booleans()):
        return content[:position]
    changed = bytes([content[position] ^ draw(st.integers(1, 255))])
    return content[:position] + changed + content[position + 1:]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_never_loaded_and_never_writes(whole, data):
    name = data.draw(st.sampled_from(sorted(whole)))
    destination = data.draw(st.sampled_from(["p0.zip", "p0"]))
    held = {**whole, name: damaged(data.draw, whole[name])}
    with tempfile.TemporaryDirectory() as place:
        os.makedirs(f"{place}/hub")
        os.makedirs(f"{place}/out")
        for one, content in held.items():
            with open(f"{place}/hub/{one}", "wb") as file:
                file.write(content)
        before = files_in(place)
        with pytest.raises(InputError):
            hub.pull(f"{place}/hub", "p0", f"{place}/out/{destination}")
        assert files_in(place) == before and not os.listdir(f"{place}/out")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_an_index_says_it_stays_in_its_folder(whole, data):
    values = copy.deepcopy(json.loads(whole["index.json"])["packs"][0])
    for key in data.draw(st.lists(st.sampled_from(sorted(values)), max_size=3)):
        values[key] = data.draw(ANYTHING)
    try:
        (entry,) = index.parse(signed([values]), "index")
    except InputError:
        return
    assert entry.file == entry.name + ".zip" and os.path.basename(entry.file) == entry.file
    assert all(line.isprintable() for line in index.table(index.search([entry], ["0"])))


# The benchmark


def test_the_benchmark_starts():
    done = subprocess.run([sys.executable, "benchmarks/packs_speed.py", "--smoke"], cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True,
                          check=False)
    assert float(done.stdout.splitlines()[-1].split()[0]) > 0, done.stderr


def test_a_dripping_server_is_given_up(server, out, monkeypatch):
    monkeypatch.setattr(hub_sources, "PATIENCE", 0.3)
    server.way = "dripping"
    start = time.monotonic()
    refused("gave up after .* bytes in .* s", hub.pull, server.address, "p0", f"{out}/p0.zip")
    assert time.monotonic() - start < 60


def test_a_dripping_head_is_given_up(server, out, monkeypatch):
    monkeypatch.setattr(hub_sources, "HEAD_SECONDS", 0.3)
    server.way = "dripping_head"
    refused("after 5 attempts", hub.pull, server.address, "p0", f"{out}/p0.zip")
    assert [asked[1] for asked in server.asked].count("p0.zip") == 5


def test_dripping_chunks_are_given_up(server, out, monkeypatch):
    monkeypatch.setattr(hub_sources, "MOST_SECONDS", 1)
    server.way = "dripping_chunks"
    refused("a download may take 0 minutes", hub.pull, server.address, "p0", f"{out}/p0.zip")


def test_a_connection_that_is_made_after_the_time_is_cut(server, out, monkeypatch):
    look_up = socket.getaddrinfo

    def slow(*arguments, **options):
        time.sleep(0.5)
        return look_up(*arguments, **options)
    monkeypatch.setattr(hub_sources, "PAUSES", ())
    monkeypatch.setattr(hub_sources, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    server.way = "dripping_head"
    refused("after 1 attempt", hub.entries, server.address)


def test_the_body_of_a_redirect_is_not_read(server, folder, out):
    server.way, server.location = "bloated_redirect", f"{server.address}/index.json"
    hubs.bloated()
    tracemalloc.start()
    refused("the answer ended after", hub.pull, server.address, "p0", f"{out}/p0.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_a_proxy_is_used(server, folder, out, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    server.prefix = ""
    assert hub.pull("http://hub.example/packs", "p0", f"{out}/p0.zip")
    assert content_of(out, "p0.zip") == content_of(folder, "p0.zip")


def test_one_deadline_for_all_attempts(server, out, monkeypatch):
    monkeypatch.setattr(hub_sources, "PAUSES", (60, 60))
    monkeypatch.setattr(hub_sources, "MOST_SECONDS", 30)
    server.way = "failing"
    refused("after 1 attempt:", hub.pull, server.address, "p0", f"{out}/p0.zip")
    monkeypatch.setattr(hub_sources, "MOST_SECONDS", 0)
    refused("a download may take 0 minutes", hub.pull, server.address, "p0", f"{out}/p0.zip")


@pytest.mark.parametrize("place", [
    "http://127.0.0.1:1\\@1.1.1.1/p0.zip", "http://1.1.1.1@127.0.0.1:1/", "http://a\x7fb/"])
def test_a_redirect_that_programs_read_in_two_ways_is_refused(server, out, place):
    server.way, server.location = "redirecting", place
    refused("redirects to .*, an address of an unusual form", hub.pull, server.address, "p0",
            f"{out}/p0.zip")


@pytest.mark.parametrize("place", ["http://localhost:1/p0.zip", "http://[::1]:1/p0.zip",
                                   "http://169.254.169.254/latest", "http://no.such.host.invalid/"])
def test_a_hub_cannot_redirect_into_a_private_network(server, out, place):
    server.way, server.location = "redirecting", place
    refused("redirects to .*, an address of a private network", hub.pull, server.address, "p0",
            f"{out}/p0.zip")


def test_redirects_do_not_go_round_for_ever(server, out):
    server.way, server.location = "redirecting", f"{server.address}/p0.zip"
    refused("more than 5 redirects", hub.pull, server.address, "p0", f"{out}/p0.zip")
