"""What the commands that run a model do alike: flags in, one call out."""
import functools
import logging as standard_logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")   # before TensorFlow is imported

import tensorflow.compat.v1 as tf  # noqa: E402
from absl import app, logging  # noqa: E402

from adapter_bert import flags  # noqa: E402
from adapter_bert.errors import InputError, exit_on_input_error  # noqa: E402
from adapter_bert.training import preemption  # noqa: E402
from adapter_bert.training.run import run  # noqa: E402


def start(settings_class, go):
    """Runs the command whose flags are the fields of a settings class.

    Args:
      settings_class: training.settings.TrainingSettings or a class made of it.
      go: function (settings, names of those that a person gave).
    """
    flags.define(settings_class)
    app.run(functools.partial(main, settings_class, go))


@exit_on_input_error
def main(settings_class, go, arguments):
    """Reads the flags and runs; `arguments` is what absl left of sys.argv."""
    speak_plainly()
    if arguments[1:]:
        raise InputError(f"{arguments[1]!r} belongs to no flag; write --flag=value")
    with preemption.handling(preemption.stop_at_once):
        go(*flags.read(settings_class))


def of_task(task_of):
    """What `start` calls to run a task; `task_of` is a function of settings -> tasks.Task."""
    return lambda settings, given: run(settings, given, task_of(settings))


def speak_plainly():
    """Our lines without prefix on stderr; what TensorFlow has to say comes as exceptions."""
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(standard_logging.Formatter("%(message)s"))
    tf.logging.set_verbosity(tf.logging.FATAL)
