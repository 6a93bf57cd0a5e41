"""What the commands that run a model have in common: settings in, one run out."""
import functools
import os
from collections.abc import Callable
from typing import Any

from adapter_bert import startup

startup.prepare()   # before TensorFlow is imported

from absl import app, logging  # noqa: E402
from absl import flags as absl_flags  # noqa: E402

from adapter_bert import flags  # noqa: E402
from adapter_bert.errors import DEBUG_VARIABLE, InputError, exit_on_input_error  # noqa: E402
from adapter_bert.train import preemption  # noqa: E402
from adapter_bert.train import run as training_run  # noqa: E402
from adapter_bert.train.distributed import (  # noqa: E402
    allreduce,
    clusters,
    launch,
)
from adapter_bert.train.hooks import speak_plainly  # noqa: E402
from adapter_bert.train.settings import TrainingSettings, check  # noqa: E402

absl_flags.DEFINE_bool(
    "debug", False, f"Show tracebacks instead of one-line errors; as {DEBUG_VARIABLE}=1 does.")


def start(settings_class: type, go: Callable) -> None:
    """Runs the script whose flags are the fields of a settings class.

    Args:
      settings_class: train.settings.TrainingSettings or a class made of it.
      go: function (settings, names of the flags that the user gave).
    """
    flags.define(settings_class)
    exit_on_input_error(app.run)(functools.partial(main, settings_class, go))


@exit_on_input_error
def main(settings_class: type, go: Callable, arguments: list[str]) -> None:
    """Reads the flags and runs; `arguments` is what absl left of sys.argv."""
    if absl_flags.FLAGS.debug:
        os.environ[DEBUG_VARIABLE] = "1"
    if arguments[1:]:
        raise InputError(f"{arguments[1]!r} belongs to no flag; write --flag=value")
    run(*flags.read(settings_class), go)


def run(settings: Any, explicit_flags: frozenset[str], go: Callable) -> None:
    """Runs, with our log lines and our handling of SIGTERM and Ctrl-C.

    Args:
      settings: train.settings.TrainingSettings, or the settings of another command.
      explicit_flags: names of the settings that the user gave.
      go: function (settings, explicit_flags).
    """
    speak_plainly()
    with preemption.handling(preemption.stop_at_once):
        dispatch(settings, explicit_flags, go)


def dispatch(settings: Any, explicit_flags: frozenset[str], go: Callable) -> None:
    """Runs this process in its role: alone, a worker, a parameter server, or the launcher of
    workers on this machine; arguments as for `run`."""
    if not isinstance(settings, TrainingSettings):
        go(settings, explicit_flags)
        return
    if settings.distribution == "mirrored":
        check(settings)
        launch.run(settings.num_replicas, settings.train_batch_size)
        return
    cluster = clusters.find(settings)
    if not cluster.is_chief:
        logging.set_verbosity(logging.WARNING)
    if cluster.is_server:
        with training_run.plain_errors():
            allreduce.serve(cluster)
    else:
        go(settings, explicit_flags)


def of_task(task_of: Callable, writes_report: bool = True) -> Callable:
    """The `go` of `start` for a task.

    Args:
      task_of: function of settings -> kinds.Task.
      writes_report: whether the run leaves report.md in its folder.
    """
    return lambda settings, explicit_flags: training_run.run(
        settings, explicit_flags, task_of(settings), writes_report=writes_report)
