"""adapter-bert export: packs as a SavedModel."""
import argparse
import logging
import os
from typing import Any

from adapter_bert.cli.pack import PACK


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `export` to argparse's subparsers."""
    parser = commands.add_parser(
        "export", help="write packs as a SavedModel for TensorFlow Serving",
        description="Writes the next version of a SavedModel: texts in, predictions out. With "
                    "several packs, each row names its task.")
    parser.add_argument("packs", **{**PACK, "nargs": "+"})
    parser.add_argument("--bert_dir", required=True, metavar="DIR", help="folder of the base")
    parser.add_argument("--output", required=True, metavar="DIR/NAME",
                        help="folder of the served model; versions are folders in it")
    parser.add_argument("--version", type=int, help="version number; by default the next free one")
    parser.add_argument("--ids_only", action="store_true",
                        help="the model takes word-piece ids instead of texts, and does not need "
                             "tensorflow-text")
    parser.set_defaults(run=_export)


def _export(**options: Any) -> None:
    from adapter_bert.export.savedmodel import export  # imports TensorFlow
    # TensorFlow logs that SavedModel's TF1 functions are deprecated.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    path = export(**options)
    print(f"{path}: a SavedModel; serve its parent folder under the name "
          f"{os.path.basename(os.path.dirname(os.path.abspath(path)))}")
