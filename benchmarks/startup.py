"""Seconds from the command to the end of the first training step, beside another checkout.

    python benchmarks/startup.py --against=COMMIT [--bert_dir=DIR] [--data_dir=MRPC] [--most=0.6]

Both checkouts run the same command on a data set that is already written as TFRecord files, in
turn, with compiled modules cached, so that a load of the machine meets both. The ratio of each
pair of runs is printed, and the median of the ratios; beside the seconds of the clock, those that
the process computed for, which other programs on the machine change less.
"""
import argparse
import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 180


def main() -> None:
    """Measures both checkouts in turn and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bert_dir", help="the base; that of the demo where none is given")
    parser.add_argument("--data_dir", default="../shared/data/glue/MRPC", help="folder of MRPC")
    parser.add_argument("--against", help="a commit, or the folder of another checkout")
    parser.add_argument("--most", type=float, help="exits with 1 if the ratio is higher")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flags", nargs="*", default=[], help="more flags, for both")
    parser.add_argument("--output", help="JSON file to write")
    options = parser.parse_args()
    options.bert_dir = options.bert_dir or demo_base()
    with tempfile.TemporaryDirectory() as work, checkout_of(options.against, work) as other:
        checkouts = [HERE, *([other] if other else [])]
        sides = [Side(checkout, os.path.join(work, str(number)), options)
                 for number, checkout in enumerate(checkouts)]
        for side in sides:
            side.to_first_step()   # writes the TFRecord files, compiles what is compiled
        rounds = [[side.to_first_step() for side in sides] for _ in range(options.rounds)]
    ratio = report(rounds, options.output)
    sys.exit(options.most is not None and not ratio <= options.most)


def demo_base() -> str:
    """The folder of the demo's base, downloaded if necessary."""
    return subprocess.run([sys.executable, "demo/prepare.py", "--bert_dir_only"], cwd=HERE,
                          check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def checkout_of(place: str | None, work: str) -> Iterator[pathlib.Path | None]:
    """The folder of a checkout: `place`, or of the commit of that name one that is made for it."""
    if place is None or os.path.isdir(place):
        yield place and pathlib.Path(place).resolve()
        return
    folder = os.path.join(work, "checkout")
    subprocess.run(["git", "worktree", "add", "--detach", folder, place], cwd=HERE, check=True,
                   capture_output=True)
    try:
        yield pathlib.Path(folder)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=HERE, check=True)


class Side:
    """A checkout and the output folder that it trains in.

    Args:
      checkout: folder with run_classifier.py.
      output_dir: folder for the run; keeps only the prepared data between two measurements.
      options: of the command line.
    """

    def __init__(self, checkout: pathlib.Path, output_dir: str, options: argparse.Namespace):
        self._checkout, self._output_dir = checkout, pathlib.Path(output_dir)
        self._command = [
            sys.executable, "run_classifier.py", "--task_name=MRPC", "--do_train", "--log_steps=1",
            f"--data_dir={os.path.abspath(options.data_dir)}", f"--output_dir={output_dir}",
            f"--bert_dir={os.path.abspath(options.bert_dir)}", "--learning_rate=3e-4",
            "--num_train_epochs=1", *options.flags]

    def to_first_step(self) -> tuple[float, float]:
        """Starts the command, waits for the line of its first step, and ends it.

        Returns:
          The seconds of the clock, and those of computing, to the end of the first step.
        """
        self._forget_run()
        began = time.time()
        with subprocess.Popen(
                self._command, cwd=self._checkout, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(self._checkout),
                                             "PYTHONDONTWRITEBYTECODE": ""},
        ) as process:
            try:
                seconds = self._first_step_time(process, began) - began
                return seconds, computed_seconds(process.pid)
            finally:
                process.kill()

    def _first_step_time(self, process: subprocess.Popen, began: float) -> float:
        metrics = self._output_dir / "metrics.jsonl"
        while time.time() < began + PATIENCE_SECONDS and process.poll() is None:
            if metrics.exists() and (lines := metrics.read_text().splitlines()):
                return json.loads(lines[0])["time"]
            time.sleep(0.01)
        assert process.stderr
        process.kill()
        raise SystemExit(f"{self._checkout}: no first step: {process.stderr.read()[-2000:]!r}")

    def _forget_run(self) -> None:
        """Removes what the last run left, except for the TFRecord files."""
        for path in self._output_dir.glob("*"):
            if ".tf_record" not in path.name and path.is_file():
                path.unlink()


def computed_seconds(process: int) -> float:
    """Seconds that all threads of a process have computed for (Linux)."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(rounds: list[list[tuple[float, float]]], output: str | None) -> float:
    """Prints and writes the seconds of each round.

    Returns:
      The median ratio of the seconds of the clock; NaN without another side.

    Args:
      rounds: of each round what `Side.to_first_step` returned for this checkout and, if there is
        one, for the other one.
      output: JSON file; None for none.
    """
    result: dict = {}
    for number, name in enumerate(("clock", "computing")):
        seconds = [[side[number] for side in sides] for sides in rounds]
        result[name] = {"seconds": seconds, "median": [
            statistics.median(side) for side in zip(*seconds, strict=True)]}
        for sides in seconds:
            print(f"{name}: " + "  ".join(f"{value:.2f} s" for value in sides)
                  + (f"  ratio {sides[0] / sides[1]:.3f}" if len(sides) > 1 else ""))
        if len(rounds[0]) > 1:
            result[name]["median_ratio"] = statistics.median(a / b for a, b in seconds)
            print(f"{name}: median ratio {result[name]['median_ratio']:.3f}")
    if output:
        pathlib.Path(output).write_text(json.dumps(result, indent=1) + "\n")
    ratio = result["clock"].get("median_ratio", math.nan)
    print(f"{ratio:.3f} of the time to the end of the first step")
    return ratio


if __name__ == "__main__":
    main()
