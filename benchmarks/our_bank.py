"""Our side of benchmarks/serving_speed.py: many tasks on one base, asked in batches of short texts.

    python benchmarks/our_bank.py --bert_dir=DIR --packs=1000 --slots=100
"""
import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import made_packs
import numpy as np
import sides

from adapter_bert.packs.bases import base_of
from adapter_bert.serve.engine import Bank

ROWS, TOKENS = 32, 24
TEXT = " ".join(["film"] * (TOKENS - 2))


def resident_bytes():
    """What this process holds in memory now (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Work:
    """The jobs that can be asked for, each a function (steps) -> seconds of every step.

    one: 32 rows of one task. mixed: 32 rows of 32 tasks that have slots. single: one row.
    zipf: 32 rows of tasks drawn in proportion to 1 / rank. cold: one row of a task without a slot.
    """

    def __init__(self, bank, packs):
        self._bank = bank
        self._rows = [bank.encode(f"task-{number}", [TEXT])[0].rows[0]
                      for number in range(packs)]
        shares = 1 / np.arange(1, packs + 1)
        self._shares, self._random = shares / shares.sum(), np.random.default_rng(0)
        self._cold = 0

    def seconds(self, job, steps):
        """Seconds of each step."""
        times = []
        for _ in range(steps):
            rows = getattr(self, f"_{job}_rows")()
            start = time.perf_counter()
            self._bank.predict(rows)
            times.append(time.perf_counter() - start)
        return times

    def _one_rows(self):
        return [self._rows[0]] * ROWS

    def _mixed_rows(self):
        return self._rows[:ROWS]

    def _single_rows(self):
        return self._rows[:1]

    def _zipf_rows(self):
        return [self._rows[number] for number in self._random.choice(
            len(self._rows), ROWS, p=self._shares)]

    def _cold_rows(self):   # in turn, so that its slot is long gone
        self._cold = (self._cold + 1) % len(self._rows)
        return [self._rows[self._cold]]


def main():
    """Loads the packs and serves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--packs", type=int, required=True)
    parser.add_argument("--slots", type=int, default=100)
    options = parser.parse_args()
    bank, base = Bank(options.bert_dir, options.slots), base_of(options.bert_dir)
    bank.add("task-0", made_packs.pack(base, 0))
    work = Work(bank, 1)
    work.seconds("one", 3)
    before, size = resident_bytes(), 0
    for number in range(1, options.packs):
        pack = made_packs.pack(base, number)
        size += sum(value.nbytes for value in pack.weights.values())
        bank.add(f"task-{number}", pack)
    work = Work(bank, options.packs)

    def answer(request):
        times = work.seconds(request["job"], request["steps"])
        return {"seconds": statistics.median(times), "all": times,
                "per_second": 1 / statistics.median(times), "growth": resident_bytes() - before,
                "packs_bytes": size}
    sides.serve({"packs": options.packs, "slots": options.slots,
                 "engine": bank.engine.line(bank.precision)}, answer)


if __name__ == "__main__":
    main()
