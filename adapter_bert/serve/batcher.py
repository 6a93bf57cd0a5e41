"""Rows that arrive together are computed together, whatever their tasks, by one thread.

    reserve(count), submit(rows) --queue, bounded--> a window of the oldest rows
      --by length--> batches --predict--> a Future of each request
"""
import collections
import concurrent.futures
import itertools
import threading
import time

from adapter_bert.serve import requests_log
from adapter_bert.serve.refusal import busy

WINDOW = 4   # batches' worth of rows that are sorted by length, so that a batch has little padding


class Failed(Exception):
    """The batch of some rows could not be computed; the log has the reason."""


class Batcher:
    """A queue of rows and the thread that computes them.

    Args:
      predict: (list of rows) -> list of an answer each; called by one thread only.
      batch_rows: the most rows of a call.
      wait_seconds: how long a row waits for others.
      queue_rows: the most rows that wait.
      seen: (rows, seconds) -> None, told of every batch.
    """

    def __init__(self, predict, batch_rows, wait_seconds, queue_rows, seen=None):
        self._predict, self._batch_rows = predict, batch_rows
        self._wait_seconds, self._queue_rows, self._seen = wait_seconds, queue_rows, seen
        self._changed = threading.Condition()
        self._waiting, self._calls = collections.deque(), collections.deque()
        self._rows, self._taken, self._ends = 0, 0, False   # rows in the queue; with the reserved
        self._thread = threading.Thread(target=self._work, name="predict", daemon=True)
        self._thread.start()

    @property
    def waiting(self):
        """Count of the rows that are cut into word pieces or wait."""
        return self._taken

    def check_room(self, count=1):
        """Raises Refusal where `count` more rows would not be taken."""
        if self._ends:
            raise busy("the server is shutting down")
        if self._taken + count > self._queue_rows:
            raise busy(f"too many texts wait already ({self._taken}); try again in a second")

    def reserve(self, count):
        """Keeps room for rows, until they are submitted or released.

        So a request is refused before its texts are cut into word pieces.

        Raises:
          Refusal: too many rows wait already, or the server ends.
        """
        with self._changed:
            self.check_room(count)
            self._taken += count

    def release(self, count):
        """Gives up room that was kept."""
        with self._changed:
            self._taken -= count

    def submit(self, rows):
        """A Future, which may be cancelled, of the list of answers to rows that have room."""
        work = _Work(rows)
        with self._changed:
            if self._ends:
                raise busy("the server is shutting down")
            self._waiting.append(work)
            self._rows += len(rows)
            self._changed.notify()
        return work.future

    def call(self, function):
        """A Future of function(), which the thread calls between two batches."""
        future = concurrent.futures.Future()
        with self._changed:
            if self._ends:
                raise busy("the server is shutting down")
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def close(self):
        """Takes nothing new, and returns when all that waits is done."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join()

    def _work(self):
        while self._await():
            with self._changed:
                calls, self._calls = self._calls, collections.deque()
                works = self._take()
            for function, future in calls:
                _settle(future, function)
            self._compute(works)

    def _await(self):
        """Waits until there is something to do, and then for more; False at the end."""
        with self._changed:
            while not (self._waiting or self._calls or self._ends):
                self._changed.wait()
            while self._waiting and not self._calls and not self._ends:
                left = self._waiting[0].arrived + self._wait_seconds - time.monotonic()
                if left <= 0 or self._rows >= self._batch_rows:
                    break
                self._changed.wait(left)
            return bool(self._waiting or self._calls)

    def _take(self):
        """The oldest requests, of a window of rows or of one request that has more."""
        works, rows = [], 0
        while self._waiting and (not works or rows + len(self._waiting[0].rows)
                                 <= WINDOW * self._batch_rows):
            works.append(self._waiting.popleft())
            rows += len(works[-1].rows)
        self._rows -= rows
        self._taken -= rows
        return works

    def _compute(self, works):
        places = [(work, place) for work in works for place in range(len(work.rows))]
        places.sort(key=lambda one: one[0].rows[one[1]].length)
        places = iter(places)
        while batch := list(itertools.islice(
                (one for one in places if not one[0].future.done()), self._batch_rows)):
            self._compute_batch(batch)

    def _compute_batch(self, batch):
        start = time.monotonic()
        try:
            answers = self._predict([work.rows[place] for work, place in batch])
            for (work, place), answer in zip(batch, answers, strict=True):
                work.put(place, answer)
        except Exception:
            requests_log.log.exception("a batch of %d rows failed", len(batch))
            for work, _ in batch:
                work.fail()
        if self._seen:
            self._seen(len(batch), time.monotonic() - start)


class _Work:
    """The rows of a request, and the answers that are there already."""

    def __init__(self, rows):
        self.rows, self.arrived = rows, time.monotonic()
        self.future = concurrent.futures.Future()
        self._answers, self._left = [None] * len(rows), len(rows)

    def put(self, place, answer):
        self._answers[place] = answer
        self._left -= 1
        if not self._left:
            _settle(self.future, lambda: self._answers)

    def fail(self):
        if not self.future.done():
            _settle(self.future, self._raise)

    def _raise(self):
        raise Failed("the model failed on these texts; the server's log says why")


def _settle(future, function):
    """Sets a Future to what function() returns or raises, unless nobody waits for it."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
