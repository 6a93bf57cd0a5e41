"""Meta-training, from settings to checkpoints and a pack, in the order in which it happens."""
import contextlib
import dataclasses
import logging as standard_logging
import os
from typing import NamedTuple

import numpy as np
from absl import logging

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.research.meta import domains, finetuning, meta_figures, meta_state, outer
from adapter_bert.research.meta.adaptation import Steps, query_accuracies
from adapter_bert.research.meta.initial_state import Opened, open_start
from adapter_bert.research.meta.intervals import mean_and_interval
from adapter_bert.research.meta.learner import Inner, Learner
from adapter_bert.research.meta.meta_settings import check, with_defaults
from adapter_bert.train import initial_values, results
from adapter_bert.train.run import plain_errors

HISTORY, BEST = "history.json", "best.json"
ORDER, TASKS, VALIDATION = range(3)   # what a seed's random numbers are for


class Work(NamedTuple):
    """What the steps of a run share.

    opened: start.Opened.
    split: domains.Split with the domains that are trained on.
    rows: {domain: {kinds.Example: Row}}.
    learner: learner.Learner of settings.tasks_at_once tasks.
    """

    opened: Opened
    split: domains.Split
    rows: dict
    learner: Learner

    @property
    def settings(self):
        """MetaSettings."""
        return self.opened.settings


def run(settings, given):
    """Meta-trains as the settings say, going on where an earlier run of them was cut off.

    Args:
      settings: meta_settings.MetaSettings.
      given: names of the settings that a person gave.

    Returns:
      The prefix of the best checkpoint.

    Raises:
      InputError: flags, files or folders that do not fit.
    """
    check(settings)
    dataset, split = read_domains(settings)
    with files.locked(settings.output_dir), plain_errors(), log_file(settings.output_dir):
        opened = open_start(settings, given, dataset)
        opened = dataclasses.replace(opened, settings=with_defaults(opened.settings))
        meta_state.begin(opened)
        files.write_json(os.path.join(settings.output_dir, "hyparams.txt"),
                         dataclasses.asdict(opened.settings))
        work = prepare(opened, split)
        history = train(work)
        work.learner.close()
        return finish(work, history)


