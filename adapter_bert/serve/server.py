"""The server: bank, batches, packs and addresses put together, from the first byte to SIGTERM."""
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading

import uvicorn

from adapter_bert import addresses
from adapter_bert.errors import InputError
from adapter_bert.serve import app, bearer_tokens, connections, requests_log, rest
from adapter_bert.serve.batcher import Batcher
from adapter_bert.serve.prometheus_metrics import Metrics
from adapter_bert.serve.registry import Catalogue
from adapter_bert.serve.requests import Models

HEAD_SECONDS = 10   # until the head of a request is there
LAST_SECONDS = 2   # after the grace period, until the process ends whatever is under way
BACKLOG = 1024   # connections that wait to be accepted
# Until Python lets another thread go on. The event loop waits for it about ten times a request, as
# long as a thread reads or writes JSON; with Python's 5 ms a health check took up to 0.4 s.
SWITCH_SECONDS = 0.0005


class Server(uvicorn.Server):
    """uvicorn's server, which says at once that it has been told to end, and ends in time.

    Attributes:
      ending: threading.Event.
    """

    def __init__(self, config, ending):
        super().__init__(config)
        self.ending = ending

    def handle_exit(self, sig, frame):
        """Takes nothing new from here on; uvicorn finishes what it has.

        A thread that waits, as for a slow hub, would keep the process for as long as it likes.
        """
        if not self.ending.is_set():
            last = threading.Timer(self.config.timeout_graceful_shutdown + LAST_SECONDS, _end,
                                   [130 if sig == signal.SIGINT else 0])
            last.daemon = True
            last.start()
        self.ending.set()
        super().handle_exit(sig, frame)


def _end(code):
    """Ends the process without waiting for its threads."""
    logging.warning("the time to shut down is over; what is still under way is dropped")
    os._exit(code)


def serve(settings, bank):
    """Serves until SIGTERM or Ctrl-C, and finishes what it has taken by then.

    Args:
      settings: settings.Settings.
      bank: serve.engine.Bank.

    Raises:
      InputError: no packs, no token, or no such address to listen at.
    """
    admin = bearer_tokens.admin(settings.admin_token_file)
    client = bearer_tokens.client(settings.client_token_file, admin)
    listening = listen(settings.host, settings.port)
    if not addresses.is_loopback(settings.host) and client is None:
        logging.warning("--host=%s: every machine that reaches it may send requests, which are not "
                        "encrypted; see --client_token_file", settings.host)
    with contextlib.closing(listening), requests_log.limited(), running(
            settings, bank, admin, client) as server:
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()   # a collection need not look at TensorFlow's million objects, for 0.2 s
        listening.listen(BACKLOG)
        host, port = listening.getsockname()[:2]
        # uvicorn raises the signal again when it is done; the process is to end with 0.
        signal.signal(signal.SIGTERM, server.handle_exit)
        print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)
        server.run(sockets=[listening])


@contextlib.contextmanager
def running(settings, bank, admin_token=None, client_token=None):
    """A Server with its packs loaded, ready to run; its batches end after the block."""
    ending = threading.Event()
    metrics = Metrics(lambda: batcher.waiting, lambda: len(packs.names()))
    batcher = Batcher(bank.predict, settings.batch_rows, settings.batch_wait_ms / 1000,
                      settings.queue_rows, metrics.batch)
    with contextlib.closing(batcher):
        packs = Catalogue(bank, lambda change: batcher.call(change).result(), settings.hub,
                          settings.cache_dir, settings.model_name, settings.max_pack_bytes)
        packs.start(settings.names())
        limits = rest.Limits(settings.max_rows, settings.max_characters, settings.max_body_bytes)
        asked = Models(bank, packs, settings.model_name, limits, batcher)
        parts = app.Parts(asked, packs, batcher, metrics, settings, admin_token, client_token,
                          ending.is_set)
        yield Server(uvicorn.Config(
            app.make_app(parts), log_level="warning", access_log=False, ws="none", lifespan="off",
            http=connections.protocol(connections.Bounds(
                HEAD_SECONDS, settings.request_timeout, settings.max_connections_per_address)),
            loop="asyncio", server_header=False, backlog=BACKLOG,
            timeout_graceful_shutdown=int(settings.request_timeout) + 5), ending)


def listen(host, port):
    """A socket at an address, which does not listen yet; InputError where none can be."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sets TCP_NODELAY only where the protocol is named; without it the body of an
        # answer waits 40 ms for the receipt of its head.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        return listening
    except (OSError, OverflowError) as error:
        raise InputError(f"--host={host} --port={port}: cannot listen there "
                         f"({getattr(error, 'strerror', None) or error})") from error
