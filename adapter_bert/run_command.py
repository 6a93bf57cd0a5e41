"""What the commands that run a model do alike: flags in, one call out."""
import functools

from adapter_bert import startup

startup.prepare()   # before TensorFlow is imported

from absl import app, logging  # noqa: E402

from adapter_bert import flags, local_workers  # noqa: E402
from adapter_bert.errors import InputError, exit_on_input_error  # noqa: E402
from adapter_bert.training import clusters, exchange, preemption, settings  # noqa: E402
from adapter_bert.training.hooks import speak_plainly  # noqa: E402
from adapter_bert.training.run import plain_errors, run  # noqa: E402


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
        take_part(*flags.read(settings_class), go)


def take_part(told, given, go):
    """Runs as what this process is: one alone, a worker, a parameter server, or those of a machine.

    Args:
      told: training.settings.TrainingSettings.
      given: names of the settings that a person gave.
      go: function (settings, given).
    """
    if not isinstance(told, settings.TrainingSettings):
        go(told, given)
        return
    if told.distribution == "mirrored":
        settings.check(told)
        local_workers.run(told.num_replicas, told.train_batch_size)
        return
    cluster = clusters.find(told)
    if not cluster.is_chief:
        logging.set_verbosity(logging.WARNING)
    if cluster.is_server:
        with plain_errors():
            exchange.serve(cluster)
    else:
        go(told, given)


def of_task(task_of):
    """What `start` calls to run a task; `task_of` is a function of settings -> tasks.Task."""
    return lambda settings, given: run(settings, given, task_of(settings))
