"""adapter-bert tune: its flags. Imports no TensorFlow before it runs."""
import logging
import os
from collections.abc import Sequence

from adapter_bert.errors import InputError

DESCRIPTION = """\
usage: adapter-bert tune --output_dir=DIR [--trials=30] [--search=NAMES] [flags of training]

Trains many runs of one task, each with other hyper-parameters, and keeps the best by the task's
first metric on the dev set. Runs that are worse than most at the same stage are stopped early. The
same command resumes a search that was stopped, and more processes or machines that start it with
the same --output_dir share the work.

  --output_dir=DIR  folder of the search: best/ is the best run with its pack, trials.csv and
                    trials.png show all trials
  --trials=30       how many trials there should be; may be raised later
  --search=NAMES    what to search, of learning_rate,epochs,size,method; all that no flag sets
                    and that apply unless given

All other flags are those of training and the same in every trial: see python run_classifier.py
--help, or run_squad.py --help with --train_file and --predict_file."""
SQUAD_FLAG = "--train_file"


def add(commands) -> None:
    """Adds `tune` to argparse's subparsers."""
    parser = commands.add_parser(
        "tune", help="search for the best learning rate, epochs, adapter size and method",
        add_help=False,
        prefix_chars="\0")   # every argument is for `tune`: the flags are those of training
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=tune)


def tune(arguments: Sequence[str]) -> None:
    """Runs the command with these arguments, those after `adapter-bert tune`."""
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(DESCRIPTION)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from absl import flags

    from adapter_bert import flags as settings_flags
    from adapter_bert.research.tuning import commands, plan, search
    from adapter_bert.train.hooks import speak_plainly
    speak_plainly()
    command = "squad" if any(argument.split("=")[0] == SQUAD_FLAG for argument in arguments) else (
        "classifier")
    settings_class, values = commands.COMMANDS[command][0], flags.FlagValues()
    settings_flags.define(settings_class, values)
    flags.DEFINE_integer("trials", 30, "Trials of the search.", flag_values=values)
    flags.DEFINE_string("search", None, "What to search.", flag_values=values)
    try:
        rest = values(["tune", *arguments])[1:]
    except flags.Error as error:
        raise InputError(f"{error}; see adapter-bert tune --help") from error
    if rest:
        raise InputError(f"{rest[0]!r} belongs to no flag; write --flag=value")
    if values.trials < 1:
        raise InputError(f"--trials={values.trials}: must be at least 1")
    settings, explicit_flags = settings_flags.read(settings_class, values)
    print(search.run(plan.make(command, settings, explicit_flags, values.search), values.trials),
          end="")
