"""What a run survives: signals at any moment, broken files, a full disk, a clock that jumps."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import faults
import pytest
from runs import REFERENCE, go, same, values, write_sst2
from test_checkpoints import flip

from adapter_bert import files, processes
from adapter_bert.errors import InputError
from adapter_bert.train import initial_values, loop

pytestmark = [pytest.mark.slow, pytest.mark.faults]
KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT


class Alone(NamedTuple):
    """A run that nothing disturbed, never to be changed, and how to start others like it."""

    context: object
    flags: dict
    seconds: float

    @property
    def weights(self):
        return values(f"{self.flags['output_dir']}/{faults.LAST}")


@pytest.fixture(name="alone", scope="session")
def fixture_alone(tmp_path_factory, tiny_dir):
    folder = tmp_path_factory.mktemp("alone")
    flags = {**faults.FLAGS, "data_dir": write_sst2(folder / "data"), "bert_dir": tiny_dir,
             "task_name": "SST-2", "output_dir": str(folder / "out")}
    context, began = faults.server(), time.monotonic()
    code, last = faults.finished(context, flags, folder / "log")
    assert code == 0, last
    return Alone(context, flags, time.monotonic() - began)


@pytest.mark.parametrize("signals", [
    pytest.param([TERM, KILL, INT], id="thrice"),
    pytest.param([KILL] * 20 + [TERM] * 5 + [INT] * 2, id="often", marks=pytest.mark.long)])
def test_a_run_ended_at_random_moments_ends_as_one_left_alone(alone, tmp_path, signals,
                                                             record_property):
    """Its clock jumps by years at each start, and so do the times of its files."""
    flags, log = {**alone.flags, "output_dir": str(tmp_path / "out")}, tmp_path / "log"
    ends = faults.end_at_random(alone.context, flags, log, signals, alone.seconds)
    for number, (code, last, _) in zip(signals, ends, strict=True):
        assert code == (-number if number == KILL else 128 + number), last
        assert number == KILL or re.fullmatch(
            rf"stopped by {number.name}( after step \d+)?; run the same command to resume .*", last)
    record_property("ended while a checkpoint was written", sum(end[2] for end in ends))
    assert faults.finished(alone.context, flags, log)[0] == 0
    assert same(values(f"{tmp_path}/out/{faults.LAST}"), alone.weights)
    assert not same(values(f"{alone.flags['output_dir']}/model.ckpt-58"), alone.weights)
    assert not [name for name in os.listdir(tmp_path / "out") if "temp" in name or name[0] == "."]


def test_a_second_run_is_told_of_the_first_and_a_dead_one_is_in_nobodys_way(alone, tmp_path):
    flags = {**alone.flags, "output_dir": str(tmp_path / "out"), "num_train_epochs": 1000.0}
    first = faults.start(alone.context, flags, tmp_path / "first")
    assert faults.await_file(first, tmp_path / "out", "model.ckpt-2.index")
    code, last = faults.finished(alone.context, flags, tmp_path / "second")
    assert code == 1 and re.match(rf"error: .*: another run is at work there \(process {first.pid} "
                                  r"on \S+ since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d.*\)", last)
    first.kill()
    first.join()
    assert files.LOCK_FILE in os.listdir(tmp_path / "out")
    with files.locked(tmp_path / "out"):
        pass


def test_a_process_that_is_killed_takes_its_copies_with_it(tmp_path):
    """Else they would hold the lock that they share with it."""
    script = ("import os, time\nfrom adapter_bert import files, processes\n"
              f"with files.locked({str(tmp_path)!r}):\n"
              "    processes.map_forked(lambda part: (os.write(1, b'%d\\n' % os.getpid()), "
              "time.sleep(600)), range(2))")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as one:
        pids = {int(one.stdout.readline()) for _ in range(2)}
        one.kill()
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        time.sleep(0.01)
    with files.locked(tmp_path):
        pass


def test_an_interruption_ends_the_copies():
    def work(part):
        if part == 1:
            raise KeyboardInterrupt
        time.sleep(600)
    with pytest.raises(KeyboardInterrupt):
        processes.map_forked(work, range(2))


def test_damaged_checkpoints_are_passed_over(alone, tmp_path, caplog):
    out = shutil.copytree(alone.flags["output_dir"], str(tmp_path / "out"))
    flip(f"{out}/{faults.LAST}.data-00000-of-00001", 8 * 1000)
    os.truncate(f"{out}/model.ckpt-58.index", 100)
    with caplog.at_level("INFO"):
        go(**{**alone.flags, "output_dir": out})
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if line.endswith("model.ckpt-56 is used in its place")]) == 2
    assert "going on from step 56 of 60" in said
    assert same(values(f"{out}/{faults.LAST}"), alone.weights)


def test_a_record_file_deleted_midway(alone, tmp_path, monkeypatch):
    """The pipeline reads some epochs of so little data ahead."""
    flags = {**alone.flags, "output_dir": str(tmp_path / "out"), "num_train_epochs": 30.0,
             "save_checkpoints_steps": 100}
    message = r"train\.tf_record.*was it removed while the run was at work"
    with monkeypatch.context() as patch, pytest.raises(InputError, match=message) as error:
        patch.setattr(loop, "note_scores", lambda folder, *_: pathlib.Path(
            folder, "train.tf_record").unlink(missing_ok=True))
        go(**flags, eval_steps=20)
    assert "\n" not in str(error.value)
    left = initial_values.latest_step(flags["output_dir"])[1]
    go(**flags)
    assert 0 < left < initial_values.latest_step(flags["output_dir"])[1] == 360


# A disk of our own: something else fills it while the run is at work; then it is read-only; then
# there is room again.
DISK = """
mkdir out && mount -t tmpfs -o size=20m tmpfs out
(while [ ! -e out/model.ckpt-4.index ]; do sleep 0.05; done
 cat /dev/zero > out/other) 2> /dev/null &
{command} 2> full; echo $? >> full
ls out > left
mount -o remount,ro out
{command} 2> read_only; echo $? >> read_only
mount -o remount,rw out && rm out/other
{command} 2> room; echo $? >> room
cp -r out kept
"""


def can_mount():
    """Whether this process may have a file system of its own."""
    return not subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                              capture_output=True, check=False).returncode


def test_a_full_disk_and_one_that_cannot_be_written(alone, tmp_path):
    if not can_mount():
        pytest.skip("this machine lets nobody mount a file system in a namespace")
    flags = {**alone.flags, "output_dir": str(tmp_path / "out"), "max_seq_length": 16,
             "train_batch_size": 8, "learning_rate": 0.01, "adapter_size": 4, **REFERENCE}
    command = " ".join([sys.executable, os.path.abspath("run_classifier.py"), *(
        f"--{name}={json.dumps(value) if isinstance(value, bool) else value}"
        for name, value in flags.items())])
    subprocess.run(["unshare", "-rm", "sh", "-c", DISK.format(command=command)], cwd=tmp_path,
                   check=True)
    full, read_only, room = ((tmp_path / name).read_text().splitlines()
                             for name in ("full", "read_only", "room"))
    assert full[-1] == read_only[-1] == "1" and room[-1] == "0", (full, read_only, room)
    assert re.match(r"error: .*No space left on device.*(make room|free some space)", full[-2])
    assert re.match(r"error: .*out.*Read-only file system", read_only[-2])
    assert not any("Traceback" in line for line in full + read_only + room)
    assert any(name.startswith("model.ckpt-") for name in (tmp_path / "left").read_text().split())
    assert any(re.match("going on from step [1-9]", line) for line in room)
    assert same(values(f"{tmp_path}/kept/{faults.LAST}"), alone.weights)
