"""torch.save's files: what torch wrote is read, and nothing that a pickle says is run."""
import io
import os
import pathlib
import pickle
import struct
import tempfile
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from adapter_bert.bert import torch_file
from adapter_bert.errors import InputError

SAVED = pathlib.Path(__file__).parents[1] / "fixtures" / "adapterhub" / "default" / \
    "pytorch_model_head.bin"

RUNS_A_COMMAND = b"cos\nsystem\n(X\x12\0\0\0touch was_run_heretR."


def read(content):
    """torch_file.read of bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return torch_file.read(file.name)


SIX = struct.pack("<6f", *range(6))


def zipped(code, storages=(SIX,), method=zipfile.ZIP_STORED, order=b"", more=()):
    """A file of torch's form with any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a/data.pkl", code)
        archive.writestr("a/byteorder", order or b"little")
        for name, content in [*((f"a/data/{key}", value) for key, value in enumerate(storages)),
                              *more]:
            archive.writestr(name, content)
    return buffer.getvalue()


def number(value):
    return b"J" + struct.pack("<i", value)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def entry(offset=0, shape=(6,), strides=(1,), count=6, kind="Float", key="0"):
    """The steps that put the name x and a tensor on the stack."""
    storage = (b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key)
               + text("cpu") + number(count) + b"tQ")
    return (text("x") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset)
            + numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR")


def one_tensor(**values):
    """The pickle of {"x": a tensor}."""
    return b"\x80\x02}" + entry(**values) + b"s."


def test_what_torch_wrote():
    found = torch_file.read(str(SAVED))
    assert {name: (value.shape, value.dtype.name) for name, value in found.items()} == {
        "heads.tiny.1.weight": ((16, 16), "float32"), "heads.tiny.1.bias": ((16,), "float32"),
        "heads.tiny.4.weight": ((3, 16), "float32"), "heads.tiny.4.bias": ((3,), "float32")}
    assert all(0.1 < np.abs(value).max() < 3 for value in found.values())


def test_what_is_written_is_read_back():
    values = {"a.b": np.random.default_rng(0).normal(size=[3, 5]).astype(np.float32),
              "é": np.arange(4, dtype=np.float32)}
    found = read(torch_file.to_bytes(values))
    assert found.keys() == values.keys()
    assert all((found[name] == value).all() for name, value in values.items())


@pytest.mark.parametrize("values,wanted", [
    ({}, [0, 1, 2, 3, 4, 5]), ({"offset": 2, "shape": (3,)}, [2, 3, 4]),
    ({"shape": (2, 3), "strides": (3, 1)}, [[0, 1, 2], [3, 4, 5]]),
    ({"shape": (2, 3), "strides": (1, 2)}, [[0, 2, 4], [1, 3, 5]]),
    ({"shape": (1, 6), "strides": (77, 1)}, [[0, 1, 2, 3, 4, 5]]),
    ({"shape": (), "strides": (), "offset": 5}, 5)])
def test_pieces_of_a_storage(values, wanted):
    assert (read(zipped(one_tensor(**values)))["x"] == wanted).all()


@pytest.mark.parametrize("kind,values", [
    ("Half", np.array([1.5, -2], np.float16)),
    ("BFloat16", np.array([0x3FC0, 0xC000], np.uint16))])
def test_half_precision(kind, values):
    found = read(zipped(one_tensor(shape=(2,), count=2, kind=kind), [values.tobytes()]))["x"]
    assert found.astype(np.float32).tolist() == [1.5, -2]


@pytest.mark.parametrize("values,words", [
    ({"shape": (7,)}, "one piece"), ({"offset": 1}, "one piece"), ({"offset": -1}, "shape"),
    ({"shape": (-6,)}, "shape"), ({"shape": (6, 6), "strides": (0, 1)}, "one piece"),
    ({"shape": (2,), "strides": (2,)}, "one piece"), ({"shape": (2, 3)}, "shape"),
    ({"shape": (1 << 30,) * 3, "strides": (1,) * 3}, "one piece"),
    ({"shape": (1,) * 9, "strides": (1,) * 9}, "shape"), ({"count": 5}, "says 5"),
    ({"kind": "Half"}, "says 6"), ({"key": "1"}, "followed"), ({"key": "../0"}, "followed"),
    ({"kind": "Long"}, "asks for 'torch LongStorage'")])
def test_a_tensor_that_cannot_be(values, words):
    with pytest.raises(InputError, match=words):
        read(zipped(one_tensor(**values)))


