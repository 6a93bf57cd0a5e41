"""Clients that are slow, silent or many: the server drops them and serves the others."""
import contextlib
import socket
import time

import pytest
from banks import FakeBank, serving

from adapter_bert import addresses
from adapter_bert.serve import server

GET = b"GET /page/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def connected(client, count=1):
    """Sockets that are connected to a server."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", client.port), 20))
               for _ in range(count)]


def is_dropped(peer):
    """Whether the server ends a connection within the time of a socket."""
    try:
        while peer.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("beginning", [b"", b"GET / HT", GET[:-2], GET + GET[:9]])
def test_a_head_that_does_not_come_ends_the_connection(tiny_dir, monkeypatch, beginning):
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    with serving(FakeBank(tiny_dir)) as client, connected(client) as (peer,):
        peer.sendall(beginning)
        assert is_dropped(peer)


def test_a_dripping_head_ends_the_connection(tiny_dir, monkeypatch):
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    with serving(FakeBank(tiny_dir)) as client, connected(client) as (peer,), pytest.raises(
            ConnectionError):
        for _ in range(400):
            peer.sendall(b"G")
            time.sleep(0.05)


def test_clients_that_do_not_read_hold_no_place(tiny_dir):
    with serving(FakeBank(tiny_dir), request_timeout=3, max_requests=4) as client, connected(
            client, 8) as peers:
        for peer in peers:
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    peer.sendall(GET * 50)
        busy, end = False, time.monotonic() + 60
        while time.monotonic() < end:
            status = client.json("GET", "/v1/packs")[0]
            if busy and status == 200:
                break
            busy |= status == 503
            time.sleep(0.02)
        assert busy and status == 200


def test_connections_of_an_address_are_bounded(tiny_dir, monkeypatch):
    with serving(FakeBank(tiny_dir), max_connections_per_address=3) as client:
        with connected(client, 5) as peers:   # of a loopback address
            for peer in peers:
                peer.sendall(GET)
                assert peer.recv(12) == b"HTTP/1.1 200"
        monkeypatch.setattr(addresses, "is_loopback", lambda address: False)
        while client.server.server_state.connections:
            time.sleep(0.02)
        with connected(client, 3) as peers, connected(client) as (other,):
            peers[0].sendall(GET)
            assert peers[0].recv(12) == b"HTTP/1.1 200"
            assert is_dropped(other)


def test_a_client_that_reads_slowly_gets_all_of_it(tiny_dir, monkeypatch):
    """Also when that takes longer than an idle connection, a head, or the pause of a reader may."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    with serving(FakeBank(tiny_dir), request_timeout=5) as client, connected(client) as (peer,):
        client.server.config.timeout_keep_alive = 1
        peer.settimeout(5)
        peer.sendall(GET * 400)
        received = b""
        with contextlib.suppress(TimeoutError):
            while received.count(b"HTTP/1.1 200") < 400 and (piece := peer.recv(1 << 16)):
                received += piece
                time.sleep(0.03)
        assert received.count(b"HTTP/1.1 200") == 400
