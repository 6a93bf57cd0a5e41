"""The stages of a request, each of which starts the next one in the thread where it ends."""
import concurrent.futures
import weakref
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
        turn. Of one that runs, the next stage is still started, and cancelled at once, so that the
        batcher gives up the rows that were reserved.
    """

    def __init__(self, *stages: Callable[..., Future]):
        self.outcome: Future = concurrent.futures.Future()
        self._left = list(stages)
        self._results: list[Any] = []
        self._current: Future | None = self._left.pop(0)()
        # Texts and answers must be freed without waiting for the garbage collector: no cycles.
        weak = weakref.ref(self)
        self.outcome.add_done_callback(lambda outcome: _cancel(weak()))
        self._current.add_done_callback(self._go_on)

    def cancel(self) -> None:
        """Cancels the stage that waits for its turn."""
        if current := self._current:
            current.cancel()

    def _go_on(self, finished: Future) -> None:
        """Starts the next stage, or settles the outcome."""
        error = None
        if not finished.cancelled():   # as the outcome was, otherwise
            error = finished.exception()
            if not error:
                self._results.append(finished.result())
                if self._left:
                    error = self._start_next()
                    if not error:
                        return
        results, outcome = self._results, self.outcome
        self._current, self._left, self._results = None, [], []
        if outcome.set_running_or_notify_cancel():
            if error:
                outcome.set_exception(error)
            else:
                outcome.set_result(results[-1])

    def _start_next(self) -> BaseException | None:
        """Starts the next stage; returns what that raised."""
        try:
            following = self._left.pop(0)(*self._results)
        except BaseException as error:
            return error
        self._current = following
        if self.outcome.cancelled():
            following.cancel()
        following.add_done_callback(self._go_on)
        return None


def _cancel(stages: Stages | None) -> None:
    if stages and stages.outcome.cancelled():
        stages.cancel()
