"""Whether adapters lose less than a point of full tuning, as docs/paper/seeds measured it.

    python benchmarks/paper_claim.py
"""
import json
import pathlib
import sys

from adapter_bert.paper.tables import MARGIN

RECORD = pathlib.Path(__file__).resolve().parent.parent / "docs/paper/seeds/differences.json"
ROW = "adapters 64"


def main():
    """Prints each task's difference with its upper bound; exits with 1 where the mean's is above.
    """
    found = json.loads(RECORD.read_text())[ROW]
    print("points behind full tuning: " + ", ".join(
        f"{task} {one['difference']:+.2f} (at most {one['bound']:+.2f})"
        for task, one in found.items()))
    sys.exit(found["mean"]["bound"] >= MARGIN)


if __name__ == "__main__":
    main()
