"""Seconds of ordinary requests to the server, beside another checkout.

    python benchmarks/request_speed.py --against=COMMIT [--bert_dir=DIR] [--most=1.03]

Both checkouts serve the same two packs on one base. Rounds of a kind of request are sent to one
server and then to the other, while the other one is idle; the median of the ratios of these pairs
is printed for each kind. The commit before the server was bounded against strangers is e9a0e51.
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

import made_packs
import overload
from startup import HERE, checkout_of, demo_base

from adapter_bert.packs.bases import base_of

TEXT = "The plot is thin, but the actors carry it well and the last scene is worth the wait."
# {kind: (rows of a request, clients at once, requests of a round)}
KINDS = {"1 row": (1, 1, 40), "32 rows": (32, 1, 6), "1 row, 8 clients": (1, 8, 120)}
WARM_UP_ROUNDS, ROUNDS = 3, 24


class Server:
    """A server of a checkout, and connections to it.

    Args:
      checkout: folder.
      bert_dir, hub: what it serves.
    """

    def __init__(self, checkout: pathlib.Path, bert_dir: str, hub: str):
        self.process, port = overload.start(bert_dir, hub, checkout=checkout)
        self._connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(8)]

    def seconds(self, rows: int, clients: int, requests: int) -> float:
        """Seconds of the clock for a round of requests, which the clients share."""
        body = json.dumps({"instances": [f"{TEXT} {number}" for number in range(rows)]}).encode()

        def ask(connection):
            for _ in range(requests // clients):
                connection.request("POST", "/v1/models/task-0:predict", body)
                answer = connection.getresponse()
                content = answer.read()
                assert answer.status == 200, content
        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            list(pool.map(ask, self._connections[:clients]))
        return time.perf_counter() - start


@contextlib.contextmanager
def servers(checkouts: list[pathlib.Path], bert_dir: str) -> Iterator[list[Server]]:
    """A Server of each checkout, all of the same hub."""
    with tempfile.TemporaryDirectory() as folder:
        hub = made_packs.fill(folder, base_of(bert_dir), 2)
        opened: list[Server] = []
        try:
            for checkout in checkouts:
                opened.append(Server(checkout, bert_dir, hub))
            yield opened
        finally:
            for server in opened:
                server.process.kill()


def main() -> None:
    """Prints the median ratio of each kind; exits with 1 where one is over --most."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bert_dir", help="the base; that of the demo where none is given")
    parser.add_argument("--against", required=True, help="a commit, or folder of another checkout")
    parser.add_argument("--most", type=float, default=1.03)
    options = parser.parse_args()
    bert_dir = os.path.abspath(options.bert_dir or demo_base())
    with tempfile.TemporaryDirectory() as work, checkout_of(
            options.against, work) as other, servers([HERE, other], bert_dir) as opened:
        ratios = {kind: [ratio(opened, *numbers) for _ in range(ROUNDS + WARM_UP_ROUNDS)]
                  for kind, numbers in KINDS.items()}
    medians = {kind: statistics.median(found[WARM_UP_ROUNDS:]) for kind, found in ratios.items()}
    print(", ".join(f"{kind}: {median:.3f}" for kind, median in medians.items())
          + " times the seconds of a request")
    sys.exit(max(medians.values()) > options.most)


def ratio(opened: list[Server], rows: int, clients: int, requests: int) -> float:
    """The ratio of seconds of a round, each half to one server before and after the other."""
    ours, theirs = opened
    first = ours.seconds(rows, clients, requests)
    both = theirs.seconds(rows, clients, requests), theirs.seconds(rows, clients, requests)
    return (first + ours.seconds(rows, clients, requests)) / sum(both)


if __name__ == "__main__":
    main()
