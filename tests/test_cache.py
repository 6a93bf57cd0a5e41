"""Where the cache is, and that nothing needs one."""
import functools
import os
import shutil
import tempfile

import pytest

from adapter_bert import cache, compute
from adapter_bert.errors import InputError
from adapter_bert.kernels import library


@pytest.fixture(name="variables")
def fixture_variables(monkeypatch):
    for name in (cache.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    return monkeypatch


def test_its_folder(variables):
    assert cache.folder("packs") == "/home/me/.cache/adapter-bert/packs"
    variables.setenv("XDG_CACHE_HOME", "relative")   # its specification: to be ignored
    assert cache.folder() == "/home/me/.cache/adapter-bert"
    variables.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.folder() == "/xdg/adapter-bert"
    variables.setenv("ADAPTER_BERT_CACHE", "~/mine")
    assert cache.folder("a", "b") == "/home/me/mine/a/b"


def no_home(variables, tmp_path):
    """As in a container, of a user that the machine does not know."""
    variables.delenv("HOME")
    variables.setattr(os.path, "expanduser", lambda path: path)
    return "this user has no home folder"


def no_folder(variables, tmp_path):
    """As where the home folder does not exist; root, who runs tests, may write anywhere else."""
    (tmp_path / "file").touch()
    variables.setenv("HOME", str(tmp_path / "file"))
    return "file/.cache/adapter-bert/kernels: cannot be written"


@pytest.mark.parametrize("hinder", [no_home, no_folder])
def test_kernels_without_a_cache(variables, tmp_path, caplog, hinder):
    """Training, loading and serving go on with plain formulas, and say so once."""
    reason = hinder(variables, tmp_path)
    variables.setattr(library, "_load_once", functools.lru_cache(library._load_once.__wrapped__))
    variables.chdir(tmp_path)
    for _ in range(2):
        chosen = compute.choose_engine("auto", use_tpu=False, rows=8)
        assert not chosen.fused and reason in chosen.reason
        assert not library.has_tiles.__wrapped__()
    with pytest.raises(InputError, match="--kernels=fused: .*environment variable ADAPTER"):
        compute.choose_engine("fused", use_tpu=False, rows=8)
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert reason in warning and "ADAPTER_BERT_CACHE" in warning and "\n" not in warning
    assert not [name for name in os.listdir(tmp_path) if name != "file"]


def test_kernels_on_a_full_disk(variables, tmp_path, caplog):
    def full(path):
        raise OSError(28, "No space left on device", str(path))
    variables.setenv(cache.VARIABLE, str(tmp_path))
    variables.setattr(library, "build", full)
    assert library._load_once.__wrapped__()[0] is None
    assert "No space left on device" in caplog.text


def test_kernels_that_others_could_change_are_not_run(variables, tmp_path):
    """Neither a file that others may write, nor one behind a link, nor of another user."""
    variables.setenv(cache.VARIABLE, str(tmp_path))
    built = []

    def build(path):
        built.append(path)
        path.unlink(missing_ok=True)
        path.write_text("new")
        path.chmod(0o644)
    variables.setattr(library, "build", build)
    variables.setattr(library, "_load", lambda path: path.read_text())
    path = library.kernels_path()
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    load = library._load_once.__wrapped__
    assert load() == ("old", "") and not built
    path.parent.chmod(0o777)
    assert load() == ("new", "") and path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o666)
    assert load() == ("new", "") and len(built) == 2
    path.unlink()
    (tmp_path / "elsewhere").write_text("old")
    path.symlink_to(tmp_path / "elsewhere")
    assert load() == ("new", "") and (tmp_path / "elsewhere").read_text() == "old"
    for state, is_ours in ((os.lstat(path), True), (os.stat_result(
            (0o100644, 0, 0, 1, 4321, 0, 0, 0, 0, 0)), False)):
        variables.setattr(os, "lstat", lambda place, state=state: state)
        assert cache.is_trusted(str(path)) == is_ours
    module, reason = load()
    assert module is None and "other users can change" in reason and len(built) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")
def test_what_real_users_trust():
    """A user trusts files of his own and of root, and none of others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        paths = []
        for owner in (0, 4321, 4322):
            path = os.path.join(folder, str(owner), "kernels.so")
            os.mkdir(os.path.dirname(path), 0o755)
            with open(path, "w", encoding="utf-8"):
                os.chmod(path, 0o644)
            for place in (path, os.path.dirname(path)):
                os.chown(place, owner, owner)
            paths.append(path)
        shared = os.path.join(folder, "0", "of_4321.so")
        shutil.copy(paths[0], shared)
        os.chown(shared, 4321, 4321)
        for user, wanted in ((0, 0b1000), (4321, 0b1101), (4322, 0b1010)):
            child = os.fork()
            if not child:
                os.setuid(user)
                os._exit(int("".join(str(int(cache.is_trusted(path)))
                                     for path in (*paths, shared)), 2))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == wanted
