"""What a connection may do: slow or idle clients, and many of one address, do not hold the server.

uvicorn bounds the size of a request's head and how long an idle connection is kept. This adds how
long a head may take to arrive, how long a client may take to read, and connections per address.
"""
import collections
from typing import NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from adapter_bert import addresses
from adapter_bert.serve import strict_json


class Bounds(NamedTuple):
    """Bounds of connections.

    head_seconds: until the head of a request is there.
    read_seconds: for which a client may leave an answer unread.
    per_address: connections of one address; loopback addresses, where proxies are, have no bound.
    """

    head_seconds: float
    read_seconds: float
    per_address: int


def protocol(bounds: Bounds) -> type[H11Protocol]:
    """The class of uvicorn's connections, with bounds; the connections of one class are counted."""
    return type("Bounded", (Connection,), {"bounds": bounds, "open": collections.Counter()})


class Connection(H11Protocol):
    """A connection of uvicorn with bounds; made by `protocol`."""

    bounds: Bounds
    open: collections.Counter

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._head_timer = self._read_timer = None
        self._address, self._unread, self._has_written = "", 0, False

    def connection_made(self, transport):
        """Begins to wait for a request, unless the address has too many connections."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self.open[self._address] += 1
        is_bounded = self._address and not addresses.is_loopback(self._address)
        if is_bounded and self.open[self._address] > self.bounds.per_address:
            self._drop()
        else:
            self._watch_head()

    def connection_lost(self, exc):
        """Ends all timers."""
        self.open[self._address] -= 1
        if not self.open[self._address]:
            del self.open[self._address]
        self._head_timer = _cancelled(self._head_timer)
        self._read_timer = _cancelled(self._read_timer)
        super().connection_lost(exc)

    def data_received(self, data):
        """Goes on with a head or a body."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self):
        """Waits for the next request of the connection."""
        self._has_written = True
        super().on_response_complete()
        self._watch_head()

    def pause_writing(self):
        """The client reads more slowly than the server writes."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self):
        """The client has read."""
        self._read_timer = _cancelled(self._read_timer)
        super().resume_writing()

    def timeout_keep_alive_handler(self):
        """Ends an idle connection; one whose client still reads an answer is not idle."""
        if self.transport.get_write_buffer_size():
            self._watch_reading()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg):
        """Refuses what is no HTTP request, in the form of all refusals."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):   # an answer is under way
            self._drop()
            return
        content = strict_json.dumps({"error": msg})
        head = h11.Response(status_code=400, reason=b"Bad Request", headers=[
            ("Content-Type", "application/json"), ("Content-Length", str(len(content))),
            ("Connection", "close")])
        for event in (head, h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _watch_reading(self):
        """Looks once in a while whether the client reads on."""
        if self._read_timer is None:
            self._unread, self._has_written = self.transport.get_write_buffer_size(), False
            self._read_timer = self.loop.call_later(self.bounds.read_seconds, self._check_reading)

    def _check_reading(self):
        self._read_timer = None
        left = self.transport.get_write_buffer_size()
        if not left:
            self._watch_head()
        elif left >= self._unread and not self._has_written:
            self._drop()
        else:
            self._watch_reading()

    def _watch_head(self):
        """Runs a timer while no request is under way and no answer is left to read."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._head_timer = _cancelled(self._head_timer)
        elif self.transport.get_write_buffer_size():
            self._watch_reading()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.bounds.head_seconds, self._drop)

    def _drop(self):
        self.transport.abort()


def _cancelled(timer) -> None:
    if timer is not None:
        timer.cancel()
