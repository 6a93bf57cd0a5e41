"""Where a hub is: a folder, such a folder on the web, or a repository of Hugging Face's hub.

Imports no TensorFlow, so that listing is fast. Nothing here trusts what it reads: an index and the
bytes of a pack are only carried, in bounds; packs/index.py and packs/hub.py check them.
"""
import contextlib
import io
import os
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import huggingface_hub
import requests
import urllib3

from adapter_bert import addresses, files
from adapter_bert.errors import InputError
from adapter_bert.packs import index
from adapter_bert.plain_text import plain

PAUSES = (0.5, 1.0, 2.0, 4.0)   # seconds before another try, after a connection broke
TIMEOUT = (10, 60)              # seconds to connect, and between two pieces of an answer
BLOCK = 1 << 14                 # bytes
# The lowest rate of a download, in bytes per second, after so many seconds.
LEAST_RATE, PATIENCE = 4096, 20
MOST_SECONDS = 1800             # for one download, with all tries
HEAD_SECONDS = 60               # until the head of an answer is there
MOST_REDIRECTS = 5
_REPOSITORY = r"hf://([A-Za-z0-9._-]+/[A-Za-z0-9._-]+)(?:@([A-Za-z0-9._/-]+))?"


class Mismatch(InputError):
    """What came is not what the index says, as when a pack was replaced a moment ago."""


class Broken(Exception):
    """A connection ended too early, or the server is busy: another try may do."""


_PASSING = (Broken, requests.ConnectionError, requests.Timeout,
            requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)


class Source(NamedTuple):
    """A hub.

    read_index: () -> the bytes of its index.json.
    fetch: (entry, file) -> None; brings a file, open for reading and writing, which may hold the
      beginning of the pack already, to entry.bytes bytes.
    """

    read_index: Callable[[], bytes]
    fetch: Callable[[index.Entry, BinaryIO], None]


def source_of(hub):
    """The Source at an address.

    Raises:
      InputError: there can be no hub at such an address.
    """
    scheme, mark, _ = hub.partition("://")
    if not hub.strip():
        raise InputError("the hub has no name; give a folder, https://HOST/FOLDER or hf://OWNER/REPO")
    if not mark:
        return _folder(hub)
    if scheme.lower() not in _SOURCES:
        raise InputError(f"{hub}: hubs are folders, https:// and hf:// addresses, not {scheme}://")
    return _SOURCES[scheme.lower()](hub)


def _folder(folder):
    def fetch(entry, file):
        with files.open_plain(os.path.join(folder, entry.file), index.PACK_LIMIT) as there:
            _copy(there, file, entry)
    return Source(lambda: index.read_bytes(folder), fetch)


def _hugging_face(address):
    match = re.fullmatch(_REPOSITORY, address)
    if not match or ".." in address:
        raise InputError(f"{address}: not of the form hf://OWNER/REPO or hf://OWNER/REPO@REVISION")

    def path_of(file, limit):
        where = {"repo_id": match[1], "filename": file, "revision": match[2]}
        try:
            size = huggingface_hub.hf_hub_download(**where, dry_run=True).file_size
            if size is not None and size > limit:
                raise Mismatch(f"{address}: {file} has {size:,} bytes, more than {limit:,}")
            return os.path.realpath(huggingface_hub.hf_hub_download(**where))
        except InputError:
            raise
        except Exception as error:   # the library's errors have no class in common
            raise InputError(f"{address}: {file} cannot be had: {_words(error)}") from error

    def read_index():
        with open(path_of(index.INDEX_FILE, index.INDEX_LIMIT), "rb") as file:
            return file.read(index.INDEX_LIMIT + 1)

    def fetch(entry, file):
        with open(path_of(entry.file, entry.bytes), "rb") as there:
            _copy(there, file, entry)
    return Source(read_index, fetch)


