"""A run is one process's: of several at once, after a kill, and beside other machines."""
import collections
import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from adapter_bert.research.sweep import queue

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Does each name once, unless another process did, and says so.
WORKER = """
import contextlib, os, sys, time
from adapter_bert.research.sweep import queue
folder = sys.argv[1]
claimed = queue.claimed if sys.argv[2] == "claims" else lambda *_: contextlib.nullcontext(True)
for number in range(20):
    with claimed(folder + "/claims", str(number)) as is_ours:
        if is_ours and not os.path.exists(f"{folder}/done{number}"):
            time.sleep(0.01)
            with open(f"{folder}/log", "a") as log:
                log.write(f"{number} ")
            open(f"{folder}/done{number}", "w").close()
"""
HOLDER = """
import sys, time
from adapter_bert.research.sweep import queue
with queue.claimed(sys.argv[1], "run") as is_ours:
    print(is_ours, flush=True)
    time.sleep(1000)
"""


ALONE = """
import sys, time
from adapter_bert.research.sweep import queue
print("asks", flush=True)
with queue.alone(sys.argv[1]):
    print("in", flush=True)
    time.sleep(1000)
"""


def start(script, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT,
                            env={**os.environ, "PYTHONPATH": ROOT}, **options)


@pytest.mark.parametrize("how, is_once", [("claims", True), ("nothing", False)])
def test_several_processes_do_a_run_once(tmp_path, how, is_once):
    for process in [start(WORKER, tmp_path, how) for _ in range(4)]:
        assert process.wait() == 0
    done = collections.Counter((tmp_path / "log").read_text().split())
    assert len(done) == 20 and (set(done.values()) == {1}) == is_once
    assert how == "nothing" or not os.listdir(tmp_path / "claims")


def test_a_claim_ends_with_its_process(tmp_path):
    holder = start(HOLDER, tmp_path, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with queue.claimed(str(tmp_path), "run") as is_ours:
        assert not is_ours
    assert queue.owners(str(tmp_path))["run"]["pid"] == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with queue.claimed(str(tmp_path), "run") as is_ours:
        assert is_ours


def test_a_claim_of_another_machine_ends_when_it_is_old(tmp_path):
    path = tmp_path / "run"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with queue.claimed(str(tmp_path), "run") as is_ours:
        assert not is_ours
    old = time.time() - queue.STALE_SECONDS - 1
    os.utime(path, (old, old))
    with queue.claimed(str(tmp_path), "run") as is_ours:
        assert is_ours and queue.owners(str(tmp_path))["run"]["pid"] == os.getpid()
    assert not path.exists()


def test_a_claim_that_another_took_over_stays_theirs(tmp_path):
    path = tmp_path / "run"
    with queue.claimed(str(tmp_path), "run"):
        path.unlink()   # as when this machine slept too long
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert queue.owners(str(tmp_path))["run"]["host"] == "elsewhere"


def test_one_is_alone_while_others_wait(tmp_path):
    unbuffered = {"stdout": subprocess.PIPE, "bufsize": 0}
    holder = start(ALONE, tmp_path, **unbuffered)
    assert [holder.stdout.readline() for _ in range(2)] == [b"asks\n", b"in\n"]
    waiting = start(ALONE, tmp_path, **unbuffered)
    assert waiting.stdout.readline() == b"asks\n"
    assert select.select([waiting.stdout], [], [], 1)[0] == []
    holder.send_signal(signal.SIGKILL)
    assert waiting.stdout.readline() == b"in\n"
    waiting.kill()


@pytest.mark.parametrize("content", ["", "{", "3", "{}"])
def test_a_claim_that_a_crash_damaged_ends_when_it_is_old(tmp_path, content):
    path = tmp_path / "run"
    path.write_text(content)
    with queue.claimed(str(tmp_path), "run") as is_ours:
        assert not is_ours
    old = time.time() - queue.STALE_SECONDS - 1
    os.utime(path, (old, old))
    with queue.claimed(str(tmp_path), "run") as is_ours:
        assert is_ours


def test_what_a_killed_process_left_goes(tmp_path):
    for name, age in ((".old", queue.STALE_SECONDS + 1), (".new", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    queue.sweep_out(str(tmp_path))
    assert os.listdir(tmp_path) == [".new"]
