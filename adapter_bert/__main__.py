"""The command `adapter-bert`, also `python -m adapter_bert`: one subcommand a job."""
import argparse
import logging
import os
import sys

from adapter_bert import experiment_command, pack_command, predict_command, serve_command
from adapter_bert.errors import InputError, exit_on_input_error


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as everything here does."""

    def error(self, message):
        """Raises InputError where argparse would print its usage."""
        raise InputError(f"{message}; see {self.prog} --help")


@exit_on_input_error
def main(arguments=None):
    """Runs the subcommand that `arguments` (the command line when None) names."""
    parser = Parser(prog="adapter-bert", description="Adapters for BERT.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_convert(commands)
    pack_command.add(commands)
    _add_export(commands)
    predict_command.add(commands)
    serve_command.add(commands)
    experiment_command.add(commands)
    for name, quiet in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("HF_HUB_VERBOSITY", "error")):
        os.environ.setdefault(name, quiet)   # greetings and notes; errors still raise
    sys.stdout.reconfigure(errors="backslashreplace")
    options = vars(parser.parse_args(arguments))
    options.pop("run")(**options)


def _add_convert(commands):
    parser = commands.add_parser(
        "convert", help="a BERT between Hugging Face's form and Google's; a run's full checkpoint",
        description="Converts a Hugging Face BERT folder to Google's form or back. With "
                    "--to=full, makes a stock checkpoint of what a run trained and its base.")
    parser.add_argument("source", metavar="SRC", help="folder, or prefix of a run's checkpoint")
    parser.add_argument("destination", metavar="DST", help="folder or checkpoint prefix to make")
    parser.add_argument("--to", choices=("google", "huggingface", "full"),
                        help="the form of DST; found from what SRC is when left out")
    parser.add_argument("--base", dest="base_path", metavar="PATH",
                        help="with --to=full: the base's folder or checkpoint prefix; the one that "
                             "run.json beside SRC names when left out")
    parser.set_defaults(run=_convert)


def _convert(**options):
    from adapter_bert.convert import convert  # imports TensorFlow, which --help does without
    print(convert(**options))


def _add_export(commands):
    parser = commands.add_parser(
        "export", help="packs as a SavedModel for TensorFlow Serving",
        description="Writes the next version of a SavedModel: texts in, predictions out. Of more "
                    "than one pack, each row names its task.")
    parser.add_argument("packs", **{**pack_command.PACK, "nargs": "+"})
    parser.add_argument("--bert_dir", required=True, metavar="DIR", help="folder of the base")
    parser.add_argument("--output", required=True, metavar="DIR/NAME",
                        help="folder of the served model; versions are folders in it")
    parser.add_argument("--version", type=int, help="its number; the next free one when left out")
    parser.add_argument("--ids_only", action="store_true",
                        help="word-piece ids come in, not texts; needs no tensorflow-text")
    parser.set_defaults(run=_export)


def _export(**options):
    from adapter_bert.serving.export import export
    logging.getLogger("tensorflow").setLevel(logging.ERROR)   # it calls SavedModel's API old
    path = export(**options)
    print(f"{path}: a SavedModel; serve its parent folder under the name "
          f"{os.path.basename(os.path.dirname(os.path.abspath(path)))}")


if __name__ == "__main__":
    main()