@contextlib.contextmanager
def log_file(output_dir):
    """Adds what is logged to log.txt while the block runs."""
    handler = standard_logging.FileHandler(os.path.join(output_dir, "log.txt"), encoding="utf-8")
    handler.setFormatter(standard_logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.get_absl_logger()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def read_domains(settings):
    """The Dataset and the Split of the settings, which tasks of their size can be drawn from."""
    dataset, split = finetuning.read_split(settings)
    split = split._replace(train=domains.choose(
        split.train, settings.num_domain, np.random.default_rng([settings.seed, ORDER])))
    domains.check(dataset, split.train + split.validation, settings.num_support,
                  settings.num_query)
    return dataset, split


def prepare(opened, split):
    """The Work of a run; says what it is made of."""
    settings = opened.settings
    logging.info(opened.engine.line(settings.precision))
    logging.info("start: %s, %s; %s on %s; validation: %s", opened.trained or opened.start.base,
                 settings.tuning, settings.algorithm, ", ".join(split.train),
                 ", ".join(split.validation) or "none")
    inner = Inner(settings.inner_optimizer, settings.inner_update_lr)
    learner = opened.learner(inner, settings.tasks_at_once, settings.seed)
    counts = initial_values.counts(list(learner.variables.values()), opened.model.rules)
    for line in results.variable_table(counts):
        logging.info(line)
    return Work(opened, split, finetuning.encode(opened, split.train + split.validation), learner)


def train(work):
    """Takes the outer steps that are left, with a checkpoint and an evaluation after each epoch.

    Returns:
      The history: a list of {"step", "epoch", "query_loss"}, the last of an epoch with
      "accuracies", those of the validation tasks.
    """
    settings, an_epoch = work.settings, work.settings.steps_an_epoch
    values, slots, step = meta_state.read_state(settings.output_dir, list(work.learner.values))
    adam = outer.Adam(settings.outer_update_lr, values or work.learner.values, slots, step)
    history = read_history(settings.output_dir, step)
    total = settings.epochs * an_epoch
    logging.info(f"going on from step {step} of {total}" if step else f"{total} outer steps")
    while True:
        if step and step % an_epoch == 0 and "accuracies" not in history[-1]:
            end_epoch(work, adam.values, history)
        if step >= total:
            return history
        step += 1
        history.append(take_step(work, adam, step))
        write_history(settings.output_dir, history)
        meta_state.write_state(settings.output_dir, adam, step)


def take_step(work, adam, step):
    """One outer step; returns its entry of the history."""
    settings = work.settings
    work.learner.load(adam.values)
    gradient, loss = outer.outer_gradient(
        work.learner, settings.tasks_at_once, training_episodes(work, step),
        Steps(settings.inner_update_step, settings.inner_batch_size), settings.algorithm,
        [settings.seed, TASKS, step])
    if not all(np.isfinite(value).all() for value in (loss, *gradient.values())):
        raise InputError(f"step {step}: the loss or its gradient is not a number any more; lower "
                         f"--inner_update_lr={settings.inner_update_lr} or --outer_update_lr="
                         f"{settings.outer_update_lr}")
    adam.step(gradient)
    epoch = -(-step // settings.steps_an_epoch)
    logging.info("epoch %d step %d: query loss %.4f", epoch, step, loss)
    return {"step": step, "epoch": epoch, "query_loss": loss}


def training_episodes(work, step):
    """The tasks of an outer step as (support, query), lists of Row; step, from 1, fixes them."""
    settings = work.settings
    done = (step - 1) % settings.steps_an_epoch * settings.outer_batch_size
    count = min(settings.outer_batch_size, settings.num_train_task - done)
    random = np.random.default_rng([settings.seed, TASKS, step])
    return [rows_of(work, domains.draw_training(
        work.opened.dataset, work.split.train, settings.num_support, settings.num_query, random))
        for _ in range(count)]


def validation_episodes(work):
    """The tasks of every evaluation, the same in each epoch, and the seeds of their batches."""
    settings, dataset = work.settings, work.opened.dataset
    seeds = [[settings.seed, VALIDATION, place, draw]
             for place in range(len(work.split.validation))
             for draw in range(settings.num_test_task)]
    return [rows_of(work, domains.draw_test(
        dataset, work.split.validation[seed[2]], settings.num_support, settings.num_query,
        np.random.default_rng(seed))) for seed in seeds], [[*seed, 1] for seed in seeds]


def rows_of(work, episode):
    """Support and query of a domains.Episode as lists of Row."""
    rows = work.rows[episode.domain]
    return [rows[one] for one in episode.support], [rows[one] for one in episode.query]


def end_epoch(work, values, history):
    """Leaves the checkpoint of the epoch that has ended, and notes its validation accuracies."""
    settings, last = work.settings, history[-1]
    prefix = meta_state.write_checkpoint(work.opened, values, last["epoch"], last["step"])
    episodes, seeds = validation_episodes(work)
    work.learner.load(values)
    last["accuracies"] = list(query_accuracies(
        work.learner, settings.tasks_at_once, episodes,
        Steps(settings.inner_update_step_eval, settings.inner_batch_size), seeds))
    write_history(settings.output_dir, history)
    if episodes:
        logging.info("epoch %d: validation accuracy %s %% of %d tasks (95 %% interval): %s",
                     last["epoch"], mean_and_interval(last["accuracies"]).percent(), len(episodes),
                     prefix)


def read_history(output_dir, step):
    """The history of a run up to a step."""
    path = os.path.join(output_dir, HISTORY)
    if not step:
        return []
    rows = files.read_json(path)
    if not isinstance(rows, list) or [row.get("step") for row in rows[:step]] != list(
            range(1, step + 1)):
        raise InputError(f"{path}: not the history of this run of {step} steps; remove "
                         f"{output_dir}/{meta_state.STATE} to start anew")
    return rows[:step]


def write_history(output_dir, history):
    """Writes the history, whole."""
    files.write_json(os.path.join(output_dir, HISTORY), history)


def finish(work, history):
    """Marks the best checkpoint and leaves its pack and the learning curve; returns its prefix."""
    settings = work.settings
    ends = [row for row in history if "accuracies" in row]
    best = best_of(ends)
    scores = {"validation_accuracy": float(np.mean(best["accuracies"]))} if best[
        "accuracies"] else {}
    prefix = meta_state.prefix_of(settings, best["epoch"], best["step"])
    files.write_json(os.path.join(settings.output_dir, BEST), {
        "checkpoint": os.path.relpath(prefix, settings.output_dir), **scores})
    meta_figures.learning_curve(
        os.path.join(settings.output_dir, "learning_curve.png"),
        [(row["step"], row["query_loss"]) for row in history],
        [(row["step"], mean_and_interval(row["accuracies"])) for row in ends if row["accuracies"]])
    meta_state.write_pack(work.opened, prefix, work.split.train, scores)
    logging.info("best checkpoint: %s", prefix)
    return prefix


def best_of(ends):
    """The last entry of the best epoch, the first of equals; of the last where none was asked."""
    if not ends[-1]["accuracies"]:
        return ends[-1]
    return max(ends, key=lambda row: np.mean(row["accuracies"]))
