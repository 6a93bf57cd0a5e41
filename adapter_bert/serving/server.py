"""The server: bank, batches, packs and addresses put together, from the first byte to SIGTERM."""
import contextlib
import logging
import os
import signal
import socket
import threading

import uvicorn

from adapter_bert.errors import InputError
from adapter_bert.serving import app, connections, rest
from adapter_bert.serving.batching import Batcher
from adapter_bert.serving.catalogue import Catalogue
from adapter_bert.serving.metrics import Metrics
from adapter_bert.serving.models import Models

TOKEN_VARIABLE = "ADAPTER_BERT_ADMIN_TOKEN"
LEAST_TOKEN = 16
HEAD_SECONDS = 10   # until the head of a request is there
LAST_SECONDS = 2   # after the grace period, until the process ends whatever is under way
BACKLOG = 1024   # connections that wait to be accepted


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
      bank: serving.bank.Bank.

    Raises:
      InputError: no packs, no token, or no such address to listen at.
    """
    listening = listen(settings.host, settings.port)
    with contextlib.closing(listening), running(settings, bank, token(settings)) as server:
        listening.listen(BACKLOG)
        host, port = listening.getsockname()[:2]
        # uvicorn raises the signal again when it is done; the process is to end with 0.
        signal.signal(signal.SIGTERM, server.handle_exit)
        print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)
        server.run(sockets=[listening])


@contextlib.contextmanager
def running(settings, bank, admin_token=None):
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
        parts = app.Parts(asked, packs, batcher, metrics, settings, admin_token, ending.is_set)
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


def token(settings):
    """The admin token of a file or of the environment; None without either.

    Raises:
      InputError: it is too short to be a secret, or cannot be sent.
    """
    where, text = TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE, "")
    if settings.admin_token_file:
        where = settings.admin_token_file
        try:
            with open(where, encoding="utf-8") as file:
                text = file.read(10_000).strip()
        except (OSError, ValueError) as error:
            raise InputError(f"{where}: cannot be read as text") from error
    elif not text:
        return None
    if len(text) < LEAST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise InputError(f"{where}: not {LEAST_TOKEN} or more letters, digits and signs in one "
                         "line; make it with openssl rand -hex 32")
    return text