@pytest.mark.parametrize("code", [
    RUNS_A_COMMAND, b"cbuiltins\neval\n(X\1\0\0\x001tR.",
    b"(X\1\0\0\x001ios\nsystem\n.", b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    b"ccollections\nOrderedDict\n(]tR.", b"\x80\x02\x82\x01.", b"Pos\n.",
    pickle.dumps({"x": np.zeros(2)}), pickle.dumps({"x": 1}, 2), pickle.dumps([1], 2),
    pickle.dumps({1: 2}, 2), b"\x80\x02}" + entry() + b"s" + entry() + b"s.", b"", b".", b"t.",
    b"j\xff\xff\xff\x7f.", b"}}}s.", b"\x80\x02X\xff\xff\xff\x7fa.",
    b"(" + b")" + b"\x85" * 500_000 + b"Q.", b"})" + b"\x85" * 500_000 + b"Ns.",
    b"ccollections\nOrderedDict\n)" + b"\x85" * 500_000 + b"R."])
def test_a_pickle_that_does_more_is_refused_and_not_run(tmp_path, monkeypatch, code):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        read(zipped(code))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert os.listdir(tmp_path) == []


def test_pythons_own_unpickler_would_have_run_it(tmp_path, monkeypatch):
    """The negative control of the test above."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(RUNS_A_COMMAND)
    assert os.listdir(tmp_path) == ["was_run_here"]


def test_a_memo_of_a_great_number_takes_no_room():
    assert read(zipped(b"}r\xff\xff\xff\x7f.")) == {}


@pytest.mark.parametrize("content,words", [
    (pickle.dumps({"x": 1}, 2), "torch before 1.6"), (b"", "no .zip"), (b"PK\3\4", "cut off"),
    (zipped(one_tensor(), method=zipfile.ZIP_DEFLATED), "compressed"),
    (zipped(one_tensor(), order=b"big"), "little-endian"),
    (zipped(b"\x80\x02}." + b"\0" * (1 << 20)), "more than 1,048,576"),
    (zipped(one_tensor(), [b"\0" * 23]), "within a number"),
    (zipped(one_tensor(), more=[("b/data.pkl", b"")]), "without the data.pkl"),
    (zipped(one_tensor(), more=[(f"a/{i}", b"") for i in range(10_000)]), "more than 10,000"),
    (zipped(one_tensor()) + b"\0", "end of its .zip"),
    (zipped(one_tensor())[:-1], "end of its .zip")])
def test_a_file_of_another_form_is_refused(content, words):
    with pytest.raises(InputError, match=words):
        read(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused():
    with pytest.raises(InputError, match="two files of one name"):
        read(zipped(one_tensor(), more=[("a/data/0", b"\0" * 24)]))


def test_a_changed_number_is_noticed():
    content = bytearray(zipped(one_tensor()))
    content[content.index(struct.pack("<2f", 4, 5))] ^= 1
    with pytest.raises(InputError, match="checksum"):
        read(bytes(content))


def test_a_longer_file_than_allowed_and_a_link_are_refused(tmp_path):
    with pytest.raises(InputError, match="more than 100 bytes"):
        torch_file.read(str(SAVED), limit=100)
    (tmp_path / "link").symlink_to(SAVED)
    with pytest.raises(InputError, match="links are not followed"):
        torch_file.read(str(tmp_path / "link"))


def read_or_refuse(content):
    try:
        found = read(content)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(type(name) is str and type(value) is np.ndarray
                   for name, value in found.items())


@hypothesis.settings(max_examples=500, deadline=None)
@hypothesis.given(st.lists(st.tuples(st.integers(0, SAVED.stat().st_size - 1), st.integers(1, 255)),
                           max_size=4), st.integers(0, SAVED.stat().st_size))
def test_damaged_files_are_read_or_refused(flips, end):
    content = bytearray(SAVED.read_bytes())
    for place, mask in flips:
        content[place] ^= mask
    read_or_refuse(bytes(content))
    read_or_refuse(bytes(content[:end]))


@hypothesis.settings(max_examples=500, deadline=None)
@hypothesis.given(st.lists(st.tuples(st.integers(0, len(one_tensor()) - 1), st.integers(0, 255)),
                           max_size=3), st.binary(max_size=6))
def test_damaged_pickles_are_read_or_refused(changes, more):
    """The .zip is whole, so that the damage arrives at the reader of the pickle."""
    code = bytearray(one_tensor())
    for place, value in changes:
        code[place] = value
    read_or_refuse(zipped(bytes(code)))
    read_or_refuse(zipped(bytes(code[:-1]) + more + b"."))
