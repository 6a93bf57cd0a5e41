"""The trials of a search, in a journal file that several processes and machines share.

Optuna keeps the trials and proposes the next; what is here makes a search survive a kill at any
moment. A trial is written down with all of its parameters in one line, before it begins. The
proposal depends only on the seed, the trial's number, and the trials before it. So a search that
one process resumes proposes what an uninterrupted search would have proposed.
"""
import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import filelock
import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from adapter_bert.research.tuning import space as spaces

JOURNAL_FILE, LOCKS, STUDY = "journal.log", "locks", "tune"
# Random trials before the model of the scores proposes: half of Optuna's default of ten, since a
# search has tens of trials, not hundreds.
RANDOM_TRIALS = 5
# A trial is stopped where it is worse than the median of the complete ones at the same share of
# their schedules, after so many complete ones. The median needs no budget or bracket to be chosen,
# as Hyperband does, and never stops a trial that ties with the others, as scores at the start do.
UNPRUNED_TRIALS = 4

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Outcome(NamedTuple):
    """How a trial ended.

    state: "complete", "pruned" or "failed".
    value: the best dev score; None where there is none.
    step: training steps done.
    seconds: of the process that finished it; an earlier one that was killed is not counted.
    reason: why it failed.
    """

    state: str
    value: float | None
    step: int
    seconds: float = 0.0
    reason: str | None = None


STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
NAMES = {state: name for name, state in STATES.items()} | {TrialState.RUNNING: "running"}


class _KernelLock(JournalFileOpenLock):
    """A lock that ends with its process; Optuna's own ones block for 30 s after a kill."""

    def __init__(self, path: str):
        super().__init__(path)
        self._lock = filelock.FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _lock_path(folder: str, name: str) -> str:
    """Path of a lock of a search; its folder is made where it is missing."""
    os.makedirs(os.path.join(folder, LOCKS), exist_ok=True)
    return os.path.join(folder, LOCKS, f"{name}.lock")


def alone(folder: str) -> filelock.BaseFileLock:
    """A lock to hold while something is decided for the search of a folder; others wait."""
    return filelock.FileLock(_lock_path(folder, "search"))


class Journal:
    """The study of a folder.

    Args:
      folder: of the search, on this machine or one that all its machines share.
    """

    def __init__(self, folder: str):
        self._folder = folder
        path, lock = os.path.join(folder, JOURNAL_FILE), _lock_path(folder, "journal")
        with filelock.FileLock(lock):
            _drop_half_line(path)
        self._storage = optuna.storages.JournalStorage(
            JournalFileBackend(path, _KernelLock(lock)))
        with self.alone():
            self._study = optuna.create_study(
                storage=self._storage, study_name=STUDY, direction="maximize",
                load_if_exists=True, sampler=optuna.samplers.RandomSampler(),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS))

    def alone(self) -> filelock.BaseFileLock:
        """A lock to hold while something is decided for the whole search; others wait."""
        return alone(self._folder)

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest score, the first of equals."""
        return best_of(self.trials())

    @contextlib.contextmanager
    def next_trial(self, space: spaces.Space, seed: int, most: int) -> Iterator[int | None]:
        """The number of a trial that is this process's alone while the block runs.

        It is one that a process left behind when it died, or else a new one; None where all of
        `most` trials are finished or run elsewhere.

        Args:
          space: what is searched.
          seed: of the proposals.
          most: trials of the search.
        """
        with contextlib.ExitStack() as stack:
            with self.alone():
                number = self._take_over(stack)
                if number is None and len(self.trials()) < most:
                    number = self._add(space, seed)
                    stack.enter_context(self._trial_lock(number))
            yield number

    def _take_over(self, stack: contextlib.ExitStack) -> int | None:
        """The first trial that nobody runs any more, with its lock in `stack`."""
        for trial in self.trials():
            if trial.state == TrialState.RUNNING:
                with contextlib.suppress(filelock.Timeout):
                    stack.enter_context(self._trial_lock(trial.number))
                    if self.trials()[trial.number].state == TrialState.RUNNING:
                        return trial.number
                    stack.close()
        return None

    def _trial_lock(self, number: int) -> filelock.BaseFileLock:
        return filelock.FileLock(_lock_path(self._folder, f"{number + 1:04d}"), timeout=0)

    def _add(self, space: spaces.Space, seed: int) -> int:
        """Writes down the next trial, with its parameters; returns its number."""
        trials = self.trials()
        values = propose(trials, space, seed)
        self._study.add_trial(optuna.create_trial(
            state=TrialState.RUNNING, params=values,
            distributions={name: row.distribution for name, row in space.items()}))
        return len(trials)

    def _trial(self, number: int) -> optuna.Trial:
        study_id = self._storage.get_study_id_from_name(STUDY)
        return optuna.Trial(
            self._study, self._storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def report(self, number: int, rung: int, value: float) -> bool:
        """Notes a dev score on the way; returns whether the trial should be pruned.

        Args:
          number: of the trial.
          rung: which of the trial's evaluations it is, from 1; the last is never pruned.
          value: score; a score that was noted before stays.
        """
        trial = self._trial(number)
        if rung not in self.trials()[number].intermediate_values:
            trial.report(value, rung)
        return trial.should_prune()

    def finish(self, number: int, outcome: Outcome) -> None:
        """Writes down how a trial ended."""
        trial, state = self._trial(number), STATES[outcome.state]
        for name in ("step", "seconds", "reason"):
            trial.set_user_attr(name, getattr(outcome, name))
        self._study.tell(number, outcome.value if state == TrialState.COMPLETE else None, state)


def propose(trials: Sequence[FrozenTrial], space: spaces.Space, seed: int) -> dict[str, Any]:
    """The parameters of the next trial: first the defaults, then what TPE proposes.

    The sampler is made for this trial from the seed and its number. It works on a copy of the
    trials in memory, so that nothing is written before all parameters are known.

    Args:
      trials: all trials so far.
      space: what is searched.
      seed: of the search.

    Returns:
      {parameter: value}.
    """
    if not trials:
        return {name: row.first for name, row in space.items()}
    own_seed = int(np.random.SeedSequence([seed, len(trials)]).generate_state(1)[0])
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(
        seed=own_seed, n_startup_trials=RANDOM_TRIALS, multivariate=True))
    study.add_trials(trials)
    proposed = study.ask({name: row.distribution for name, row in space.items()})
    return spaces.rounded(proposed.params, space)


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the highest score, the first of equals."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: trial.value or 0.0, default=None)


def score_of(trial: FrozenTrial) -> float | None:
    """The best dev score of a trial so far; None before the first, or where it failed."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    values = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
    return max(values, default=None)


def _drop_half_line(path: str) -> None:
    """Cuts the last line of a journal where a full disk or a power cut left half of it.

    Optuna would write the next line behind it, and could read neither.
    """
    if not os.path.exists(path):
        return
    with open(path, "rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
