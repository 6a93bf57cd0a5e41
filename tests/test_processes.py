"""What comes back from worker processes: results, errors, and nothing that stays behind."""
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from adapter_bert import processes
from adapter_bert.data import example_codec, records
from adapter_bert.data.features import feature_spec
from adapter_bert.errors import InputError


def test_results_come_in_the_order_of_the_arguments():
    base = 10   # a closure, which cannot be pickled
    pids = processes.map_forked(lambda number: (base + number, os.getpid()), range(3))
    assert [number for number, _ in pids] == [10, 11, 12]
    assert os.getpid() not in {pid for _, pid in pids}


@pytest.mark.parametrize("error", [InputError("line 7: bad"), OSError(28, "no space", "file"),
                                   ZeroDivisionError("one")])
def test_an_error_of_a_worker_is_raised_here_and_ends_the_others(error, capfd):
    def work(number):
        if number == 1:
            raise error
        time.sleep(600)
    with pytest.raises(type(error)) as raised:
        processes.map_forked(work, range(2))
    assert str(raised.value) == str(error) and getattr(raised.value, "filename", None) == getattr(
        error, "filename", None)
    assert not multiprocessing.active_children() and capfd.readouterr() == ("", "")


def test_a_worker_that_is_killed_is_an_error():
    def work(number):
        if number:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    with pytest.raises(RuntimeError, match="worker process was killed"):
        processes.map_forked(work, range(2))
    assert not multiprocessing.active_children()


def test_a_bad_example_of_a_large_file_is_one_error(tmp_path, monkeypatch):
    """From so many examples on, worker processes write the parts of a record file."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def rows_between(start, stop):
        if not start:
            raise InputError("question 1,234: its question leaves no room for the context")
        ids = np.ones(3 * stop, np.int32)
        yield example_codec.Rows(np.full(stop, 3), {"input_ids": ids, "segment_ids": ids,
                                               "index": np.arange(stop)})
    with pytest.raises(InputError, match="^question 1,234"):
        records.write_once(str(tmp_path / "train.tf_record"), rows_between, 2000,
                           feature_spec("classification", False), "f")
    assert os.listdir(tmp_path) == []
