"""Two programs measured in turn: A B A B ..., each a process that waits while the other works.

A side is a program that prints one JSON line when it is ready and one more for every line that it
is sent; see `serve`. Both sides get the same request, one after the other, so that a machine that
becomes slower does so for both.
"""
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

from adapter_bert import files

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks"
COSTS = ("peak_bytes", "seconds")   # what is better where it is less
# Flags of a measured run: other flags mean what they say, and no run is restarted.
REFERENCE = ("--recipe=reference", "--guard=off")
PEER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"


class Side:
    """A program that is measured.

    Args:
      name: what a table calls it.
      command: list of str.
    """

    def __init__(self, name, command):
        self.name = name
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.facts = self._answer()

    def ask(self, request):
        """The program's answer, a dict, to a dict."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self):
        """Ends the program."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: ended with {self._process.wait()}")
        return json.loads(line)


def serve(facts, answer):
    """The program's end of a Side: says `facts`, then `answer(request)` for each line.

    What libraries print goes to stderr, so that stdout holds the answers alone.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)


def interleaved(sides, requests):
    """{side's name: [answer, ...]}: for each request, every side in turn."""
    answers = {side.name: [] for side in sides}
    for request in requests:
        for side in sides:
            answers[side.name].append(side.ask(request))
    return answers


def ratios(answers, ours, others, key="per_second"):
    """{name: (median, smallest, largest) of the ratio to that side's, pair by pair}.

    The ratio says how much better ours is: of rates ours / theirs, of COSTS theirs / ours.
    """
    found, sign = {}, -1 if key in COSTS else 1
    for name in others:
        pairs = [(mine[key] / theirs[key]) ** sign
                 for mine, theirs in zip(answers[ours], answers[name], strict=True)]
        found[name] = (statistics.median(pairs), min(pairs), max(pairs))
    return found


def median(answers, key="per_second"):
    """The median of one number over answers."""
    return statistics.median(answer[key] for answer in answers)


def machine():
    """What the numbers were measured on."""
    model = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().split(
        "\n") if line.startswith("model name")]
    return {"cpu": model[0] if model else platform.processor(),
            "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def folder_of(cpu):
    """The folder of a CPU: docs/benchmarks/intel-xeon of `Intel(R) Xeon(R) Processor`."""
    words = re.sub(r"\(\w+\)|processor|cpu|@.*", " ", cpu.lower())
    return RESULTS / "-".join(re.findall(r"\w+", words))


def write(name, record, claims):
    """Writes docs/benchmarks/<cpu>/<name>.json, and docs/benchmarks.md anew from all such files.

    Args:
      name: of the measurement.
      record: dict of everything that was measured.
      claims: [(what, number, floor or None)], the lines of the table.
    """
    found = machine()
    folder = folder_of(found["cpu"])
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / f"{name}.json", {
        "claims": claims, "machine": found, "commit": commit(), **record})
    (RESULTS.parent / "benchmarks.md").write_text(table())


def table():
    """The text of docs/benchmarks.md."""
    lines = ["# Measured speed", "",
             "Written by `make bench` and `make profile` from the files in `docs/benchmarks/`; "
             "edit nothing here. Ratios are medians of pairs measured in turn."]
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        lines += ["", f"## {records[0]['machine']['cpu']}", "",
                  "| what | measured | floor | cores | commit |", "|---|---|---|---|---|"]
        lines += [f"| {what} | {number:.3g} | {'' if floor is None else f'{floor:g}'} | "
                  f"{record['machine']['cores']} | {record['commit']} |"
                  for record in records for what, number, floor in record["claims"]]
    return "\n".join(lines) + "\n"


def commit():
    """The commit that was measured, marked where files outside docs/ differ from it."""
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout.strip()
    differs = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ".", ":!docs"], cwd=ROOT,
                             check=False).returncode
    return head + "-dirty" * bool(differs)
