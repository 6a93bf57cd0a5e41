"""A hub of 500 packs: how long it takes to list it and to find a pack in it.

    python benchmarks/packs_speed.py [--bert_dir=DIR] [--smoke]

The time is that of a command, from the start of its process to its end. With a base, also how long
it takes to put a pack into a graph that is built.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import made_packs
import sides

import adapter_bert
from adapter_bert.bert import modeling
from adapter_bert.packs import bases, manifest, store

PACKS, MOST, REPETITIONS, LOADS = 500, (1.0, 0.05), 5, 21
MINILM = modeling.BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6,
                             num_attention_heads=12, intermediate_size=1536)


def seconds_of(*arguments):
    """Seconds of an `adapter-bert pack` command, and the lines that it prints."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "adapter_bert", "pack", *arguments], check=True,
                          text=True, capture_output=True, cwd=sides.ROOT)
    return time.perf_counter() - start, done.stdout.splitlines()[1:]   # below the table's head


def list_and_search(folder, count):
    """Seconds of listing a hub, and of finding one pack in it."""
    listing, lines = seconds_of("list", folder)
    assert len(lines) == count, lines[:2]
    search, lines = seconds_of("search", folder, "film", "negative", "--base=minilm",
                               "--task=task-3")
    assert len(lines) == 1 and lines[0].startswith("task-3 "), lines
    return listing, search


def seconds_to_load(bert_dir, folder, repetitions):
    """Seconds of putting a pack into a built graph: opened, verified, in its place."""
    times = []
    path = os.path.join(folder, "own.zip")
    own = made_packs.pack(bases.base_of(bert_dir), 0)
    store.write(path, own)
    with adapter_bert.load(bert_dir, own) as task:
        for _ in range(repetitions):
            start = time.perf_counter()
            task.use(path)
            times.append(time.perf_counter() - start)
    return times


def main():
    """Prints and writes the seconds; exits with 1 where they are too many."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", help="a base of MiniLM's shape, to load packs on it too")
    parser.add_argument("--smoke", action="store_true", help="5 packs")
    options = parser.parse_args()
    count = 5 if options.smoke else PACKS
    with tempfile.TemporaryDirectory() as place:
        folder = made_packs.fill(place, manifest.Base("minilm", "0" * 64, "0" * 64, MINILM), count,
                                 "bfloat16")
        times = {"list and search": [
            list_and_search(folder, count) for _ in range(REPETITIONS)]}
        if options.bert_dir:
            times["load"] = seconds_to_load(options.bert_dir, place, LOADS)
    rows = [(f"{name} a hub of {count} packs, with the process's start: seconds", median, MOST[0])
            for name, median in zip(("list", "search"), map(
                statistics.median, zip(*times["list and search"], strict=True)), strict=True)]
    if options.bert_dir:
        rows.append(("put a pack into a built graph: seconds", statistics.median(times["load"]),
                     MOST[1]))
    for name, median, most in rows:
        print(f"{name} {median:.3f}, at most {most}")
    if options.bert_dir and not options.smoke:
        sides.write("packs", {"packs": count, "seconds": times},
                    [(name, median, None) for name, median, _ in rows])
    print(", ".join(f"{median:.3f} s" for _, median, _ in rows))
    sys.exit(any(median > most for _, median, most in rows))


if __name__ == "__main__":
    main()
