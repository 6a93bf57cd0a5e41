"""A bank that computes its answers from the texts, without TensorFlow, and a server around one.

`python tests/banks.py BERT_DIR HUB SECONDS TIMEOUT` serves such a bank, whose batches take SECONDS,
on a port that it prints.
"""
import contextlib
import http.client
import json
import signal
import sys
import threading
import time
import zlib
from typing import NamedTuple

import numpy as np

from adapter_bert.bert import tokenization
from adapter_bert.errors import InputError, exit_on_input_error
from adapter_bert.packs.answers import ANSWERS
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.store import Pack
from adapter_bert.serve import server
from adapter_bert.serve.server_settings import Settings

TOKEN = "a-token-of-some-length"


class Task(NamedTuple):
    name: str
    manifest: object
    pack: Pack


class Row(NamedTuple):
    task: Task
    text: object
    input_ids: np.ndarray

    @property
    def length(self):
        return len(self.input_ids)


class Part(NamedTuple):
    rows: list
    asked: object


def expected(pack, text):
    """What FakeBank says of a text or a pair with a pack: float32 [C] probabilities, or [1]."""
    bias = pack.weights["output_bias"]
    logits = bias * (1 + zlib.crc32(repr(text).encode("utf-8", "replace")) % 1000 / 1000)
    if pack.manifest.head == "regression":
        return logits[:1].astype(np.float32)
    return (np.exp(logits) / np.exp(logits).sum()).astype(np.float32)


def predictions(row):
    """What FakeBank says of a row, {name: array}: of a token by its id, its place and its row."""
    if row.text == "NAN":
        return {"probabilities": np.full(len(row.task.manifest.labels), np.nan, np.float32)}
    head, labels = row.task.manifest.head, row.task.manifest.labels
    numbers = (row.input_ids * 31 + np.arange(row.length) * 17 + row.input_ids.sum()) % 97
    if head == "tokens":
        return {"label_ids": numbers % len(labels), "probabilities": 1 / (1.01 + numbers)}
    if head == "spans":
        return {"start_logits": numbers / 10, "end_logits": -numbers % 89 / 10}
    found = expected(row.task.pack, row.text)
    return {"scores": found[0]} if head == "regression" else {"probabilities": found}


class FakeBank:
    """Has the methods of serve.engine.Bank.

    Attributes:
      seconds: how long a batch takes.
      wall: threading.Event; while it is not set, predict waits.
      batches: [[name of each row's task], ...] of the calls of predict.
    """

    def __init__(self, bert_dir, seconds=0.0):
        self.base, self.seconds = base_of(bert_dir), seconds
        self.wall, self.batches = threading.Event(), []
        self.wall.set()
        self._tasks, self._busy = {}, threading.Lock()
        self._tokenizer = tokenization.FullTokenizer(f"{bert_dir}/vocab.txt")
        self._tokenizing = threading.Lock()

    def check(self, manifest):
        if manifest.base != self.base:
            raise InputError(f"{manifest.task}: another base")

    def add(self, name, pack):
        with self._alone():
            self.check(pack.manifest)
            self._tasks[name] = Task(name, pack.manifest, pack)

    def remove(self, name):
        with self._alone():
            del self._tasks[name]

    def names(self):
        return sorted(self._tasks)

    def manifest(self, name):
        return self._tasks[name].manifest

    def encode(self, name, texts, most=None):
        task, given = self._tasks[name], iter(texts)
        with self._tokenizing:
            found = list(ANSWERS[task.manifest.head].rows(
                task.manifest, self._tokenizer, texts, most))
        several = task.manifest.head == "spans"   # rows for a text, which nobody looks at
        return [Part([Row(task, texts if several else next(given), ids) for ids, _ in rows], asked)
                for rows, asked in found]

    def predict(self, rows):
        with self._alone():
            self.batches.append([row.task.name for row in rows])
            self.wall.wait()
            time.sleep(self.seconds)
            if any(row.text == "BROKEN" for row in rows):
                raise RuntimeError("a text that the model fails on")
            return list(map(predictions, rows))

    @contextlib.contextmanager
    def _alone(self):
        assert self._busy.acquire(blocking=False), "two calls at once"
        try:
            yield
        finally:
            self._busy.release()


class Client:
    """Asks a server.

    Attributes:
      port: int.
      server: server.Server, if it is in this process.
    """

    def __init__(self, port, server=None):
        self.port, self.server = port, server

    def send(self, method, path, body=None, headers=()):
        """(status, headers, bytes) of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def json(self, method, path, body=None, headers=()):
        """(status, value) of the answer; `body` is a value as JSON, or bytes."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        status, _, content = self.send(method, path, body, headers)
        return status, json.loads(content)

    def count(self, metric):
        """The sum of the metrics that begin so."""
        lines = self.send("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(metric))

    def wait(self, metric, least):
        """Waits until a metric is so high."""
        while self.count(metric) < least:
            time.sleep(0.01)

    def admin(self, method, path, body=None, headers=()):
        """As json, with the admin token."""
        return self.json(method, path, body, {"Authorization": f"Bearer {TOKEN}", **dict(headers)})


@contextlib.contextmanager
def serving(bank, client_token=None, **options):
    """A Client of a server in this process; `options` are fields of its Settings."""
    settings = Settings(**{"bert_dir": "-", "port": 0, **options})
    listening = server.listen("127.0.0.1", 0)
    with server.running(settings, bank, TOKEN, client_token) as running:
        listening.listen()
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        try:
            yield Client(listening.getsockname()[1], running)
        finally:
            bank.wall.set()
            running.should_exit = True
            thread.join()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)   # a shell's background ignores it
    exit_on_input_error(server.serve)(
        Settings(bert_dir=sys.argv[1], hub=sys.argv[2], port=0,
                 request_timeout=float(sys.argv[4])),
        FakeBank(sys.argv[1], float(sys.argv[3])))
