"""Notices a run that learns nothing, and starts it again.

Small tasks sometimes collapse: the model gives the same answer for every text. A run has learned
nothing where

- the loss is not a finite number;
- the running mean of the training loss never got below the loss of the best constant prediction
  (`adapter_bert.train.prior`: the entropy of the labels, the variance of the scores);
- its predictions for the dev set are all the same.

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
from adapter_bert.training.hooks import CountingHook

GUARD_FILE = "guard.json"
MOST_ATTEMPTS = 3
# Between the seeds of attempts, so that a restarted run repeats no other run of a series of seeds.
SEED_DISTANCE = 100_003
# The running mean covers this share of the steps, and at least so many.
WINDOW_SHARE, LEAST_WINDOW = 0.1, 20


class NothingLearned(InputError):
    """A training run learned nothing; the message says how that was noticed."""

    exit_code = 3


class Guard:
    """Watches the losses of a run, attempt after attempt.

    Args:
      output_dir: folder of the run.
      constant_loss: loss of the best constant prediction, see prior.Prior.
      is_on: whether a run that learned nothing starts again.
    """

    def __init__(self, output_dir: str, constant_loss: float, is_on: bool):
        self._path = os.path.join(output_dir, GUARD_FILE)
        self._constant_loss, self.is_on = constant_loss, is_on
        self.failed: list[dict[str, Any]] = read_attempts(self._path) if is_on else []
        self._begin()

    def _begin(self) -> None:
        self._lowest: float | None = None

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
        if is_constant:
            return "every prediction for the dev set is the same"
        return self.problem_of_loss()

    def restart(self, settings, problem: str) -> None:
        """Records a failed attempt and says how the next one differs."""
        tried = of_attempt(settings, self.attempt)
        self.failed.append({"seed": tried.seed, "learning_rate": tried.learning_rate,
                            "problem": problem})
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
        raise InputError(f"{path}: not the failed attempts of a run; remove it, and the run starts "
                         "with its first seed")
    return found


def of_attempt(settings, attempt: int):
    """The settings that an attempt trains with.

    Args:
      settings: training.settings.TrainingSettings.
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
