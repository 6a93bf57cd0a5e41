"""Hostile requests for `adapter-bert serve`, as large as it takes them, and what each costs it."""
import base64
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from banks import TOKEN, Client
from conftest import TINY, write_base
from packs import tiny_pack

from adapter_bert.packs import hub, store
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import Spans

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIMIT, MOST_CHARACTERS, MOST_ROWS = 1 << 20, 20_000, 256   # the server's defaults
NEXT_CHARACTERS = itertools.cycle([chr(number) for number in range(0x20, 0x110000)
                                   if not 0xD800 <= number < 0xE000])
# The widest windows, the most overlap and the longest lists of answers that a pack may ask for.
SPANS = Spans(max_query_length=64, doc_stride=6, n_best_size=100, max_answer_length=384,
              null_threshold=0.0)
PACKS = {"film": {"labels": ("negative", "positive"), "max_seq_length": 512},
         "score": {"head": "regression", "labels": (), "pair": True, "max_seq_length": 512},
         "names": {"head": "tokens", "labels": ("O", "B-PER", "I-PER"), "max_seq_length": 512},
         "question": {"head": "spans", "labels": (), "pair": True, "spans": SPANS,
                      "max_seq_length": 384}}


class Attack(NamedTuple):
    """A request and the name of what it tries."""

    name: str
    path: str
    body: bytes
    method: str = "POST"
    headers: dict[str, str] = {}


