"""What requests make the server log: bounded, since whoever sends them chooses how many."""
import collections
import contextlib
import logging
import time
from collections.abc import Hashable, Iterator

log = logging.getLogger("adapter_bert.serve.requests")
PER_MINUTE, MOST = 20, 200   # lines of a kind, and of all kinds
# uvicorn logs malformed requests, asyncio what a connection raised.
OTHERS = ("uvicorn.error", "asyncio")


class AFewPerMinute(logging.Filter):
    """Passes PER_MINUTE records of each kind in a minute, and says where it leaves out more.

    A kind is a message with the place where its exception was raised, so that one fault, which a
    stranger can cause at will, does not hide another.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: collections.Counter[Hashable] = collections.Counter()
        self._minute = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._counts = minute, collections.Counter()
        kind = record.msg, _place(record)
        self._counts[kind] += 1
        if self._counts[kind] == PER_MINUTE:
            record.msg = f"{record.msg} (more of these in this minute are not logged)"
        return self._counts[kind] <= PER_MINUTE and len(self._counts) <= MOST // PER_MINUTE


def _place(record: logging.LogRecord) -> Hashable:
    """The class of a record's exception and the line that raised it."""
    kind, _, trace = record.exc_info or (None, None, None)
    while trace and trace.tb_next:
        trace = trace.tb_next
    return kind, trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Bounds the lines that requests make while the server runs."""
    bound = AFewPerMinute()
    for name in (log.name, *OTHERS):
        logging.getLogger(name).addFilter(bound)
    try:
        yield
    finally:
        for name in (log.name, *OTHERS):
            logging.getLogger(name).removeFilter(bound)
