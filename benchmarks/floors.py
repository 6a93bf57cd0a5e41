"""Says which floors the measurements in docs/benchmarks meet; exits with 1 where one is missed.

    python benchmarks/floors.py [NAME ...]

NAMEs are patterns of measurements, as in `intel-xeon/train-*`; all where there is none.
"""
import json
import sys

from sides import RESULTS


def main():
    """Prints a line for each missed floor, and the count."""
    found = [sorted(RESULTS.glob(f"{name}.json")) for name in sys.argv[1:] or ["*/*"]]
    if not all(found):
        sys.exit("error: no measurement of that name in docs/benchmarks")
    claims = [claim for paths in found for path in paths
              for claim in json.loads(path.read_text())["claims"] if claim[2] is not None]
    missed = [f"{what}: {number:.3g}, not {floor:g}" for what, number, floor in claims
              if number < floor]
    print("; ".join([f"{len(claims) - len(missed)} of {len(claims)} floors met", *missed]))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
