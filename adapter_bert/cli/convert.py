"""adapter-bert convert: a BERT between Google's and Hugging Face's format."""
import argparse


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `convert` to argparse's subparsers."""
    parser = commands.add_parser(
        "convert", help="convert a BERT between Hugging Face's and Google's format",
        description="Converts a Hugging Face BERT folder to Google's format or back. With "
                    "--to=full, merges a run's checkpoint with its base into a stock checkpoint.")
    parser.add_argument("source", metavar="SRC", help="folder, or prefix of a run's checkpoint")
    parser.add_argument("destination", metavar="DST", help="folder or checkpoint prefix to write")
    parser.add_argument("--to", choices=("google", "huggingface", "full"),
                        help="format of DST; by default the other one than that of SRC")
    parser.add_argument("--base", dest="base_path", metavar="PATH",
                        help="with --to=full: the base's folder or checkpoint prefix; by default "
                             "the one that run.json beside SRC names")
    parser.set_defaults(run=_convert)


def _convert(**options: str | None) -> None:
    from adapter_bert.bert.conversion import convert  # imports TensorFlow
    print(convert(**options))
