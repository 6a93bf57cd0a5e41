"""What is left of files and folders when the process that writes them is killed."""
import fcntl
import os
import signal
import sys

import pytest

from adapter_bert import files
from adapter_bert.errors import InputError

WATCHED = ("open", "os.", "shutil.", "tempfile.", "ctypes.dlsym")


def killed_before_call(number, function):
    """Runs a function in a process that is killed before its call to the file system of a number.

    Returns whether it was killed, and not done before.
    """
    child = os.fork()
    if child == 0:
        calls = []

        def count(event, _):
            if event.startswith(WATCHED) and event != "os.kill":
                calls.append(event)
                if len(calls) > number:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def replace_folder(path, text):
    with files.new_folder(str(path), replace=True) as folder:
        for name in ("a", "b"):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)


def clean_up(folder):
    """As the next run in the folder does it."""
    with files.locked(folder):
        pass


def content(path):
    return {name: (path / name).read_text() for name in sorted(os.listdir(path))}


def no_exchange(monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: False)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_replacement_that_is_killed_anywhere_loses_nothing(tmp_path, monkeypatch, can_exchange):
    """With the kernel's exchange the name is there at any moment, else after a clean-up."""
    if not can_exchange:
        no_exchange(monkeypatch)
    path, states, number = tmp_path / "pack", [], 0
    replace_folder(path, "old")
    while killed_before_call(number, lambda: replace_folder(path, "new")):
        assert path.is_dir() or not can_exchange
        clean_up(str(tmp_path))
        states.append(content(path))
        assert states[-1] in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"})
        assert os.listdir(tmp_path) == ["pack"]
        replace_folder(path, "old")
        number += 1
    assert number > 15 and len({one["a"] for one in states}) == 2
    assert content(path) == {"a": "new", "b": "new"}


def test_a_clean_up_that_is_killed_anywhere_loses_nothing(tmp_path):
    """After a replacement was killed between its two renames."""
    path, number, more = tmp_path / "pack", 0, True
    while more:
        around = tmp_path / ".pack.x.part"
        for name in ("old", "new"):
            (around / name).mkdir(parents=True)
            (around / name / "a").write_text(name)
        more = killed_before_call(number, lambda: clean_up(str(tmp_path)))
        clean_up(str(tmp_path))
        assert content(path) == {"a": "old"} and os.listdir(tmp_path) == ["pack"]
        (path / "a").unlink()
        path.rmdir()
        number += 1
    assert number > 5


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_replacement_that_fails_keeps_the_old_folder(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        no_exchange(monkeypatch)
    path = tmp_path / "pack"
    replace_folder(path, "old")
    rename = os.rename

    def failing(source, destination):
        if os.path.basename(source) == "new":
            raise OSError(28, "No space left on device", destination)
        rename(source, destination)
    monkeypatch.setattr(os, "rename", failing)
    if can_exchange:
        replace_folder(path, "new")
        assert content(path) == {"a": "new", "b": "new"}
    else:
        with pytest.raises(OSError, match="No space left"):
            replace_folder(path, "new")
        assert content(path) == {"a": "old", "b": "old"}
    assert os.listdir(tmp_path) == ["pack"]


def test_a_file_that_is_killed_anywhere_is_the_old_or_the_new_one(tmp_path):
    path, number, seen = tmp_path / "file", 0, set()
    path.write_text("old")
    while killed_before_call(number, lambda: files.write_text(path, "new")):
        clean_up(str(tmp_path))
        seen.add(path.read_text())
        assert os.listdir(tmp_path) == ["file"]
        path.write_text("old")
        number += 1
    assert seen == {"old", "new"} and path.read_text() == "new"


def test_files_beside_the_temporary_path_are_cleaned_up_too(tmp_path):
    """As the parts of a record file, which worker processes write."""
    child = os.fork()
    if child == 0:
        with files.replacing(tmp_path / "file") as temporary:
            for part in range(2):
                files.write_text(f"{temporary}.{part}", "x")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(os.listdir(tmp_path)) == 1
    clean_up(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("clean", [
    clean_up, lambda folder: files.locked(folder).__enter__(),
    lambda folder: files.new_folder(str(folder / "other")).__enter__()])
def test_a_clean_up_leaves_what_a_live_process_writes(tmp_path, clean):
    read, write = os.pipe()
    go_on, told = os.pipe()
    child = os.fork()
    if child == 0:
        with files.replacing(tmp_path / "file") as temporary, \
                files.new_folder(str(tmp_path / "folder")) as folder:
            os.remove(temporary)   # as compilers do with their output
            for path in (temporary, os.path.join(folder, "a")):
                with open(path, "w", encoding="utf-8") as file:
                    file.write("whole")
            os.write(write, b".")
            os.read(go_on, 1)
        os._exit(0)
    os.read(read, 1)
    clean(tmp_path)
    os.write(told, b".")
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "file").read_text() == "whole" and content(tmp_path / "folder") == {
        "a": "whole"}


def test_a_clean_up_leaves_files_that_it_did_not_write(tmp_path):
    """As the beginning of a pack that the next pull resumes."""
    (tmp_path / ".p0.zip.0123456789abcdef.part").write_text("beginning")
    with files.locked(tmp_path):
        pass
    assert (tmp_path / ".p0.zip.0123456789abcdef.part").read_text() == "beginning"


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with files.locked(tmp_path):
            os.write(write, b".")
            signal.pause()
    os.read(read, 1)
    for _ in range(2):   # who asks changes nothing
        with pytest.raises(InputError, match=rf"at work there \(process {child} on \S+ since 20"), \
                files.locked(tmp_path):
            pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with files.locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / files.LOCK_FILE).read_text()
    assert os.listdir(tmp_path) == []


def test_files_are_written_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def no_locks(handle, operation):
        raise OSError(38, "Function not implemented")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    files.write_text(tmp_path / "file", "text")
    replace_folder(tmp_path / "pack", "new")
    assert sorted(os.listdir(tmp_path)) == ["file", "pack"]
    with pytest.raises(InputError, match="Function not implemented"), files.locked(tmp_path):
        pass


def test_a_lock_file_that_is_a_link_is_refused_and_its_target_stays(tmp_path):
    target = tmp_path / "precious"
    target.write_text("all of it")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(target)
    with pytest.raises(InputError, match="is a symbolic link"), files.locked(str(tmp_path / "out")):
        pass
    assert target.read_text() == "all of it"
