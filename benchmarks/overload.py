"""The server under more than it can do: only answers and 503s, and memory that stays as it is.

    python benchmarks/overload.py --bert_dir=DIR [--seconds=60] [--smoke]

A server with 100 packs, a short queue, and clients on loopback that ask again at once.
"""
import argparse
import collections
import http.client
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import made_packs
import numpy as np
import our_bank
import sides

from adapter_bert.packs.bases import base_of

PACKS, CLIENTS, ROWS, QUEUE_ROWS = 100, 64, 4, 64
MOST_GROWTH = 1.05


def start(bert_dir, folder, *flags, checkout=sides.ROOT):
    """A server's process and its port, once it is ready.

    Args:
      bert_dir, folder: base and hub.
      *flags: more flags.
      checkout: folder whose code it runs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([
        sys.executable, "-m", "adapter_bert", "serve", f"--bert_dir={bert_dir}", f"--hub={folder}",
        f"--port={port}", *flags], cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)})
    while process.poll() is None:
        try:
            if ask(port, "GET", "/readyz")[0] == 200:
                return process, port
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the server ended with {process.returncode}")


def ask(port, method, path, body=None):
    """Status and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def client(number, port, packs, until, results):
    """Asks until the time is over; puts [(status, seconds)] into the queue of results."""
    random, found = np.random.default_rng(number), []
    while time.time() < until:
        task = int(random.integers(packs))
        body = json.dumps({"instances": [our_bank.TEXT] * ROWS})
        begun = time.perf_counter()
        status, _ = ask(port, "POST", f"/v1/models/task-{task}:predict", body)
        found.append((status, time.perf_counter() - begun))
    results.put(found)


def resident_bytes(pid):
    """What a process holds in memory (Linux)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024


def load(process, port, packs, seconds, clients):
    """What the clients saw, and the server's memory each second."""
    context = multiprocessing.get_context("fork")
    results, until = context.Queue(), time.time() + seconds
    started = [context.Process(target=client, args=(number, port, packs, until, results))
               for number in range(clients)]
    for one in started:
        one.start()
    memory = []
    while time.time() < until:
        time.sleep(1)
        memory.append(resident_bytes(process.pid))
    seen = [answer for _ in started for answer in results.get()]
    for one in started:
        one.join()
    return seen, memory


def main():
    """Prints and writes the numbers; exits with 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True, help="the MiniLM base in Google's form")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--smoke", action="store_true", help="3 packs, 2 seconds, 2 clients")
    options = parser.parse_args()
    packs, clients = (3, 2) if options.smoke else (PACKS, CLIENTS)
    seconds = 2 if options.smoke else options.seconds
    with tempfile.TemporaryDirectory() as folder:
        filled = made_packs.fill(folder, base_of(options.bert_dir), packs)
        process, port = start(options.bert_dir, filled, f"--queue_rows={QUEUE_ROWS}",
                              f"--max_rows={QUEUE_ROWS}")
        try:
            seen, memory = load(process, port, packs, seconds, clients)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait()
    statuses = collections.Counter(status for status, _ in seen)
    times = [elapsed for status, elapsed in seen if status == 200]
    settled = memory[len(memory) // 3:]
    growth = settled[-1] / settled[0]
    p50, p99 = np.percentile(times, [50, 99])
    wrong = set(statuses) - {200, 503} or growth > MOST_GROWTH or code
    if not options.smoke:
        sides.write("overload", {
            "seconds": seconds, "clients": clients, "statuses": statuses, "memory": memory,
            "exit_code": code}, [
            ("overload: rows a second that were answered", statuses[200] * ROWS / seconds, None),
            ("overload: p50 of an answered request, seconds", p50, None),
            ("overload: p99 of an answered request, seconds", p99, None),
            ("overload: memory at the end over that after a third of the time", growth, None)])
    print(f"{clients} clients, {seconds} s: {dict(statuses)}, {statuses[200] * ROWS / seconds:.0f} "
          f"rows a second, p50 {p50:.3f} s, p99 {p99:.3f} s, memory x {growth:.3f}, "
          f"ended with {code}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
