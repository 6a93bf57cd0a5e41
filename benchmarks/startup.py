"""Seconds from the command to the end of the first training step, beside another checkout.

    python benchmarks/startup.py --bert_dir=DIR --data_dir=MRPC --against=OTHER_CHECKOUT

Both checkouts run the same command on a data set that is already written as TFRecord files, in
turn, so that a load of the machine meets both. The ratio of each pair of runs is printed, and the
median of the ratios.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 180


def main() -> None:
    """Measures both checkouts in turn and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--data_dir", required=True, help="folder of MRPC")
    parser.add_argument("--against", type=pathlib.Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flags", nargs="*", default=[], help="more flags, for both")
    parser.add_argument("--output", help="JSON file to write")
    options = parser.parse_args()
    checkouts = [HERE, *([options.against.resolve()] if options.against else [])]
    with tempfile.TemporaryDirectory() as work:
        sides = [Side(checkout, os.path.join(work, str(number)), options)
                 for number, checkout in enumerate(checkouts)]
        for side in sides:
            side.seconds_to_first_step()   # writes the TFRecord files, compiles what is compiled
        rounds = [[side.seconds_to_first_step() for side in sides] for _ in range(options.rounds)]
    report(rounds, options.output)


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

    def seconds_to_first_step(self) -> float:
        """Starts the command, waits for the line of its first step, and ends it."""
        self._forget_run()
        began = time.time()
        with subprocess.Popen(
                self._command, cwd=self._checkout, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(self._checkout)},
        ) as process:
            try:
                return self._first_step_time(process, began) - began
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


def report(rounds: list[list[float]], output: str | None) -> None:
    """Prints and writes the seconds of each round.

    Args:
      rounds: of each round the seconds of this checkout and of the other one, if there is one.
      output: JSON file; None for none.
    """
    for seconds in rounds:
        print("  ".join(f"{value:.2f} s" for value in seconds)
              + (f"  ratio {seconds[0] / seconds[1]:.3f}" if len(seconds) > 1 else ""))
    result: dict = {"seconds": [[round(value, 3) for value in seconds] for seconds in rounds],
                    "median_seconds": [round(statistics.median(side), 3)
                                       for side in zip(*rounds, strict=True)]}
    if len(rounds[0]) > 1:
        result["median_ratio"] = round(statistics.median(a / b for a, b in rounds), 3)
        print(f"median ratio {result['median_ratio']}")
    if output:
        pathlib.Path(output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
