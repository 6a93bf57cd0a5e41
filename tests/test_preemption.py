"""What a signal does to a run, step by step; whole runs are in test_faults.py."""
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from adapter_bert.errors import Stopped
from adapter_bert.train.preemption import StopHook, handling, stop_at_once

TERM, INT = signal.SIGTERM, signal.SIGINT


def asks_for_the_end(hook):
    asked = []
    hook.after_run(SimpleNamespace(request_stop=lambda: asked.append(True)), None)
    return bool(asked)


def test_the_first_signal_waits_for_the_step_and_the_second_does_not():
    hook = StopHook()
    with handling(hook.note):
        hook.end_run(6)
        assert not asks_for_the_end(hook)
        os.kill(os.getpid(), TERM)
        assert asks_for_the_end(hook)
        with pytest.raises(Stopped, match="stopped by SIGINT; run the same command to resume"):
            os.kill(os.getpid(), INT)
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 7; run the same") as stopped:
        hook.end_run(7)
    assert stopped.value.number == TERM


def test_after_a_checkpoint_no_signal_waits():
    hook = StopHook()
    with hook.saved(), pytest.raises(Stopped, match="SIGTERM"):
        hook.note(TERM, None)
    hook.note(INT, None)
    with pytest.raises(Stopped, match="SIGINT"), hook.saved():
        raise AssertionError("an evaluation began")


def test_handlers_come_back_and_what_is_ignored_stays_so():
    before = signal.getsignal(TERM), signal.signal(INT, signal.SIG_IGN)
    try:
        with handling(stop_at_once):
            assert signal.getsignal(TERM) is stop_at_once
            os.kill(os.getpid(), INT)
        assert signal.getsignal(TERM) is before[0]
    finally:
        signal.signal(INT, before[1])


def test_in_another_thread_signals_stay_the_main_threads():
    seen = []

    def work():
        with handling(stop_at_once):
            seen.append(signal.getsignal(TERM))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(TERM)] and seen[0] is not stop_at_once