def _web(address):
    try:
        parts = urllib.parse.urlsplit(address)
        host = parts.hostname
    except ValueError as error:
        raise InputError(f"{address}: not an address ({error})") from error
    if not host or parts.query or parts.fragment:
        raise InputError(f"{address}: not the address of a folder; give https://HOST/FOLDER")
    folder = address.rstrip("/")

    def read_index():
        url = f"{folder}/{index.INDEX_FILE}"
        return _persist(url, lambda deadline: _read(url, index.INDEX_LIMIT, deadline))

    def fetch(entry, file):
        url = f"{folder}/{entry.file}"
        _persist(url, lambda deadline: _continue(url, entry, file, deadline))
    return Source(read_index, fetch)


_SOURCES = {"http": _web, "https": _web, "hf": _hugging_face}


def _persist(url, attempt):
    """What attempt(deadline) returns; after a broken connection it is called again a few times."""
    deadline = time.monotonic() + MOST_SECONDS
    for number, pause in enumerate((*PAUSES, None), start=1):
        try:
            return attempt(deadline)
        except _PASSING as error:
            left = deadline - time.monotonic()
            if pause is None or pause > left:
                tries = f"{number} attempt{'s' * (number > 1)}"
                why = _words(error) if left > 0 else (
                    f"a download may take {MOST_SECONDS // 60} minutes")
                resumes = "" if url.endswith(index.INDEX_FILE) else "; downloads resume"
                raise InputError(f"could not download {url} after {tries}: {why}; "
                                 f"try again later{resumes}") from error
            time.sleep(pause)
        except InputError:
            raise
        except (requests.RequestException, ValueError) as error:
            raise InputError(f"{url}: {_words(error)}") from error
    raise AssertionError("the last try returns or raises")


def _read(url, limit, deadline):
    """The bytes at a URL, at most `limit`."""
    content = io.BytesIO()
    with _get(url, deadline) as answer:
        _receive(_blocks(answer, url), content, limit, url)
    return content.getvalue()


def _continue(url, entry, file, deadline):
    """Gets the rest of a pack, from where `file` ends."""
    start = _resume_at(file, entry.bytes)
    if start == entry.bytes:
        return
    with _get(url, deadline, start) as answer:
        if answer.status_code == 200:    # the whole, whatever was asked for
            _empty(file)
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _empty(file)
            raise Broken("the server cannot go on from where the last connection ended")
        _receive(_blocks(answer, url), file, entry.bytes, url)
    if file.tell() < entry.bytes:
        raise Broken(f"the answer ended after {file.tell():,} of {entry.bytes:,} bytes")


@contextlib.contextmanager
def _get(url, deadline, start=0):
    """The answer to a GET of a URL from byte `start` on: its status is 200, 206 or 416.

    Its connection ends at the deadline of time.monotonic().
    """
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with Session() as session:
        connections = Connections()
        for scheme in ("http://", "https://"):
            session.mount(scheme, connections)
        left = max(0, deadline - time.monotonic())
        with connections.cut_after(min(HEAD_SECONDS, left)):
            answer = _redirected(session, url, headers)
        with answer, connections.cut_after(left):
            _check_status(answer, url, (200, 206, 416) if start else (200,))
            yield answer


class Session(requests.Session):
    """A session that follows no redirect; requests would read the whole body of one."""

    def resolve_redirects(self, *args, **options):
        """See requests."""
        del args, options
        return iter(())


class Connections(requests.adapters.HTTPAdapter):
    """Connections of a session that are cut when a time is over.

    A timeout of requests bounds the time between two bytes only: a server that sends a byte now and
    then could take days for a TLS handshake, the head of an answer, or the marks between its parts.
    """

    def __init__(self):
        self._sockets: list[socket.socket] = []
        self._is_over = False
        super().__init__()

    @contextlib.contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Ends every connection if the block takes longer; what waits for bytes of it fails."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def init_poolmanager(self, *args, **options):
        """See requests."""
        super().init_poolmanager(*args, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy, **options):
        """See requests."""
        is_known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if not is_known:
            self._watch(manager)
        return manager

    def close(self):
        """See requests."""
        super().close()
        while self._sockets:
            self._sockets.pop().close()

    def note(self, made: socket.socket) -> None:
        """Keeps a second handle of a socket; the first one is gone once TLS has wrapped it."""
        self._sockets.append(made.dup())
        if self._is_over:
            self._cut()

    def _cut(self) -> None:
        self._is_over = True
        for one in list(self._sockets):
            with contextlib.suppress(OSError):   # it ended already
                one.shutdown(socket.SHUT_RDWR)

    def _watch(self, manager: urllib3.PoolManager) -> None:
        """Has every connection of a manager of pools noted."""
        pools: dict[str, Any] = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": noted(
                pool.ConnectionCls, self.note)})
            for scheme, pool in pools.items()}


