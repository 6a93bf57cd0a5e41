"""Training: from the newest checkpoint of an output folder to the last step."""
import dataclasses
import math
import os
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import files
from adapter_bert.bert import checkpoint_io
from adapter_bert.data.batches import share
from adapter_bert.train import guard as guards
from adapter_bert.train import history, initial_values, resolve, results
from adapter_bert.train.distributed import allreduce
from adapter_bert.train.estimator import build_estimator, checkpoint_hooks, open_events
from adapter_bert.train.hooks import EvaluationHook, Progress
from adapter_bert.train.model_fn import Schedule
from adapter_bert.train.observation import MetricsHook, ProfileHook, log_interval
from adapter_bert.train.preemption import StopHook, handling
from adapter_bert.train.settings import profile_span


class Feed(NamedTuple):
    """What a run trains on, and for how long.

    fingerprint: hex digest of the data.
    examples: count of an epoch.
    examples_a_step: of a batch, in the mean where it is filled by tokens.
    schedule: model_fn.Schedule.
    batches: function (params of an input_fn, steps to skip) -> tf.data.Dataset.
    output_bias: initial bias of a new head; () for zeros.
    """

    fingerprint: str
    examples: int
    examples_a_step: float
    schedule: Schedule
    batches: Callable
    output_bias: tuple[float, ...] = ()


def train(current, feed, evaluate, guard=None, on_scores=None):
    """Trains to the last step, resuming from the newest checkpoint of the output folder.

    Args:
      current: resolve.Run.
      feed: Feed.
      evaluate: function (Start of a checkpoint, its step) -> metrics, such as an
        evaluation.DevEvaluator, whose `baselines` are logged beside the scores.
      guard: train.guard.Guard that watches the loss; None for none.
      on_scores: function (global step, metrics), called after each evaluation on the way, and again
        with the newest one when a run resumes. An exception that it raises ends the training.

    Returns:
      The run with the checkpoint to evaluate in `trained`, its initial_values.Start, and the scores
      that were noted on the way, {global step: metrics}.
    """
    settings = current.settings
    start = initial_values.find_start(settings.init_checkpoint, current.bert_config.to_dict(),
                                   current.base_checkpoint)._replace(
                                       output_bias=feed.output_bias)
    identity = resolve.identity(current, feed.fingerprint, start)
    forget_failed_attempt(settings.output_dir, current.attempt)
    latest, step = initial_values.latest_step(settings.output_dir)
    resolve.refuse_contradiction(settings.output_dir, identity)
    if not step:
        history.forget(settings.output_dir)
    if not settings.keep_best:
        history.forget_best(settings.output_dir)
    initial_values.point_to(settings.output_dir, latest if step else None)
    files.write_json(os.path.join(settings.output_dir, checkpoint_io.RUN_FILE), identity)
    results.update_results(settings.output_dir, flags=dataclasses.asdict(settings),
                           **({"recipe": current.recipe} if current.recipe else {}))
    attempt = dataclasses.replace(
        current, settings=guards.of_attempt(settings, current.attempt))
    noted = fit(attempt, start, feed, step, evaluate, allreduce.identity(identity), guard,
                on_scores)
    trained = initial_values.best_or_latest(settings.output_dir)
    logging.info("trained: %s", trained)
    return dataclasses.replace(current, trained=trained), start._replace(task=trained), noted


def forget_failed_attempt(output_dir, attempt):
    """Removes the checkpoints and scores of an attempt that the guard gave up."""
    if not attempt or not initial_values.all_of(output_dir):
        return
    recorded = checkpoint_io.recorded_run(os.path.join(output_dir, "model.ckpt")) or {}
    if recorded.get("attempt", 0) != attempt:
        initial_values.point_to(output_dir, None)
        history.forget(output_dir)


