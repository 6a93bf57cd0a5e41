"""Fingerprints that are kept: taken while the files are unchanged, computed again after."""
import os

import pytest

from adapter_bert import cache
from adapter_bert.bert import fingerprints

HEX = ["a" * 64, "b" * 64, "c" * 64]


@pytest.fixture(name="prefix")
def fixture_prefix(tmp_path, monkeypatch):
    """A checkpoint's prefix, with a cache of its own; files count as at rest at once."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "SETTLED_SECONDS", 0)
    for end in ("index", "data-00000-of-00001"):
        (tmp_path / f"model.ckpt.{end}").write_text(end)
    return str(tmp_path / "model.ckpt")


@pytest.fixture(name="compute")
def fixture_compute():
    """A function that returns another fingerprint at each call."""
    answers = iter(HEX)
    return lambda: next(answers)


def test_fingerprint_is_computed_once_while_the_files_stay(prefix, compute):
    assert [fingerprints.remembered(prefix, compute) for _ in range(3)] == [HEX[0]] * 3


def test_change_that_keeps_size_and_time_is_seen(prefix, compute):
    fingerprints.remembered(prefix, compute)
    path = f"{prefix}.data-00000-of-00001"
    before = os.stat(path)
    with open(path, "r+", encoding="utf-8") as file:
        file.write("D")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fingerprints.remembered(prefix, compute) == HEX[1]


def test_file_that_has_just_changed_is_not_trusted(prefix, compute, monkeypatch):
    monkeypatch.setattr(fingerprints, "SETTLED_SECONDS", 60)
    assert [fingerprints.remembered(prefix, compute) for _ in range(2)] == HEX[:2]


@pytest.mark.parametrize("content", ["", "[1]", '{"x": ', '{"PREFIX": {"fingerprint": "a"}}'])
def test_damaged_cache_is_replaced(prefix, compute, content):
    fingerprints.remembered(prefix, compute)
    path = os.path.join(cache.folder(), fingerprints.FILE)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content.replace("PREFIX", os.path.realpath(prefix)))
    assert [fingerprints.remembered(prefix, compute) for _ in range(2)] == [HEX[1]] * 2


def test_cache_that_cannot_be_written_is_done_without(prefix, compute, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "/dev/null/cache")
    assert [fingerprints.remembered(prefix, compute) for _ in range(2)] == HEX[:2]


def test_only_the_newest_are_kept(prefix, compute, monkeypatch):
    monkeypatch.setattr(fingerprints, "MOST_KEPT", 1)
    other = prefix.replace("model", "other")
    with open(f"{other}.index", "w", encoding="utf-8"):
        pass
    wanted = [HEX[0], HEX[1], HEX[2]]
    assert [fingerprints.remembered(name, compute) for name in (prefix, other, prefix)] == wanted
