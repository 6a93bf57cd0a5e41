"""A trial: one training run, in a process of its own.

    python -m adapter_bert.research.tuning.trial < JOB

A process per trial costs about 5 s for the import of TensorFlow. In return, memory and GPU are free
again after each trial, and a trial that runs out of memory or crashes does not end the search. The
process ends at once when the search that started it is gone: its standard input ends.
"""
import dataclasses
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from adapter_bert import files
from adapter_bert.errors import InputError, Stopped
from adapter_bert.research.tuning import journal as journals

OUTCOME_FILE, LOG_FILE = "outcome.json", "log.txt"
# Dev scores per trial. They are taken at the same shares of each trial's schedule, not after the
# same number of epochs: the learning rate falls to zero over the schedule, so that scores of a
# short and a long trial are comparable at the same share only.
EVALUATIONS = 4
LOCK_SECONDS = 60   # for the process of a search that was killed a moment ago to end


@dataclasses.dataclass(frozen=True)
class Job:
    """What the process of a trial reads from standard input, as JSON.

    folder: of the search.
    number: of the trial.
    command: "classifier" or "squad", the command whose flags these are.
    flags: {flag: value} of the run, with its output folder.
    metric: key of the score in the run's metrics.
    steps: training steps of the whole run.
    """

    folder: str
    number: int
    command: str
    flags: dict[str, Any]
    metric: str
    steps: int

    @property
    def output_dir(self) -> str:
        """Folder of the run."""
        return self.flags["output_dir"]


class Pruned(Exception):
    """Ends a run whose scores are too low."""


def rung_of(step: int, steps: int) -> int:
    """Which of the EVALUATIONS of a run of `steps` steps the one after `step` is, from 1."""
    return max(1, round(EVALUATIONS * step / steps))


def watcher(job: Job, journal: journals.Journal) -> Callable[[int, Mapping[str, float]], None]:
    """What loop.train calls with dev scores; it raises Pruned where the run should end."""
    def on_scores(step: int, metrics: Mapping[str, float]) -> None:
        rung = rung_of(step, job.steps)
        if journal.report(job.number, rung, metrics[job.metric]) and rung < EVALUATIONS:
            raise Pruned
    return on_scores


def run(job: Job) -> journals.Outcome:
    """Trains a trial, or resumes it, and returns how it ended.

    Raises:
      Stopped: a signal ended it; it can be resumed.
    """
    from adapter_bert.research.tuning import commands
    from adapter_bert.train import initial_values
    from adapter_bert.train.run import run as train
    journal, state, value, reason = journals.Journal(job.folder), "failed", None, None
    settings, task = commands.settings_of(job.command, job.flags)
    began = time.monotonic()
    try:
        metrics = train(settings, frozenset(job.flags), task, on_scores=watcher(job, journal))
        if _learned(job.output_dir):
            state, value = "complete", float(metrics[job.metric])
        else:
            reason = "it learned nothing: every prediction for the dev set is the same"
    except Pruned:
        state = "pruned"
    except InputError as error:
        reason = str(error)
    step = initial_values.latest_step(job.output_dir)[1]
    return journals.Outcome(state, value, step, round(time.monotonic() - began, 1), reason)


def _learned(folder: str) -> bool:
    """Whether the run in a folder learned something, as far as its guard noticed."""
    return files.read_object(os.path.join(folder, "results.json"))["guard"]["learned"]


def main() -> int:
    """Runs the job of standard input and leaves its outcome in the run's folder."""
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_search, daemon=True).start()
    import filelock

    from adapter_bert.train import preemption
    from adapter_bert.train.hooks import speak_plainly
    speak_plainly()
    os.makedirs(job.output_dir, exist_ok=True)
    lock = filelock.FileLock(os.path.join(job.output_dir, ".process"), timeout=LOCK_SECONDS)
    try:
        with lock, preemption.handling(preemption.stop_at_once):
            outcome = run(job)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.number
    except Exception as error:
        traceback.print_exc()
        outcome = journals.Outcome("failed", None, 0, reason=f"{type(error).__name__}: {error}")
    files.write_json(os.path.join(job.output_dir, OUTCOME_FILE), outcome._asdict())
    return 0


def _end_with_search() -> None:
    os.read(0, 1)   # sys.stdin has a lock; this returns when the other end is closed
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