def noted(connection: type, note: Callable[[socket.socket], None]) -> type:
    """A class of urllib3's connections that hands each new socket to `note`."""
    class Noted(connection):
        def _new_conn(self):
            made = super()._new_conn()
            note(made)
            return made
    return Noted


def _redirected(session, url, headers):
    """The answer to a GET, of the address to which the server redirects where it does."""
    place = url
    for _ in range(1 + MOST_REDIRECTS):
        answer = session.get(place, headers=headers, timeout=TIMEOUT, stream=True,
                             allow_redirects=False)
        if not answer.is_redirect:
            return answer
        answer.close()
        session.close()   # the connection, too; the session can be used further
        place = urllib.parse.urljoin(place, answer.headers["location"])
        _check_redirect(url, place)
    raise InputError(f"{url}: more than {MOST_REDIRECTS} redirects")


def _check_redirect(url, place):
    """InputError for a redirect to an insecure address, or into a network that strangers cannot
    reach: a hub could make a server read what is meant for its own network alone."""
    if "\\" in place or "@" in place or not place.isprintable():   # which programs read in two ways
        raise InputError(f"{url}: redirects to {plain(place, 200)}, an address of an unusual form")
    here, there = urllib.parse.urlsplit(url), urllib.parse.urlsplit(place)
    schemes = ("https",) if here.scheme.lower() == "https" else ("http", "https")
    if there.scheme not in schemes or not there.hostname:
        raise InputError(f"{url}: redirects to {plain(place, 200)}, which is not "
                         f"{' or '.join(f'{scheme}://' for scheme in schemes)}")
    if there.hostname != here.hostname and not addresses.is_public(there.hostname):
        raise InputError(f"{url}: redirects to {plain(there.hostname, 200)}, an address of a "
                         "private network; give the hub's own address")


def _blocks(answer, url: str) -> Iterator[bytes]:
    """The bytes of an answer as they arrive: a full block could take a slow server hours.

    Raises:
      InputError: they do not come at LEAST_RATE.
    """
    start, count = time.monotonic(), 0
    while block := answer.raw.read1(BLOCK):
        count += len(block)
        seconds = time.monotonic() - start
        if seconds > PATIENCE and count < LEAST_RATE * seconds:
            raise InputError(f"{url}: gave up after {count:,} bytes in {seconds:.0f} s: the server "
                             f"sends less than {LEAST_RATE:,} bytes a second; try again later")
        yield block


def _check_status(answer, url, wanted):
    status = answer.status_code
    if status == 429 or status >= 500:
        raise Broken(f"the server says {status}")
    if status not in wanted:
        raise InputError(f"{url}: the server says {status}; is the address right?")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise InputError(f"{url}: the server compresses its responses although identity encoding "
                         "was requested")


def _copy(there, file, entry):
    """Copies a file over `file`."""
    _empty(file)
    _receive(iter(lambda: there.read(BLOCK), b""), file, entry.bytes, entry.file)


def _receive(blocks, file, limit, where):
    """Writes blocks of bytes to a file, which gets no longer than `limit`."""
    for block in blocks:
        if file.tell() + len(block) > limit:
            raise Mismatch(f"{where}: more than the {limit:,} bytes that it may have; nothing of "
                           "it was kept")
        file.write(block)


def _resume_at(file, most):
    """The count of bytes in a file, which is then at its end; it is emptied beyond `most`."""
    if file.seek(0, os.SEEK_END) > most:
        _empty(file)
    return file.tell()


def _empty(file):
    file.seek(0)
    file.truncate()


def _words(error):
    """What an error of a library says, in one short line of printable characters."""
    return plain((str(error).strip() or type(error).__name__).split("\n")[0], 300)
