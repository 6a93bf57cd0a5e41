"""Many tasks on one base: against one task, against `adapters`, with few and many packs.

    python benchmarks/serving_speed.py --bert_dir=DIR [--smoke]

32 texts of 24 word pieces a batch, on MiniLM. Sides that are compared are measured in turn.
"""
import argparse
import pathlib
import statistics
import sys

import numpy as np
import sides
import speed

PACKS, SLOTS = 1000, 100
REPETITIONS, STEPS = 27, 10
# What a side does in a round, and how many times as many steps that is, or as few.
JOBS = {"many": {"one": 1, "mixed": 1, "zipf": 1, "single": 2}, "few": {"single": 2}}
PEER_JOBS = {"split": 0.3}


def open_sides(options, packs):
    """Ours with many packs and with 32, and the library in both types."""
    def ours(count):
        return [sys.executable, "benchmarks/our_bank.py", f"--bert_dir={options.bert_dir}",
                f"--packs={count}", f"--slots={SLOTS}"]
    opened = [sides.Side("many", ours(packs)), sides.Side("few", ours(1))]
    if options.alone:
        return opened
    _, hugging_face = speed.bases("minilm", options.bert_dir)
    for precision in ("float32", "bfloat16"):
        opened.append(sides.Side(precision, [
            str(sides.PEER_PYTHON), "benchmarks/peer_batch_split.py", f"--base={hugging_face}",
            f"--precision={precision}"]))
    return opened


def measure(opened, repetitions, steps):
    """{side: {job: [answer, ...]}}, every side and job in turn.

    Short turns, for the machine's speed changes within seconds; packs without a slot come last,
    since they take the slots of those that are asked often.
    """
    found = {side.name: {} for side in opened}

    def ask(side, job, share):
        found[side.name].setdefault(job, []).append(
            side.ask({"job": job, "steps": max(1, round(steps * share))}))

    for _ in range(repetitions):
        for side in opened:
            for job, share in JOBS.get(side.name, PEER_JOBS).items():
                ask(side, job, share)
    ask(opened[0], "cold", repetitions)
    return found


def pairs(found, one, other):
    """The median of seconds of `one` over those of `other`, each (side, job), pair by pair."""
    times = ([answer["seconds"] for answer in found[side][job]] for side, job in (one, other))
    return statistics.median(a / b for a, b in zip(*times, strict=True))


def percentile(found, job, share):
    """That share's percentile of all steps of a job, in seconds."""
    return float(np.percentile([time for answer in found["many"][job] for time in answer["all"]],
                               100 * share))


def claims(found):
    """[(what, number, least or None, most or None)]."""
    last = found["many"]["one"][-1]
    rows = [
        ("32 tasks in a batch: times as long as 32 rows of one", pairs(
            found, ("many", "mixed"), ("many", "one")), None, 1.3),
        ("one row: times as long with 1,000 packs as with 1", pairs(
            found, ("many", "single"), ("few", "single")), None, 1.1),
        ("memory of 1,000 packs: times the bytes of their weights",
         last["growth"] / max(1, last["packs_bytes"]), None, 1.1),
        ("Zipf(1) over 1,000 packs, 100 slots: throughput over that of one task",
         1 / pairs(found, ("many", "zipf"), ("many", "one")), 0.8, None),
        ("Zipf(1): 99th percentile of a batch over that of one task",
         percentile(found, "zipf", 0.99) / percentile(found, "one", 0.99), None, 2.0),
        ("a pack without a slot answers, 99th percentile: seconds", percentile(found, "cold", 0.99),
         None, 0.15)]
    others = [name for name in ("float32", "bfloat16") if name in found]
    if others:
        rows.append(("32 tasks: times as fast as `adapters` BatchSplit, the better of both types",
                     min(pairs(found, (name, "split"), ("many", "mixed")) for name in others), 2.5,
                     None))
    return rows


def main():
    """Prints and writes the numbers; exits with 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True, help="the MiniLM base in Google's form")
    parser.add_argument("--smoke", action="store_true", help="40 packs, one step: does it start?")
    parser.add_argument("--alone", action="store_true", help="leave the library out")
    options = parser.parse_args()
    pathlib.Path(speed.WORK_DIR).mkdir(parents=True, exist_ok=True)
    opened = open_sides(options, 40 if options.smoke else PACKS)
    measure(opened, 1, 1 if options.smoke else STEPS)
    found = measure(opened, 1 if options.smoke else REPETITIONS, 1 if options.smoke else STEPS)
    for side in opened:
        side.close()
    rows, missed = claims(found), 0
    for what, number, least, most in rows:
        bad = (least is not None and number < least) or (most is not None and number > most)
        missed += bad
        bound = f"at least {least}" if most is None else f"at most {most}"
        print(f"{'MISSED ' if bad else ''}{what}: {number:.3g}, {bound}", flush=True)
    if not options.smoke:
        sides.write("serving", {"facts": {side.name: side.facts for side in opened},
                                "answers": found},
                    [(what, number, least) for what, number, least, _ in rows])
    sys.exit(not options.smoke and missed > 0)


if __name__ == "__main__":
    main()
