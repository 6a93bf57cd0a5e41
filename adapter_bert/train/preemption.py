"""SIGTERM and SIGINT: what a run does that a machine, a cluster or Ctrl-C wants to end.

While steps are made, the first signal lets the step end and a checkpoint be written; anywhere else,
and from the second signal on, the run ends at once: what it had not written whole, is not there.
"""
import contextlib
import signal
import threading

import tensorflow.compat.v1 as tf

from adapter_bert.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def handling(handler):
    """Gives both signals to a handler while the block runs, where this thread gets signals.

    A signal that the process was started to ignore, as a shell's background job does, stays so.
    """
    wanted = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        wanted = []
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def stop_at_once(number, frame=None):
    """Raises Stopped; a handler of signals."""
    del frame
    raise Stopped(number, f"stopped by {signal.Signals(number).name}; run the same command to "
                          "resume from the last checkpoint, if there is one")


class StopHook(tf.train.SessionRunHook):
    """Ends training after the step in which a signal came, so that a checkpoint is written."""

    def __init__(self):
        self._number = None
        self._is_saved = False

    def note(self, number, frame):
        """Remembers the first signal; a handler of signals."""
        if self._number or self._is_saved:
            stop_at_once(number, frame)
        self._number = number

    def after_run(self, run_context, run_values):
        """Asks for the end where a signal came."""
        del run_values
        if self._number:
            run_context.request_stop()

    @contextlib.contextmanager
    def saved(self):
        """A checkpoint of this step is there: a signal, the one that came too, ends the block."""
        if self._number:
            stop_at_once(self._number)
        self._is_saved = True
        yield
        self._is_saved = False

    def end_run(self, step):
        """Raises Stopped where a signal came, after the checkpoint of `step` was written."""
        if self._number:
            raise Stopped(self._number, f"stopped by {signal.Signals(self._number).name} after "
                                        f"step {step}; run the same command to resume there")
