"""run_classifier.py for tests: without dropout, killed after DIE_AFTER steps of a session."""
import os
import signal

from adapter_bert.cli import run_command
from adapter_bert.kinds.heads import labels
from adapter_bert.train.distributed import allreduce
from adapter_bert.train.hooks import CountingHook
from adapter_bert.train.named_task import text_task
from adapter_bert.train.settings import Settings


class Death(CountingHook):
    """Ends the process as a power cut would, after so many steps of a session."""

    def __init__(self, steps):
        self._steps = steps

    def after_create_session(self, session, coord):
        super().after_create_session(session, coord)
        self._last = self.step + self._steps

    def after_run(self, run_context, run_values):
        super().after_run(run_context, run_values)
        if self.step == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def mortal(link, step, hooks=allreduce.hooks):
    return hooks(link, step) + [Death(int(os.environ["DIE_AFTER"]))]


if __name__ == "__main__":
    labels.HEAD_DROPOUT = 0.0
    if "DIE_AFTER" in os.environ:
        allreduce.hooks = mortal
    run_command.start(Settings, run_command.of_task(text_task))
