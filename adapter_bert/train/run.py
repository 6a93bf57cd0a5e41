"""A run, from settings to results, in the order in which it happens."""
import contextlib
import dataclasses
import functools
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import files, kinds, paths
from adapter_bert.data import batches
from adapter_bert.errors import InputError, reason_of
from adapter_bert.kinds.heads import HEADS
from adapter_bert.train import (
    evaluation,
    history,
    initial_values,
    pooler,
    recipe,
    resolve,
    results,
    split_records,
)
from adapter_bert.train import run_report as reports
from adapter_bert.train.estimator import deployment
from adapter_bert.train.guard import Guard, NothingLearned, of_attempt
from adapter_bert.train.kind_runs import KINDS, predicts
from adapter_bert.train.loop import Feed, train
from adapter_bert.train.model_fn import Schedule
from adapter_bert.train.run_packs import refuse_unpackable, write_pack


def run(settings, given, task, on_predictions=evaluation.ignore_predictions, writes_report=True,
        on_scores=None):
    """Trains, evaluates and predicts as the settings say.

    Args:
      settings: settings.RunSettings or a class made of it.
      given: names of the settings that a person gave; the others may be filled in.
      task: kinds.Task.
      on_predictions: function (resolve.Run, split_records.Split, predicted), called with the final
        predictions for each dev split.
      writes_report: whether report.md and its pictures are written.
      on_scores: function (global step, metrics of the first dev split) that watches the training,
        see loop.train.

    Returns:
      {metric: float} of the evaluation; {} where nothing was evaluated.

    Raises:
      InputError: flags, files or an output folder that do not fit.
    """
    with removed_if_refused(settings.output_dir):
        current = resolve.open_run(settings, given, task)
        current, examples = split_records.read(
            current
        )  # nothing but a pack's checkpoint is written yet
    with files.locked(current.settings.output_dir), plain_errors():
        splits = split_records.prepare(current, examples)
        logging.info(current.engine.line(current.settings.precision))
        if current.settings.do_train:
            outcome = train_and_assess(with_recipe(current, splits["train"]), splits, on_scores)
        else:
            start = initial_values.find_start(
                current.trained, current.bert_config.to_dict(), current.base_checkpoint)
            outcome = assess(current, start, splits, None)
        if outcome is None:   # a worker that is not the chief
            return {}
        if writes_report:
            reports.write(outcome.run, splits, outcome.predictions)
        for name, _ in kinds.splits(outcome.run.task, "dev"):
            if name in outcome.predictions:
                on_predictions(outcome.run, splits[name], outcome.predictions[name])
        if outcome.failure:
            raise outcome.failure
    return outcome.metrics | outcome.test_metrics


@contextlib.contextmanager
def removed_if_refused(output_dir):
    """Removes a new output folder that has nothing but the checkpoint of a pack when InputError
    ends the block: a run that is refused leaves nothing."""
    is_new = not paths.exists(output_dir)
    try:
        yield
    except InputError:
        if is_new and paths.exists(output_dir) and not (
                set(paths.names_in(output_dir)) - set(resolve.PACK_FOLDERS)):
            paths.remove_all(output_dir)
        raise


class Outcome(NamedTuple):
    """What a run ends with.

    run: resolve.Run with the checkpoint that was evaluated in `trained`.
    metrics: {name: float} of the dev splits.
    test_metrics: {name: float} of the test splits that have labels.
    predictions: {split name: {name: array}} of the splits that were predicted.
    failure: NothingLearned where that is so; None else.
    """

    run: resolve.Run
    metrics: dict[str, float]
    test_metrics: dict[str, float]
    predictions: dict[str, dict]
    failure: NothingLearned | None = None


def with_recipe(current, split):
    """The run with what its recipe chooses, which is logged."""
    settings, config = current.settings, current.bert_config
    reads_pooler = HEADS[current.task.kind].only_pooled
    is_measured = recipe.may_train_pooler(settings, current.explicit, reads_pooler)
    facts = recipe.Facts(
        split.examples, examples_a_step(settings, split), config.hidden_size, reads_pooler,
        not is_measured or pooler_is_trained(current, split))
    recorded = resolve.recorded_flags(settings.output_dir)
    settings, choices = recipe.apply(settings, current.explicit, facts, recorded)
    for line in recipe.lines(choices, settings.recipe):
        logging.info(line)
    return dataclasses.replace(current, settings=settings, recipe={
        "name": settings.recipe, "choices": {one.flag: one.value for one in choices}})


