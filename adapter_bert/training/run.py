"""A run of the classifier, from settings to results, in the order in which it happens."""
import dataclasses
import os
import time

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import base, files, tasks
from adapter_bert.errors import InputError
from adapter_bert.pipeline import batches
from adapter_bert.training import checkpoints, data, evaluation, results, setup
from adapter_bert.training.estimator import build_estimator
from adapter_bert.training.history import History
from adapter_bert.training.hooks import Progress
from adapter_bert.training.model_fn import Schedule


def run(settings, given, task):
    """Trains, evaluates and predicts as the settings say.

    Args:
      settings: Settings.
      given: names of the settings that a person gave; the others may be filled in.
      task: tasks.Task.

    Returns:
      {metric: float} of the evaluation; {} where nothing was evaluated.

    Raises:
      InputError: flags, files or an output folder that do not fit.
    """
    current, splits = data.prepare(setup.open_run(settings, given, task))
    settings = current.settings
    if settings.do_train:
        current = train(current, splits)
    if not (settings.do_eval or settings.do_predict):
        return {}
    step = checkpoints.global_step(current.trained)
    start = checkpoints.find_start(
        current.trained, current.bert_config.to_dict(), current.base_checkpoint)
    metrics = {}
    if settings.do_eval:
        metrics = evaluation.evaluate_all(current, start, step, splits)
        results.write_block(settings.output_dir, metrics)
        results.write_events(settings.output_dir, metrics, step)
        results.update_results(settings.output_dir, metrics=metrics, checkpoint=current.trained)
    if settings.do_predict:
        evaluation.predict_all(current, start, splits)
    return metrics


def train(current, splits):
    """Trains to the last step, going on from the newest checkpoint of the output folder.

    Args:
      current: setup.Run.
      splits: {name: data.Split} with "train", and the dev split where it is evaluated on the way.

    Returns:
      The run with the checkpoint to evaluate in `trained`.
    """
    settings, split = current.settings, splits["train"]
    start = checkpoints.find_start(settings.init_checkpoint, current.bert_config.to_dict(),
                                   current.base_checkpoint)
    schedule = make_schedule(settings, split.examples)
    identity = setup.identity(current, split.fingerprint, start)
    latest, step = checkpoints.latest_step(settings.output_dir)
    if latest:
        setup.refuse_contradiction(settings.output_dir, identity)
    files.write_json(os.path.join(settings.output_dir, base.RUN_FILE), identity)
    fit(current, start, splits, schedule, step)
    trained = checkpoints.best_or_latest(settings.output_dir, settings.keep_best)
    logging.info("trained: %s", trained)
    return dataclasses.replace(current, trained=trained)


def make_schedule(settings, count):
    """The Schedule for `count` examples: int(count / batch * epochs) steps.

    Raises:
      InputError: there are too few examples for one step.
    """
    steps = int(count / settings.train_batch_size * settings.num_train_epochs)
    if not steps:
        raise InputError(f"{count} examples make no batch of {settings.train_batch_size} in "
                         f"{settings.num_train_epochs} epochs; lower --train_batch_size")
    return Schedule(settings.learning_rate, steps, int(steps * settings.warmup_proportion),
                    settings.bias_correction, settings.seed)


def fit(current, start, splits, schedule, step):
    """Trains from `step` to the end of the schedule, evaluating in between where that is asked."""
    split, settings, total = splits["train"], current.settings, schedule.num_train_steps
    history = History(settings.output_dir, f"eval_{current.task.metrics[0]}",
                      settings.early_stopping_patience)
    every = evaluation_interval(settings, split.examples)
    if step >= total or history.is_over():
        logging.info("training is complete (%d of %d steps); to go on, raise --num_train_epochs",
                     step, total)
        return
    if step:
        logging.info("going on from step %d of %d", step, total)
    progress, began = Progress(total, settings.train_batch_size), time.monotonic()
    dev = splits.get(tasks.splits(current.task, "dev")[0][0])
    counts = {}
    while True:
        if every and step and (step % every == 0 or step == total) and not history.has(step):
            note_scores(current, dev, history)
        if step >= total or history.is_over():
            break
        stop = min(total, step + every - step % every) if every else total
        train_until(current, start, split, schedule, step, stop, progress, counts)
        step = stop
    progress.close()
    results.update_results(
        settings.output_dir, flags=dataclasses.asdict(settings),
        counts={"variables": counts, "train_examples": split.examples, "train_steps": step},
        train_seconds=time.monotonic() - began, train_examples_per_second=progress.rate())


def evaluation_interval(settings, count):
    """Steps between two evaluations while training; 0 for none."""
    if not settings.evaluates_in_training:
        return 0
    return settings.eval_steps or max(1, count // settings.train_batch_size)


def train_until(current, start, split, schedule, step, stop, progress, counts):
    """Trains from `step` until `stop`; the first graph's variables are counted into `counts`."""
    settings = current.settings

    def announce(variables):
        if not counts:
            counts.update(checkpoints.counts(variables, current.model.rules))
            for line in results.variable_table(counts):
                logging.info(line)

    def input_fn(params):
        return batches.training_batches(
            split.path, split.spec, split.examples, params["batch_size"], settings.max_seq_length,
            settings.seed, skip=step, fixed=settings.use_tpu)

    estimator = build_estimator(current, start, settings.output_dir, schedule=schedule,
                                announce=announce, progress=progress)
    try:
        estimator.train(input_fn, max_steps=stop)
    except tf.train.NanLossDuringTrainingError as error:
        raise InputError(f"the loss is not a number any more; --learning_rate="
                         f"{settings.learning_rate} is too high for this task") from error


def note_scores(current, dev, history):
    """Evaluates the newest checkpoint of the run and notes the scores."""
    latest, step = checkpoints.latest_step(current.settings.output_dir)
    start = checkpoints.find_start(latest, current.bert_config.to_dict(), current.base_checkpoint)
    metrics = evaluation.evaluate(current, start, step, dev)
    history.add(metrics, latest, current.settings.keep_best)
    results.write_events(current.settings.output_dir, metrics, step)
    logging.info("step %d: %s", step, ", ".join(
        f"{key} = {value:.4f}" for key, value in metrics.items() if key.startswith("eval_")))
