"""A hub of 500 packs: how long it takes to list it and to find a pack in it.

    python benchmarks/packs_speed.py [--smoke]

The time is that of a command, from the start of its process to its end.
"""
import argparse
import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import sides

import adapter_layers
import modeling
from adapter_bert.packs import hub, manifest, store

PACKS, MOST_SECONDS, REPETITIONS = 500, 1.0, 5
MINILM = modeling.BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6,
                             num_attention_heads=12, intermediate_size=1536)
LISTING = """
import sys
from adapter_bert.packs import index
entries = index.read(sys.argv[1])
found = index.search(entries, ["film", "negative"], base="minilm", task="task-3")
print(len(entries), *(entry.name for entry in found))
print(*index.table(entries), sep="\\n")
"""


def first_pack():
    """A Pack of adapters of width 64 on MiniLM."""
    found = manifest.Manifest(
        task="task-0", head="classification", labels=("negative", "positive"), pair=False,
        tuning="adapters", adapter=adapter_layers.AdapterConfig(size=64), do_lower_case=True,
        base=manifest.Base("minilm", "0" * 64, "0" * 64, MINILM), max_seq_length=128,
        metrics={"accuracy": 0.9}, data={}, versions={}, description="Whether a film is liked.")
    random = np.random.default_rng(0)
    return store.Pack(found, {name: random.normal(0, 0.01, shape).astype(np.float32)
                              for name, shape in found.shapes().items()})


def fill(folder, count):
    """A hub in `folder` with packs of tasks task-0, task-1, ...; returns its path."""
    one, path = first_pack(), os.path.join(folder, "one.zip")
    for number in range(count):
        store.write(path, one._replace(manifest=dataclasses.replace(
            one.manifest, task=f"task-{number}")), "bfloat16")
        hub.push(path, os.path.join(folder, "hub"), f"pack-{number}")
    return os.path.join(folder, "hub")


def seconds_to_list(folder, count):
    """Seconds of one process that lists the hub and searches it."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", LISTING, folder], check=True, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(sides.ROOT)})
    seconds = time.perf_counter() - start
    lines = done.stdout.splitlines()
    assert lines[0] == f"{count} pack-3" and len(lines) == count + 2, lines[0]
    return seconds


def main():
    """Prints and writes the seconds; exits with 1 where they are too many."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="5 packs")
    options = parser.parse_args()
    count = 5 if options.smoke else PACKS
    with tempfile.TemporaryDirectory() as place:
        folder = fill(place, count)
        size = pathlib.Path(folder, "index.json").stat().st_size
        times = [seconds_to_list(folder, count) for _ in range(REPETITIONS)]
    seconds = statistics.median(times)
    print(f"{count} packs, an index of {size:,} bytes: listed and searched in "
          f"{min(times):.3f} to {max(times):.3f} s, at most {MOST_SECONDS:.0f} s")
    if not options.smoke:
        sides.write("packs", {"packs": count, "index_bytes": size, "seconds": times}, [
            (f"list and search a hub of {count} packs, with the process's start: seconds", seconds,
             None)])
    print(f"{seconds:.3f}")
    sys.exit(seconds >= MOST_SECONDS)


if __name__ == "__main__":
    main()