def pooler_is_trained(current, split):
    """Whether the pooler of a run's base was trained; False where there is no base."""
    init, config = current.settings.init_checkpoint, current.bert_config
    prefix = init and initial_values.base_of(init, config.to_dict(), current.base_checkpoint)
    return pooler.is_trained(prefix, config, split)


def train_and_assess(current, splits, on_scores=None):
    """Trains, evaluates, predicts and leaves a pack; again while the guard sees nothing learned.

    Returns:
      Outcome; None in a worker that is not the chief.

    Raises:
      NothingLearned: the last attempt diverged, so that there is nothing to evaluate.
    """
    refuse_unpackable(current, splits)
    settings = current.settings
    if settings.guard == "on" and not current.cluster.is_alone:
        logging.info("--guard is off: with --distribution no run is started again")
    guard = Guard(settings, splits["train"].prior.loss,
                  settings.guard == "on" and current.cluster.is_alone)
    while True:
        outcome, start, problem = attempt(
            dataclasses.replace(current, attempt=guard.attempt), splits, guard, on_scores)
        if not problem or not guard.is_on:
            break
        may_restart = guard.may_restart
        guard.restart(settings, problem)
        if not may_restart:
            break
    if outcome is None:
        if problem:
            raise NothingLearned(guard.message(settings) if guard.is_on else problem)
        return None
    failed = bool(problem) and guard.is_on
    results.update_results(settings.output_dir, guard={
        "on": guard.is_on, "failed_attempts": guard.failed, "learned": not problem})
    write_pack(outcome.run, start, splits, outcome.metrics or noted_scores(outcome.run),
               f"training learned nothing: {problem}" if failed else "")
    return outcome._replace(failure=NothingLearned(guard.message(settings)) if failed else None)


def attempt(current, splits, guard, on_scores):
    """Trains once and evaluates.

    Returns:
      Outcome or None where there is nothing to evaluate, initial_values.Start, and what shows that
      nothing was learned, in words, or None.
    """
    feed = feed_of(of_attempt(current.settings, current.attempt), splits["train"])
    evaluator = first_dev(current, splits)
    try:
        trained, start, _ = train(current, feed, evaluator, guard, on_scores)
        if not current.cluster.is_chief:
            return None, start, None
        outcome = assess(trained, start, splits, evaluator)
    except NothingLearned as error:
        return None, None, str(error)
    kind = KINDS[current.task.kind]
    is_constant = any(name.startswith("dev") and kind.is_constant(trained, splits[name], predicted)
                      for name, predicted in outcome.predictions.items())
    return outcome, start, guard.problem(is_constant)


def assess(current, start, splits, evaluator):
    """Evaluates and predicts what the settings say; returns an Outcome."""
    settings, predictions = current.settings, {}
    known = known_evaluation(current, evaluator)
    is_scored = settings.do_eval or predicts(current, "dev")
    metrics = report_scores(current, start, splits, known, predictions) if is_scored else {}
    on_test = (report_predictions(current, start, splits, metrics, predictions)
               if predicts(current, "test") else {})
    if known and evaluator.split.name not in predictions:
        predictions[evaluator.split.name] = known.predicted
    return Outcome(current, metrics, on_test, predictions)


def known_evaluation(current, evaluator):
    """The evaluation.Known of the trained checkpoint from the time of training; None for none."""
    if not (evaluator and current.settings.do_train):
        return None
    return evaluator.known(initial_values.global_step(current.trained))


def noted_scores(current):
    """The scores of the trained checkpoint that were noted on the way; {} for none."""
    scores = history.of_run(current.settings, current.task)
    return scores.at(initial_values.global_step(current.trained)) or {}


@contextlib.contextmanager
def plain_errors():
    """Turns what TensorFlow says of files, memory and devices into InputError."""
    advice = {
        tf.errors.DataLossError: "the file is damaged; remove it, and run the same command again",
        tf.errors.ResourceExhaustedError: "make room on the disk or, for memory, lower the batch "
                                          "sizes or --max_seq_length",
        tf.errors.PermissionDeniedError: "look at the permissions",
        tf.errors.NotFoundError: "was it removed while the run was at work?",
        tf.errors.FailedPreconditionError: "is it what it should be, a file or a folder?",
        tf.errors.DeadlineExceededError: "another worker did not answer in --distribution_timeout "
                                         "seconds; start all workers again, with the same command",
        tf.errors.UnavailableError: "is the machine of --master or --tpu_name there?"}
    try:
        yield
    except tuple(advice) as error:
        raise InputError(f"{reason_of(error)}; {advice[type(error)]}") from error


