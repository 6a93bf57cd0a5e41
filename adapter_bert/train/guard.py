"""Notices a run that learns nothing, and starts it again.

Small tasks sometimes collapse: the model gives the same answer for every text. A run has learned
nothing where

- the loss is not a finite number;
- the running mean of the training loss never got below the loss of the best constant prediction
  (`adapter_bert.train.prior`: the entropy of the labels, the variance of the scores);
- its predictions for the dev set are all the same, and at the end the training loss is not far
  below that loss either. (A model that fits its training set may well give one answer for a small
  dev set in which the other labels are rare.)

The first is seen at the step, the second in the middle of training and at its end, the third after
the evaluation. The run then starts again with another seed, the second time with half the learning
rate too. OUTPUT_DIR/guard.json lists the attempts that failed, so that a run that is killed resumes
with the right one.
"""
import collections
import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import files, paths
from adapter_bert.errors import InputError
from adapter_bert.train import initial_values
from adapter_bert.train.hooks import CountingHook

GUARD_FILE = "guard.json"
MOST_ATTEMPTS = 3
# Between the seeds of attempts, so that a restarted run repeats no other run of a series of seeds.
SEED_DISTANCE = 100_003
# The running mean covers this share of the steps, and at least so many.
WINDOW_SHARE, LEAST_WINDOW = 0.1, 20
# A model whose last running mean is below this share of the constant prediction's loss has learned.
FITTED_SHARE = 0.5


class NothingLearned(InputError):
    """A training run learned nothing; the message says how that was noticed."""

    exit_code = 3


class Guard:
    """Watches the losses of a run, attempt after attempt.

    Args:
      settings: train.settings.RunSettings with the recipe's choices.
      constant_loss: loss of the best constant prediction, see prior.Prior.
      is_on: whether a run that learned nothing starts again. Where not, a run that is resumed still
        keeps the seed and rate of its attempt.
    """

    def __init__(self, settings, constant_loss: float, is_on: bool):
        self._path = os.path.join(settings.output_dir, GUARD_FILE)
        self._constant_loss, self.is_on = constant_loss, is_on
        is_resumed = is_on or initial_values.latest_step(settings.output_dir)[1] > 0
        self.failed: list[dict[str, Any]] = (
            attempts_of(settings, read_attempts(self._path)) if is_resumed else [])
        self._begin()

    def _begin(self) -> None:
        self._lowest: float | None = None
        self._latest: float | None = None

    @property
    def attempt(self) -> int:
        """How often training was started again."""
        return min(len(self.failed), MOST_ATTEMPTS - 1)

    @property
    def may_restart(self) -> bool:
        """Whether one more attempt is allowed."""
        return self.is_on and self.attempt + 1 < MOST_ATTEMPTS

    def hooks(self, loss: tf.Tensor, total_steps: int) -> list[tf.train.SessionRunHook]:
        """The hooks that watch the loss of a training graph."""
        return [LossHook(self, loss, total_steps)] if self.is_on else []

    def note_loss(self, running_mean: float) -> None:
        """Notes a running mean of the training loss."""
        self._lowest = running_mean if self._lowest is None else min(self._lowest, running_mean)
        self._latest = running_mean

    def problem_of_loss(self) -> str | None:
        """What is wrong with the loss so far, in words; None for nothing."""
        if self._lowest is None or self._lowest < self._constant_loss:
            return None
        return (f"the training loss never got below {self._constant_loss:.3f}, that of the best "
                "constant prediction")

    def problem(self, is_constant: bool) -> str | None:
        """What shows that the attempt learned nothing, in words; None where it learned.

        Args:
          is_constant: whether its predictions for a dev set are all the same.
        """
        if self._lowest is None and len(self.failed) == MOST_ATTEMPTS:
            return self.failed[-1]["problem"]   # nothing was trained since the last one failed
        is_fitted = (self._latest is not None
                     and self._latest < FITTED_SHARE * self._constant_loss)
        if is_constant and not is_fitted:
            return "every prediction for the dev set is the same"
        return self.problem_of_loss()

    def restart(self, settings, problem: str) -> None:
        """Records a failed attempt, and logs how the next one differs if there is one."""
        tried = of_attempt(settings, self.attempt)
        # The last attempt of a run that is started once more replaces its earlier entry.
        self.failed[self.attempt:] = [{"seed": tried.seed, "learning_rate": tried.learning_rate,
                                       "problem": problem}]
        files.write_json(self._path, self.failed)
        if len(self.failed) < MOST_ATTEMPTS:
            following = of_attempt(settings, self.attempt)
            logging.warning("nothing learned: %s; starting again with --seed=%d and "
                            "--learning_rate=%g", problem, following.seed, following.learning_rate)
        self._begin()

    def message(self, settings) -> str:
        """One line on a run of which every attempt failed."""
        tried = "; ".join(f"seed {one['seed']}, learning rate {one['learning_rate']:g}: "
                          f"{one['problem']}" for one in self.failed)
        return (f"{settings.output_dir}: the model learned nothing in {len(self.failed)} attempts "
                f"({tried}). Check the labels, or try another --learning_rate, more "
                "--num_train_epochs or more examples")


