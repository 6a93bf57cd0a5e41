"""adapter-bert dataset: a folder of tables as one file for meta-learning."""
import argparse
from typing import Any


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `dataset` to argparse's subparsers."""
    parser = commands.add_parser(
        "dataset", help="combine a folder of TSV files, one per domain, into a file for "
                        "meta-learning",
        description="Writes the examples of all .tsv and .csv files of a folder as one JSON file "
                    "for run_meta_training.py and run_finetuning.py. Each file is a domain.")
    parser.add_argument("folder", metavar="DIR", help="folder of the files")
    parser.add_argument("output", metavar="OUT.json", help="file to write")
    for name in ("text_column", "label_column"):
        parser.add_argument(f"--{name}", required=True, metavar="NAME",
                            help="column of each file; with --noheader a number from 0")
    parser.add_argument("--noheader", dest="header", action="store_false",
                        help="the files do not begin with the names of their columns")
    parser.set_defaults(run=_dataset)


def _dataset(output: str, **options: Any) -> None:
    from adapter_bert.research.meta import domains, import_tsv
    dataset = import_tsv.convert(output=output, **options)
    if removed := domains.removed_line(dataset):
        print(removed)
    sizes = ", ".join(f"{name} {len(examples):,}" for name, examples in dataset.domains.items())
    print(f"{output}: labels {', '.join(dataset.labels)}; examples: {sizes}")
