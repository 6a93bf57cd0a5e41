"""What requests make the server log: bounded, since whoever sends them chooses how many."""
import collections
import contextlib
import logging
import time
from collections.abc import Iterator

log = logging.getLogger("adapter_bert.serving.requests")
PER_MINUTE = 20   # lines of a kind
UVICORN = "uvicorn.error"   # which also logs malformed requests


class AFewPerMinute(logging.Filter):
    """Passes so many records of each message in a minute, and says how many it left out."""

    def __init__(self, most: int = PER_MINUTE):
        super().__init__()
        self._most, self._counts = most, collections.Counter[str]()
        self._minute = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._counts = minute, collections.Counter()
        self._counts[record.msg] += 1
        if self._counts[record.msg] == self._most:
            record.msg = f"{record.msg} (more of these in this minute are not logged)"
        return self._counts[record.msg] <= self._most


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Bounds the lines that requests make while the server runs."""
    bound = AFewPerMinute()
    for name in (log.name, UVICORN):
        logging.getLogger(name).addFilter(bound)
    try:
        yield
    finally:
        for name in (log.name, UVICORN):
            logging.getLogger(name).removeFilter(bound)
