"""The command `adapter-bert`, also `python -m adapter_bert`: one subcommand a job."""
import argparse
import logging
import os
import sys

from adapter_bert import experiment_command, pack_command, predict_command, serve_command
from adapter_bert.cli import tune
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
    tune.add(commands)
    _add_dataset(commands)
    _add_compare(commands)
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


def _add_dataset(commands):
    parser = commands.add_parser(
        "dataset", help="a folder of TSV files, one a domain, as one file for meta-learning",
        description="Writes the examples of all .tsv and .csv files of a folder as one JSON file "
                    "for run_meta_training.py and run_finetuning.py. A file is a domain.")
    parser.add_argument("folder", metavar="DIR", help="folder of the files")
    parser.add_argument("output", metavar="OUT.json", help="file to write")
    for name in ("text_column", "label_column"):
        parser.add_argument(f"--{name}", required=True, metavar="NAME",
                            help="column of each file; with --noheader a number from 0")
    parser.add_argument("--noheader", dest="header", action="store_false",
                        help="the files do not begin with the names of their columns")
    parser.set_defaults(run=_dataset)


def _dataset(output, **options):
    from adapter_bert.metalearning import domains, tables
    dataset = tables.convert(output=output, **options)
    if removed := domains.removed_line(dataset):
        print(removed)
    sizes = ", ".join(f"{name} {len(examples):,}" for name, examples in dataset.domains.items())
    print(f"{output}: labels {', '.join(dataset.labels)}; examples: {sizes}")


def _add_compare(commands):
    parser = commands.add_parser(
        "compare", help="two results of run_finetuning.py on the same draws",
        description="Prints what the first is better by, with its 95 %% interval, as a Markdown "
                    "table.")
    for name in ("path", "other_path"):
        parser.add_argument(name, metavar="results.json", help="of run_finetuning.py")
    parser.add_argument("--names", default="first,second", metavar="A,B",
                        help="what the two are called in the table")
    parser.set_defaults(run=_compare)


def _compare(path, other_path, names):
    from adapter_bert.metalearning import comparison
    called = names.split(",")
    if len(called) != 2:
        raise InputError(f"--names={names}: give two names as in meta,plain")
    print("\n".join(comparison.difference_table(called, comparison.compare(path, other_path))))


if __name__ == "__main__":
    main()