def read_attempts(path: str) -> list[dict[str, Any]]:
    """The failed attempts in guard.json; [] where it is missing."""
    if not paths.exists(path):
        return []
    found = files.read_json(path)
    if not isinstance(found, list) or not all(
            isinstance(one, dict) and {"seed", "learning_rate", "problem"} <= one.keys()
            for one in found):
        raise InputError(f"{path}: not the failed attempts of a run; give another --output_dir, or "
                         "remove this one and train again")
    return found


def attempts_of(settings, failed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The failed attempts if they are of these settings; [] if of another seed or learning rate.

    A run without a trained checkpoint may be started again with other flags in the same folder.
    """
    for number, one in enumerate(failed[:MOST_ATTEMPTS]):
        tried = of_attempt(settings, number)
        if (one["seed"], one["learning_rate"]) != (tried.seed, tried.learning_rate):
            return []
    return failed[:MOST_ATTEMPTS]


def of_attempt(settings, attempt: int):
    """The settings that an attempt trains with.

    Args:
      settings: train.settings.TrainingSettings.
      attempt: 0 for the first one.
    """
    if not attempt:
        return settings
    rate = settings.learning_rate / (2 if attempt > 1 else 1)
    seed = (settings.seed + attempt * SEED_DISTANCE) % 2**31
    return dataclasses.replace(settings, seed=seed, learning_rate=rate)


class LossHook(CountingHook):
    """Keeps the running mean of the training loss for a Guard.

    Args:
      guard: Guard.
      loss: float scalar tensor.
      total_steps: of the whole training.

    Raises:
      NothingLearned: in the middle of training, where the guard can still start it again.
    """

    def __init__(self, guard: Guard, loss: tf.Tensor, total_steps: int):
        self._guard, self._loss = guard, loss
        self._half = max(total_steps // 2, 2 * LEAST_WINDOW)
        self._window: collections.deque[float] = collections.deque(
            maxlen=max(LEAST_WINDOW, int(total_steps * WINDOW_SHARE)))

    def before_run(self, run_context):
        """Fetches the loss beside the step's own work."""
        del run_context
        return tf.train.SessionRunArgs(self._loss)

    def after_run(self, run_context, run_values):
        """Notes the running mean once its window is full."""
        super().after_run(run_context, run_values)
        self._window.append(float(run_values.results))
        if len(self._window) == self._window.maxlen:
            self._guard.note_loss(float(np.mean(self._window)))
        problem = self._guard.problem_of_loss()
        if self.step == self._half and problem and self._guard.may_restart:
            raise NothingLearned(problem)
