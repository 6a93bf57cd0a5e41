"""Trains, evaluates and predicts a text task with adapters on BERT.

    python run_classifier.py --task_name=MRPC --data_dir=glue/MRPC --output_dir=out/mrpc \\
        --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_eval --learning_rate=3e-4 \\
        --num_train_epochs=5
"""
import logging as standard_logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")   # before TensorFlow is imported

import tensorflow.compat.v1 as tf  # noqa: E402
from absl import app, logging  # noqa: E402

from adapter_bert import flags, tasks  # noqa: E402
from adapter_bert.errors import InputError, exit_on_input_error  # noqa: E402
from adapter_bert.training.run import run  # noqa: E402
from adapter_bert.training.settings import Settings  # noqa: E402


def task_of(settings):
    """The GLUE task of --task_name, or the custom task of the column flags."""
    if (settings.task_name or "").lower() != "custom":
        return tasks.get_task(settings.task_name or "")
    for name in ("text_column", "label_column"):
        if getattr(settings, name) is None:
            raise InputError(f"--{name} is missing; the task custom needs it")
    kind = {"classes": "classification", "number": "regression"}.get(
        settings.label_type, settings.label_type)
    return tasks.generic_task(settings.text_column, settings.text_b_column, settings.label_column,
                              settings.header, kind)


def speak_plainly():
    """Our lines without prefix on stderr; what TensorFlow has to say comes as exceptions."""
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(standard_logging.Formatter("%(message)s"))
    tf.logging.set_verbosity(tf.logging.FATAL)


@exit_on_input_error
def main(arguments):
    """Reads the flags and runs."""
    speak_plainly()
    if arguments[1:]:
        raise InputError(f"{arguments[1]!r} belongs to no flag; write --flag=value")
    settings, given = flags.read(Settings)
    run(settings, given, task_of(settings))


if __name__ == "__main__":
    flags.define(Settings)
    app.run(main)
