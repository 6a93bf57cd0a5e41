"""Packs of the tiny BERT, hubs of them, and servers of such a hub: good, broken and lying."""
import contextlib
import functools
import gzip
import hashlib
import http.server
import itertools
import json
import os
import threading
import time

from packs import tiny_pack

from adapter_bert.packs import hub, index, store

HASH = "0" * 64   # the fingerprint of the base of tiny packs


def pack(seed=0, task="SST-2", description=""):
    """A store.Pack with random weights."""
    return tiny_pack(seed, task=task, labels=("negative", "positive"), description=description,
                     metrics={"accuracy": 0.5 + seed / 100}, license="Apache-2.0")


def hub_of(folder, count=2):
    """A hub in a folder, with packs p0, p1, ...; returns its path."""
    for seed in range(count):
        path = f"{folder}/made/p{seed}.zip"
        store.write(path, pack(seed))
        hub.push(path, f"{folder}/hub", f"p{seed}")
    return f"{folder}/hub"


def content_of(*path):
    """The bytes of a file."""
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def files_in(folder):
    """{path: bytes} of every file in a folder, hidden ones too."""
    return {os.path.join(place, name): content_of(place, name)
            for place, _, names in os.walk(folder) for name in names}


def signed(packs):
    """The bytes of an index.json with these dicts as entries, whatever they say."""
    body = ("[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in packs)
            + "\n]}\n").encode("utf-8", "surrogatepass")
    return (index._HEAD % hashlib.sha256(body).hexdigest()).encode() + body


@functools.cache
def bloated():
    """100 MiB of zeros, packed."""
    return gzip.compress(bytes(100 << 20))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.folder; `server.way` says how it treats the packs, see Server."""

    def do_HEAD(self):
        self._serve(head=True)

    def do_GET(self):
        self._serve()

    def log_message(self, *args):
        """Says nothing."""

    def _serve(self, head=False):
        name = os.path.basename(self.path)
        self.server.asked.append((self.command, name, self.headers.get("Range")))
        path = os.path.join(self.server.folder, name)
        if not os.path.exists(path) or not self.path.startswith(self.server.prefix):
            return self._answer(404, b"", head, {"X-Error-Code": "RepoNotFound"})
        content = content_of(path)
        if name == index.INDEX_FILE:
            content = self.server.indexes.pop(0) if self.server.indexes else content
            return self._answer(200, content, head, self._names(content))
        return getattr(self, f"_{self.server.way}")(content, head)

    def _good(self, content, head=False, sent=None):
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].rstrip("-"))
        if start >= len(content):
            return self._answer(416, b"", head, {"Content-Range": f"bytes */{len(content)}"})
        about = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return self._answer(206 if start else 200, content[start:], head,
                            self._names(content) | (about if start else {}), sent)

    def _cut(self, content, head):
        """Half of what is left, whereupon the connection ends."""
        if len(self.server.asked) > self.server.patience:
            return self._good(content)
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].rstrip("-"))
        return self._good(content, sent=(len(content) - start) // 2)

    def _lying(self, content, head):
        return self._good(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])

    def _rangeless(self, content, head):
        sent = len(content) // 2 if len(self.server.asked) <= self.server.patience else None
        return self._answer(200, content, head, {}, sent)

    def _shifted(self, content, head):
        about = {"Content-Range": f"bytes 7-{len(content) - 1}/{len(content)}"}
        return self._answer(206, content[7:], head, about) if self.headers.get(
            "Range") else self._cut(content, head)

    def _failing(self, content, head):
        return self._answer(500, b"no", head)

    def _redirecting(self, content, head):
        return self._answer(302, b"", head, {"Location": self.server.location})

    def _packed(self, content, head):
        return self._answer(200, content, head, {"Content-Encoding": "gzip"})

    def _endless(self, content, head):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"\0" * 65536)

    def _dripping(self, content, head):
        self.send_response(200)
        self.send_header("Content-Length", len(content))
        self.end_headers()
        self._drip(content[place:place + 1] for place in range(len(content)))

    def _dripping_head(self, content, head):
        self._drip(itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x")))

    def _dripping_chunks(self, content, head):
        """Marks between the parts of an answer, without an end."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._drip(itertools.chain([b"1;"], itertools.repeat(b"x")))

    def _drip(self, pieces):
        """Sends a piece now and then, for as long as somebody reads."""
        with contextlib.suppress(OSError):
            for piece in pieces:
                self.wfile.write(piece)
                time.sleep(0.05)

    def _bloated_redirect(self, content, head):
        """A redirect whose body is a hundred times as long when it is unpacked."""
        self._answer(302, bloated(), head, {
            "Location": self.server.location, "Content-Encoding": "gzip"})

    def _names(self, content):
        return {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": "1" * 40}

    def _answer(self, status, content, head=False, headers=(), sent=None):
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": len(content)}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(content[:sent])


class Server(http.server.ThreadingHTTPServer):
    """A server of a hub's folder.

    Attributes:
      way: good, cut, lying, rangeless, shifted, failing, redirecting, packed,
        dripping, dripping_head, dripping_chunks, bloated_redirect or endless.
      patience: count of requests for which `cut` and `rangeless` break the connection.
      indexes: texts to serve as index.json before the one of the folder.
      asked: [(method, file, Range header)].
    """

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.way, self.patience, self.prefix = folder, "good", 1 << 30, "/"
        self.indexes, self.asked, self.location = [], [], "file:///etc/passwd"

    @property
    def address(self):
        """http://host:port."""
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(folder):
    """A Server at work."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
