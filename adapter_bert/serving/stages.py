"""The stages of a request, each of which starts the next one in the thread where it ends."""
import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Stages:
    """Functions of all results before that give a Future each, one after the other.

    The event loop waits for `outcome` alone: waking it between stages costs several percent of a
    request of one row.

    Args:
      *stages: functions (results of the stages before) -> Future.

    Attributes:
      outcome: Future of the last stage's result. Cancelling it cancels the stage that waits for its
        turn; one that runs ends, and the next is started and cancelled, which frees what it took.
    """

    def __init__(self, *stages: Callable[..., Future]):
        self.outcome: Future = concurrent.futures.Future()
        self._left = list(stages)
        self._results: list[Any] = []
        self._current = self._left.pop(0)()
        self.outcome.add_done_callback(lambda outcome: outcome.cancelled()
                                       and self._current.cancel())
        self._current.add_done_callback(self._go_on)

    def _go_on(self, finished: Future) -> None:
        """Starts the next stage, or settles the outcome."""
        if finished.cancelled():
            return   # as the outcome was
        try:
            self._results.append(finished.result())
            if self._left:
                self._start_next()
            elif self.outcome.set_running_or_notify_cancel():
                self.outcome.set_result(self._results[-1])
        except BaseException as error:
            if self.outcome.set_running_or_notify_cancel():
                self.outcome.set_exception(error)

    def _start_next(self) -> None:
        self._current = self._left.pop(0)(*self._results)
        if self.outcome.cancelled():
            self._current.cancel()
        self._current.add_done_callback(self._go_on)
