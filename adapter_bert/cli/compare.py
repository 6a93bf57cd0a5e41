"""adapter-bert compare: the difference between two results of run_finetuning.py."""
import argparse

from adapter_bert.errors import InputError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `compare` to argparse's subparsers."""
    parser = commands.add_parser(
        "compare", help="compare two results of run_finetuning.py on the same samples",
        description="Prints by how much the first result is better, with a 95 %% confidence "
                    "interval, as a Markdown table.")
    for name in ("path", "other_path"):
        parser.add_argument(name, metavar="results.json", help="of run_finetuning.py")
    parser.add_argument("--names", default="first,second", metavar="A,B",
                        help="names of the two in the table (%(default)s)")
    parser.set_defaults(run=_compare)


def _compare(path: str, other_path: str, names: str) -> None:
    from adapter_bert.research.meta import start_comparison
    labels = names.split(",")
    if len(labels) != 2:
        raise InputError(f"--names={names}: give two names as in meta,plain")
    print(
        "\n".join(
            start_comparison.difference_table(labels, start_comparison.compare(path, other_path))
        )
    )
