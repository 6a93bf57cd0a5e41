"""The command `adapter-bert`: its subcommands, --version and --debug."""
import os
import sys
from collections.abc import Sequence

from adapter_bert import __version__, startup
from adapter_bert.cli import (
    bulk_predict,
    compare,
    convert,
    dataset,
    evaluate,
    experiment,
    export,
    pack,
    predict,
    serve,
    train,
    tune,
)
from adapter_bert.cli.parser import Parser
from adapter_bert.errors import DEBUG_VARIABLE, exit_on_input_error

# In the order in which --help lists them.
COMMANDS = (train, evaluate, predict, tune, pack, serve, export, bulk_predict, convert, experiment,
            dataset, compare)
DEBUG_FLAG = "--debug"


@exit_on_input_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a subcommand.

    Args:
      arguments: words of the command line; those of this process when None.

    Raises:
      SystemExit: with the exit code, see errors.exit_on_input_error.
    """
    words = without_debug(sys.argv[1:] if arguments is None else arguments)
    startup.prepare()
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")   # no notes at start-up
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    options = vars(make_parser().parse_args(words))
    options.pop("run")(**options)


def make_parser() -> Parser:
    """The parser with all subcommands. Nothing here or in the modules above imports TensorFlow."""
    parser = Parser(
        prog="adapter-bert", description="Adapters for BERT: train, use and share small tasks on "
                                         "one frozen model.",
        epilog="Every command takes --debug: tracebacks instead of one-line errors "
               f"({DEBUG_VARIABLE}=1 does the same). adapter-bert COMMAND --help has its flags.")
    parser.add_argument("--version", action="version", version=f"adapter-bert {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add(commands)
    return parser


def without_debug(words: Sequence[str]) -> list[str]:
    """The words without --debug, which is noted in the environment, where workers find it too.

    What comes after `--` belongs to another program and stays.
    """
    end = words.index("--") if "--" in words else len(words)
    if DEBUG_FLAG in words[:end]:
        os.environ[DEBUG_VARIABLE] = "1"
    return [word for word in words[:end] if word != DEBUG_FLAG] + list(words[end:])
