"""Whether a mode loses less than a point of full tuning, as a report in docs/paper has it.

    python benchmarks/paper_claim.py ["adapters 64" [pooler]]
"""
import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from adapter_bert.research.report.paper_tables import MARGIN

REPORTS = pathlib.Path(__file__).resolve().parent.parent / "docs/paper"


def main(row="adapters 64", place="."):
    """Prints each task's difference with its upper bound; exits with 1 where the mean's is above.

    Args:
      row: of the report's tables.
      place: folder of the report, below docs/paper.
    """
    path = REPORTS / place / "differences.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    if row not in rows or not rows[row]["mean"]:
        print(f"error: {path} has no difference of {row!r}; rows: {', '.join(rows)}",
              file=sys.stderr)
        sys.exit(2)
    found = rows[row]
    print("points behind full tuning: " + ", ".join(
        f"{task} {one['difference']:+.2f} (at most {one['bound']:+.2f})"
        for task, one in found.items()))
    sys.exit(round(found["mean"]["bound"], 2) >= MARGIN)


if __name__ == "__main__":
    main(*sys.argv[1:])