def fit(current, start, feed, step, evaluate, identity, guard=None, on_scores=None):
    """Trains from `step` to the end of the schedule, evaluating in between where that is asked.

    A TPU has room for one session, and other workers wait in theirs, so training stops there for an
    evaluation; elsewhere a hook evaluates while the training session stays. Where a stretch of
    training begins and ends, the chief of the workers says; `identity` is what they must share.
    `guard` watches the loss and `on_scores` the scores, see `train`.

    Returns:
      {global step: metrics} of the evaluations made.
    """
    settings, total = current.settings, feed.schedule.num_train_steps
    scores = history.of_run(settings, current.task)
    every = evaluation_interval(settings, feed)
    logging.info(where_it_stands(step, total, scores, length_flag(settings)))
    progress = Progress(total, feed.examples_a_step)

    note = judge(settings.output_dir, start, evaluate, scores, every, total, on_scores)
    stop_hook = StopHook()
    hooks = [EvaluationHook(every, settings.output_dir, note, progress, stop_hook)] if (
        every and not settings.use_tpu and current.cluster.is_alone) else []
    others = [stop_hook, *profile_hooks(settings), *checkpoint_hooks(current)]
    schedule = dataclasses.replace(feed.schedule, seed=current.cluster.seed(feed.schedule.seed))
    announce = announcer(current, feed.examples)
    link = allreduce.open_link(current.cluster, current.engine.session_config())
    try:
        while True:
            stop = next_stop(step, note, 0 if hooks else every, total)
            link, step, stop = allreduce.meet(link, step, stop, identity)
            if stop <= step:
                break
            estimator = build_estimator(
                current, start, settings.output_dir, schedule=schedule, progress=progress,
                announce=announce, observe=observer(settings, guard, total), link=link)
            with handling(stop_hook.note):
                train_stretch(estimator, current, feed, step, stop,
                              [*allreduce.hooks(link, step), *hooks, *others])
                results.add_training_time(settings.output_dir, progress)
                initial_values.prune(settings.output_dir)
                step = initial_values.latest_step(settings.output_dir)[1]
            stop_hook.end_run(step)
        allreduce.dismiss(link)
    finally:
        progress.close()
    return scores.added


def judge(output_dir, start, evaluate, scores, every, total, on_scores=None):
    """A function (step) -> whether training is over; it makes the evaluation that is due there."""
    def note(step):
        is_due = every and step and (step % every == 0 or step == total)
        if is_due and not scores.at(step):
            note_scores(output_dir, start, evaluate, scores)
        if is_due and on_scores:
            on_scores(step, scores.at(step))
        return scores.is_over()
    return note


def next_stop(step, note, every, total):
    """The step to train to from `step`, every so many if not 0; `step` where training is over."""
    if note(step) or step >= total:
        return step
    return min(total, step + every - step % every) if every else total


def length_flag(settings):
    """The name of the setting of this command that makes training longer."""
    return "num_train_steps" if hasattr(settings, "num_train_steps") else "num_train_epochs"


def where_it_stands(step, total, scores, flag):
    """One line on what training has to do; `flag` is the setting that makes it longer."""
    if step >= total:
        return (f"training is complete ({step} of {total} steps); "
                f"to train longer, raise --{flag}")
    if scores.is_over():
        return (f"training stopped early at step {step} of {total}, the best score being that of "
                f"step {scores.best()['global_step']}; to go on, raise --early_stopping_patience")
    return f"going on from step {step} of {total}" if step else f"{total} steps"


def evaluation_interval(settings, feed):
    """Steps between two evaluations while training; 0 for none."""
    if not settings.evaluates_in_training:
        return 0
    return settings.eval_steps or math.ceil(feed.examples / feed.examples_a_step)


def announcer(current, examples):
    """A function that prints and writes down what trains, at the first graph that is built."""
    said = []

    def announce(variables):
        if said:
            return
        said.append(True)
        counts = initial_values.counts(variables, current.model.rules)
        for line in results.variable_table(counts):
            logging.info(line)
        results.update_results(current.settings.output_dir, counts={
            "variables": counts, "train_examples": examples})
    return announce


def observer(settings, guard, total_steps):
    """A function (loss, features of a batch) -> hooks that watch it: metrics.jsonl, the guard."""
    def observe(loss, features):
        hooks = guard.hooks(loss, total_steps) if guard else []
        if settings.log_steps:
            every = log_interval(total_steps, settings.log_steps)
            hooks.append(MetricsHook(settings.output_dir, every, loss, features))
        return hooks
    return observe


def profile_hooks(settings):
    """The hook of --profile_steps, if it is given."""
    span = profile_span(settings.profile_steps)
    return [ProfileHook(settings.output_dir, *span)] if span else []


def train_stretch(estimator, current, feed, step, stop, hooks):
    """Trains from `step` until `stop`, with these SessionRunHooks beside the estimator's own.

    Raises:
      InputError: the loss is not a number any more.
    """
    workers = len(current.cluster.workers)

    def read(params):
        return share(feed.batches(params, step), current.cluster.number, workers)

    open_events(current)
    try:
        estimator.train(read, hooks, max_steps=stop)
    except tf.train.NanLossDuringTrainingError as error:
        rate = current.settings.learning_rate
        raise guards.NothingLearned(
            f"the loss became NaN: training diverged; lower --learning_rate (it is {rate:g})"
        ) from error


def note_scores(output_dir, start, evaluate, scores):
    """Evaluates the newest checkpoint of the run and notes the scores."""
    latest, step = initial_values.latest_step(output_dir)
    metrics = evaluate(start._replace(task=latest), step)
    scores.add(metrics, latest)
    results.write_events(output_dir, metrics, step)
    logging.info("step %d: %s", step, results.in_words(
        metrics, getattr(evaluate, "baselines", {})))
