"""The loop of a search: trial after trial, each in a process of its own, until all are done."""
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from absl import logging
from optuna.trial import TrialState

from adapter_bert import files
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError, Stopped
from adapter_bert.research.tuning import journal as journals
from adapter_bert.research.tuning import plan as plans
from adapter_bert.research.tuning import summary
from adapter_bert.research.tuning.trial import LOG_FILE, OUTCOME_FILE, Job
from adapter_bert.train import preemption
from adapter_bert.train.hooks import duration
from adapter_bert.train.initial_values import all_of, remove

BEST = "best"
# How often the process of a trial may die, as where memory is short for a moment.
ATTEMPTS, SECONDS_BETWEEN_ATTEMPTS = 3, 1.0
SECONDS_BETWEEN_LOOKS = 1.0
MOST_FAILED = 3   # trials from the first on, after which something is wrong with all of them
# What a run leaves that is large; the rest of its folder is kept of every trial.
LARGE = (checkpoint_io.BEST_FOLDER, "pack", "eval", "from_pack", "from_init_pack", "checkpoint",
         "graph.pbtxt")


class Stopper:
    """Passes the first SIGINT or SIGTERM on to the trial, so that it saves a checkpoint and ends.

    Attributes:
      process: of the trial that runs; None between trials.
      number: of the signal; None before one came.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.number: int | None = None

    def note(self, number: int, frame: object) -> None:
        """Remembers a signal; a handler of signals. A second one ends the trial at once."""
        del frame
        is_first, self.number = self.number is None, number
        if self.process is None:
            self.stop()
        elif is_first:
            self.process.terminate()
        else:
            self.process.kill()

    def stop(self) -> None:
        """Raises Stopped where a signal came."""
        if self.number is not None:
            raise Stopped(self.number, f"stopped by {signal.Signals(self.number).name}; the same "
                                       "command resumes the search")


RunTrial = Callable[[Job, Stopper], journals.Outcome]


def search(plan: plans.Plan, trials: int, run_trial: RunTrial | None = None) -> journals.Journal:
    """Runs trials until the folder has so many, together with other processes at work there.

    Args:
      plan: what to search.
      trials: how many there should be, those of earlier calls included.
      run_trial: what runs a trial; a process of its own where None.

    Returns:
      The Journal with the trials.

    Raises:
      InputError: all trials failed.
      Stopped: SIGINT or SIGTERM came; the same call resumes.
    """
    stopper, run_trial = Stopper(), run_trial or run_process
    with preemption.handling(stopper.note):
        journal = journals.Journal(plan.folder)
        while True:
            _tidy(plan, journal)
            _refuse_failing(plan, journal, trials)
            with journal.next_trial(plan.space, plan.settings.seed, trials) as number:
                if number is not None:
                    values = journal.trials()[number].params
                    journal.finish(number, run_trial(plan.job(number, values), stopper))
                    logging.info(summary.line(plan, journal.trials(), number, trials))
            stopper.stop()
            if number is None:
                if not any(trial.state == TrialState.RUNNING for trial in journal.trials()):
                    return journal
                time.sleep(SECONDS_BETWEEN_LOOKS)


def _refuse_failing(plan: plans.Plan, journal: journals.Journal, most: int) -> None:
    """InputError where every trial failed, and there were enough of them to say so."""
    done = [trial for trial in journal.trials() if trial.state != TrialState.RUNNING]
    if len(done) < min(MOST_FAILED, most) or any(
            trial.state != TrialState.FAIL for trial in done):
        return
    last = done[-1]
    log = os.path.join(plan.output_dir(last.number), LOG_FILE)
    raise InputError(f"all {len(done)} trials failed, the last because: "
                     f"{last.user_attrs.get('reason')}; see {log}, and remove {plan.folder} to "
                     "start again")


def run_process(job: Job, stopper: Stopper) -> journals.Outcome:
    """Runs a trial in a process of its own, again where that is killed.

    Raises:
      Stopped: a signal came while the trial ran.
    """
    for _ in range(ATTEMPTS):
        code = _start_and_wait(job, stopper)
        path = os.path.join(job.output_dir, OUTCOME_FILE)
        if os.path.exists(path):
            return journals.Outcome(**files.read_object(path))
        stopper.stop()
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)
        stopper.stop()
    return journals.Outcome("failed", None, 0, reason=(
        f"its process ended {ATTEMPTS} times with exit code {code}"
        + (", as when memory is short" if code == -signal.SIGKILL else "")))


def _start_and_wait(job: Job, stopper: Stopper) -> int:
    """Starts the process of a trial; returns its exit code. Its output goes to the trial's log.

    It is in a session of its own, so that Ctrl-C reaches this process alone.
    """
    os.makedirs(job.output_dir, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(job.output_dir, OUTCOME_FILE))
    command = [sys.executable, "-m", "adapter_bert.research.tuning.trial"]
    with open(os.path.join(job.output_dir, LOG_FILE), "ab") as log, subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True) as process:
        stopper.process = process
        try:
            if stopper.number is not None:   # it came while the process was started
                process.terminate()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(dataclasses.asdict(job)).encode() + b"\n")
            return process.wait()
        finally:
            stopper.process = None


def _tidy(plan: plans.Plan, journal: journals.Journal) -> None:
    """Points best/ to the best trial, removes the checkpoints of the others, writes trials.csv."""
    with journal.alone():
        trials = journal.trials()
        best = journals.best_of(trials)
        if best:
            _link(os.path.join(plan.folder, BEST), plan.output_dir(best.number))
        for trial in trials:
            if trial.state != TrialState.RUNNING and trial is not best:
                strip(plan.output_dir(trial.number))
        if trials:
            summary.write_csv(plan, trials)


def _link(path: str, target: str) -> None:
    """Makes `path` a relative link to a folder beside it, in one step."""
    target = os.path.relpath(target, os.path.dirname(path))
    if os.path.islink(path) and os.readlink(path) == target:
        return
    if os.path.exists(path) and not os.path.islink(path):
        raise InputError(f"{path}: is not the link to the best trial; remove it")
    temporary = f"{path}.part"
    with contextlib.suppress(FileNotFoundError):
        os.remove(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def strip(folder: str) -> None:
    """Removes checkpoints, pack and data from the folder of a run; its small results stay."""
    if not os.path.isdir(folder):
        return
    for prefix in all_of(folder):
        remove(prefix)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name in LARGE or name.startswith(("events.", "model.ckpt-")) or ".tf_record" in name:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.remove(path)


def run(plan: plans.Plan, trials: int) -> str:
    """A whole search: trials, table, picture; returns what to print.

    Args:
      plan: what to search, not yet bound to its folder.
      trials: how many trials there should be.
    """
    plan = plans.bind(plan)
    began = time.monotonic()
    logging.info("%s: %s", plan.folder, summary.in_words(plan, trials))
    journal = search(plan, trials)
    logging.info("%d trials, %s", len(journal.trials()), duration(time.monotonic() - began))
    return summary.write(plan, journal.trials(), journal.best())