def repeated(piece: str) -> Callable[[int], str]:
    """A function of a count of characters -> a text of that length, a piece again and again."""
    return lambda count: (piece * (count // len(piece) + 1))[:count]


def combining(count: int) -> str:
    """A letter with combining characters in the order that takes normalisation longest."""
    return "a" + "\u302e" * (count // 2) + "\u1715" * (count // 2 - 1)


def code_points(count: int) -> str:
    """The next characters of Unicode, from the first again after the last."""
    return "".join(itertools.islice(NEXT_CHARACTERS, count))


TEXTS = {
    "one word": repeated("a"), "words": repeated("ab c "), "marks": repeated(".,"),
    "spaces": repeated(" "), "combining characters": combining, "Chinese": repeated("中"),
    "Hangul": repeated("각"), "long when lower": repeated("İ"), "accents": repeated("é ǖ"),
    "emoji": repeated("👩\u200d👩\u200d👧"), "control characters": repeated("\x01"),
    "ligatures": repeated("\ufdfa"), "unknown": repeated("ℵ"), "half pairs": repeated("\ud800"),
    "code points": code_points,
}


def forms(task: str, texts: list[str]) -> Iterator[tuple[str, object]]:
    """(verb, value of the body) of each form in which a task can be asked about texts."""
    pair = task in ("score", "question")
    rows = [{"text_a": "why", "text_b": text} if pair else {"text_a": text} for text in texts]
    yield "predict", {"instances": rows if pair else texts}
    yield "predict", {"instances": rows}
    columns = {"text_b": texts, "text_a": ["why"] * len(texts)} if pair else {"text_a": texts}
    yield "predict", {"inputs": columns}
    yield "predict", {"instances": [
        {key: {"b64": base64.b64encode(text.encode("utf-8", "replace")).decode()}
         for key, text in row.items()} for row in rows]}
    verb = {"film": "classify", "score": "regress"}.get(task)
    if verb:
        yield verb, {"examples": rows}
        yield verb, {"context": rows[0], "examples": [{}] * len(texts)}


def fill(value_of: Callable[[int], object], most: int, in_ascii: bool = False) -> bytes:
    """The largest JSON body of `value_of(size)` with a size up to `most` that the server reads."""
    def body(size):
        text = json.dumps(value_of(size), ensure_ascii=in_ascii)
        return text.encode("utf-8", "surrogatepass")
    size = most
    while len(found := body(size)) > LIMIT:
        size = int(size * min(0.9, LIMIT / len(found)))
    return found


def text_attacks(texts: dict[str, Callable[[int], str]], tasks: list[str]) -> Iterator[Attack]:
    """Each text, in every form in which each task can be asked, in few long and many short rows."""
    for task, (name, text), rows in itertools.product(
            tasks, texts.items(), (LIMIT // MOST_CHARACTERS, MOST_ROWS)):
        for number, (verb, _) in enumerate(forms(task, ["x"])):
            def value(size, number=number, text=text, task=task, rows=rows):
                return list(forms(task, [text(size)] * rows))[number][1]
            yield Attack(f"{name}: {task}:{verb}, form {number}, {rows} rows",
                         f"/v1/models/{task}:{verb}", fill(value, MOST_CHARACTERS))


def structures() -> Iterator[Attack]:
    """Bodies that are hostile as JSON, or as what they say."""
    keys = {f"k{number}": 0 for number in range(70_000)}
    values = {
        "empty rows": {"instances": [""] * 250_000}, "nested rows": {"instances": [[[0]]] * 60_000},
        "one row of keys": {"instances": [keys]}, "columns": {"inputs": keys},
        "column of rows": {"inputs": {"text_a": [""] * 250_000}},
        "examples": {"examples": [{}] * 250_000}, "keys of a context": {
            "examples": [{}] * 14_000, "context": dict(itertools.islice(keys.items(), 12_000))},
        "a key": {"k" * 1_000_000: 0}, "names of tasks": {
            "instances": [{"text_a": "x", "task": "t" * 4000}] * 250},
        "signature": {"instances": ["x"], "signature_name": "s" * 1_000_000},
        "both": {"instances": ["x"] * 60_000, "inputs": ["x"] * 60_000}}
    raw = {
        "deep lists": b"[" * LIMIT, "deep objects": b'{"a":' * (LIMIT // 5),
        "deep and closed": b"[" * (LIMIT // 2) + b"]" * (LIMIT // 2),
        "digits": b'{"instances": [' + b"9" * 1_000_000 + b"]}",
        "numbers": b'{"instances": [' + b"1e308," * 170_000 + b"1]}",
        "exponent": b'{"instances": [1e' + b"9" * 1_000_000 + b"]}",
        "same keys": b'{"instances": [{' + b'"text_a": "x",' * 70_000 + b'"text_a": "x"}]}',
        "no end": b'{"instances": ["' + b"x" * 1_000_000, "escapes": b'["' + b"\\u0061" * 170_000
        + b'"]', "half escapes": b'["' + b"\\ud800" * 170_000 + b'"]', "blanks": b" " * LIMIT,
        "zeros": b"\0" * LIMIT, "bad UTF-8": b'["' + b"\xff" * 1_000_000 + b'"]',
        "mark of order": b"\xef\xbb\xbf" * 300_000, "too long": b" " * (LIMIT + 1)}
    for task, verb in (("film", "predict"), ("film", "classify"), ("score", "regress"),
                       ("adapter-bert", "predict"), ("question", "predict")):
        for name, value in values.items():
            yield Attack(f"{name}: {task}:{verb}", f"/v1/models/{task}:{verb}",
                         json.dumps(value).encode()[:LIMIT])
        for name, body in raw.items():
            yield Attack(f"{name}: {task}:{verb}", f"/v1/models/{task}:{verb}", body)


def addresses() -> Iterator[Attack]:
    """Requests that are hostile outside of their bodies."""
    for path in ("/v1/models/" + "a" * 60_000, "/v1/models/%00", "/v1/models/..%2f..%2fetc",
                 "/v1/packs?q=" + "a+" * 30_000, "/v1/packs?" + "&".join(["q=a"] * 15_000),
                 "/v1/packs?limit=999999999&offset=0", "/v1/packs?offset=" + "9" * 50_000,
                 "/page/" + "../" * 10_000, "/metrics?" + "x" * 60_000):
        yield Attack(f"GET {path[:40]}", path, b"", "GET")
    yield Attack("many headers", "/v1/models/film:predict", b"{}", headers={
        f"X-{number}": "v" for number in range(2_000)})
    yield Attack("long type", "/v1/models/film:predict", b"{}", headers={
        "Content-Type": "application/json; " + "a=b;" * 10_000})
    yield Attack("packed body", "/v1/models/film:predict", b"\x1f\x8b" + bytes(LIMIT - 2), headers={
        "Content-Encoding": "gzip"})
    for name, token in (("no token", "x" * 50_000), ("with the token", TOKEN)):
        for what, body in (("zeros", bytes(8 * LIMIT)), ("an archive of nothing",
                                                         b"PK\5\6" + bytes(18))):
            yield Attack(f"upload of {what}, {name}", "/v1/packs/film2", body, headers={
                "Authorization": f"Bearer {token}", "Content-Type": "application/zip"})
        yield Attack(f"upload of JSON, {name}", "/v1/packs/film2", b"[" * 1000, headers={
            "Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    yield Attack("removal", "/v1/packs/" + "a" * 60_000, b"", "DELETE", {
        "Authorization": f"Bearer {TOKEN}"})


def write_hub(folder: pathlib.Path) -> tuple[str, str]:
    """Writes a small BERT with 512 positions, and a hub of PACKS for it; returns both folders.

    The model is so small that what a request costs is what happens around the model.
    """
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "why"]
    vocab += [mark + chr(number) for mark in ("", "##") for number in range(0x21, 0x250)
              if chr(number).isprintable()]
    bert = folder / "bert"
    write_base(bert, dataclasses.replace(TINY, vocab_size=len(vocab), num_hidden_layers=1,
                                         max_position_embeddings=512), vocab)
    for seed, (name, values) in enumerate(PACKS.items()):
        path = str(folder / f"{name}.zip")
        store.write(path, tiny_pack(seed, base_of(str(bert)), **values))
        hub.push(path, str(folder / "hub"), name)
    return str(bert), str(folder / "hub")


class Cost(NamedTuple):
    """What an attack cost: the answer's status, CPU seconds, bytes of memory at the worst moment
    over those before, and the longest answer of the health check meanwhile, in seconds."""

    status: int
    cpu: float
    memory: int
    health: float


class Target(Client):
    """A Client of a server in another process, which it watches."""

    def __init__(self, port: int, process: int):
        super().__init__(port)
        self._place = pathlib.Path(f"/proc/{process}")

    def cpu(self) -> float:
        """CPU seconds of all threads since the start."""
        fields = (self._place / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, peak: bool = False) -> int:
        """Bytes of memory now, or at most since `forget_peak`."""
        name = "VmHWM:" if peak else "VmRSS:"
        lines = (self._place / "status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

    def forget_peak(self) -> None:
        """Makes the peak of the memory what there is now."""
        (self._place / "clear_refs").write_text("5")

    def cost(self, attack: Attack) -> Cost:
        """Sends an attack and measures what it cost."""
        self.forget_peak()
        cpu, memory, over = self.cpu(), self.memory(), threading.Event()
        slowest = [0.0]
        watch = threading.Thread(target=self._watch, args=(over, slowest))
        watch.start()
        try:
            status = self.send(attack.method, attack.path, attack.body, {
                "Content-Type": "application/json", **attack.headers})[0]
        except (ConnectionError, http.client.HTTPException):   # the server hung up
            status = 0
        over.set()
        watch.join()
        return Cost(status, self.cpu() - cpu, self.memory(peak=True) - memory, slowest[0])

    def _watch(self, over: threading.Event, slowest: list[float]) -> None:
        while not over.wait(0.02):
            start = time.monotonic()
            assert self.send("GET", "/healthz")[0] == 200
            slowest[0] = max(slowest[0], time.monotonic() - start)


@contextlib.contextmanager
def attacked(bert_dir: str, hub_dir: str, log: str) -> Iterator[Target]:
    """A Target: the real server with default flags, whose log goes to a file."""
    command = [sys.executable, "-m", "adapter_bert", "serve", f"--bert_dir={bert_dir}",
               f"--hub={hub_dir}", "--port=0"]
    with open(log, "w", encoding="utf-8") as file, subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env={
                **os.environ, "PYTHONPATH": ROOT, "ADAPTER_BERT_ADMIN_TOKEN": TOKEN}) as process:
        try:
            yield Target(port_of(process, log), process.pid)
        finally:
            process.kill()


def port_of(process: subprocess.Popen, log: str) -> int:
    """The port that a server says that it listens at."""
    while process.poll() is None:
        text = pathlib.Path(log).read_text(encoding="utf-8")
        if "http://" in text and text.endswith("\n"):
            return int(text.rpartition("http://")[2].partition("\n")[0].rstrip("/").split(":")[1])
        time.sleep(0.05)
    raise AssertionError(pathlib.Path(log).read_text(encoding="utf-8"))