def report_scores(current, start, splits, known, predictions):
    """Evaluates on every dev split and leaves the scores in the log and in the output folder.

    Args:
      current, start, splits: as for `evaluation.evaluate_all`.
      known: evaluation.Known of the first dev split, or None.
      predictions: dict that gets the predictions, {split name: {name: array}}.

    Returns:
      {metric: float}; {} for splits without labels.
    """
    step, output_dir = initial_values.global_step(current.trained), current.settings.output_dir
    metrics = evaluation.evaluate_all(
        current, start, step, splits, known, functools.partial(keep, predictions))
    if metrics:
        results.report(output_dir, metrics, step, current.trained,
                       reports.baselines_of_splits(current, splits, predictions))
    return metrics


def report_predictions(current, start, splits, metrics, predictions):
    """Predicts every test split; returns the scores of those that have answers.

    They are left beside the `metrics` of the dev splits; `predictions` as for `report_scores`.
    """
    scores = evaluation.predict_all(current, start, splits, functools.partial(keep, predictions))
    if scores:
        results.report(current.settings.output_dir, {**metrics, **scores},
                       initial_values.global_step(current.trained), current.trained,
                       reports.baselines_of_splits(current, splits, predictions))
    return scores


def keep(predictions, current, split, predicted):
    """Keeps the predictions for a split in a dict, under its name."""
    predictions[split.name] = predicted


def feed_of(settings, split):
    """The loop.Feed of a training split."""
    batch = examples_a_step(settings, split)

    def read(params, skip):
        if settings.train_batch_tokens:
            return batches.batches_of_tokens(
                split.path, split.spec, split.examples, int(batch), settings.train_batch_tokens,
                settings.seed, skip=skip)
        host, hosts, replicas = deployment(params)
        return batches.training_batches(
            split.path, split.spec, split.examples, params["batch_size"], settings.max_seq_length,
            settings.seed, skip=skip * replicas, fixed=settings.use_tpu, shard=(host, hosts))

    return Feed(split.fingerprint, split.examples, batch, make_schedule(settings, split), read,
                first_bias(settings, split))



def first_bias(settings, split):
    """The initial bias of a new head.

    A regression starts at the mean score whatever the flags say: from 0 the bias, with steps of the
    learning rate, is too slow to get there, so adapters learn to push every text's score the same
    way, and may not learn another thing for an epoch. So do classes of unequal frequencies.
    """
    of_labels = settings.head_bias_init == "labels" or len(split.prior.bias) == 1
    return split.prior.bias if of_labels else ()


def first_dev(current, splits):
    """The evaluation.DevEvaluator of the first dev split; None where none is read."""
    names = [name for name, _ in kinds.splits(current.task, "dev") if name in splits]
    if not names:
        return None
    metric = f"{current.settings.SCORES}{current.task.metrics[0]}"
    return evaluation.DevEvaluator(current, splits[names[0]], metric,
                                   reports.baselines_of_splits(current, splits, names[:1]))


def examples_a_step(settings, split):
    """Examples of a training batch, in the mean where it is filled by tokens."""
    if settings.train_batch_tokens:
        return settings.train_batch_tokens * split.examples / split.tokens
    return settings.train_batch_size


def make_schedule(settings, split):
    """The Schedule for a training split: int(examples / batch * epochs) steps.

    Raises:
      InputError: there are too few examples for one step.
    """
    batch = examples_a_step(settings, split)
    steps = int(split.examples / batch * settings.num_train_epochs)
    if not steps:
        flag = "train_batch_tokens" if settings.train_batch_tokens else "train_batch_size"
        raise InputError(f"{split.examples} examples make no batch of {batch:.0f} in "
                         f"{settings.num_train_epochs} epochs; lower --{flag}")
    return Schedule(settings.learning_rate, steps, int(steps * settings.warmup_proportion),
                    settings.bias_correction, settings.seed)
