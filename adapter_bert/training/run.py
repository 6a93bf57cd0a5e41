"""A run, from settings to results, in the order in which it happens."""
import contextlib
import dataclasses
import functools

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import files, tasks
from adapter_bert.errors import InputError, reason_of
from adapter_bert.heads import HEADS
from adapter_bert.pipeline import batches
from adapter_bert.train import pooler, recipe
from adapter_bert.train.guard import Guard, NothingLearned, of_attempt
from adapter_bert.training import checkpoints, data, evaluation, history, results, setup
from adapter_bert.training.estimator import deployment
from adapter_bert.training.fit import Feed, train
from adapter_bert.training.kinds import KINDS, predicts
from adapter_bert.training.model_fn import Schedule
from adapter_bert.training.pack import refuse_unpackable, write_pack


def run(settings, given, task, seen=evaluation.unseen, on_scores=None):
    """Trains, evaluates and predicts as the settings say.

    Args:
      settings: settings.RunSettings or a class made of it.
      given: names of the settings that a person gave; the others may be filled in.
      task: tasks.Task.
      seen: function (setup.Run, data.Split, predicted), told what is predicted at the end for each
        dev split.
      on_scores: function (global step, metrics of the first dev split) that watches the training,
        see fit.train.

    Returns:
      {metric: float} of the evaluation; {} where nothing was evaluated.

    Raises:
      InputError: flags, files or an output folder that do not fit.
    """
    current = setup.open_run(settings, given, task)
    with files.locked(current.settings.output_dir), plain_errors():
        current, splits = data.prepare(current)
        logging.info(current.engine.line(current.settings.precision))
        if current.settings.do_train:
            return train_and_report(with_recipe(current, splits["train"]), splits, seen,
                                    on_scores)
        start = checkpoints.find_start(
            current.trained, current.bert_config.to_dict(), current.base_checkpoint)
        return report(current, start, splits, {}, seen)


def with_recipe(current, split):
    """The run with what its recipe chooses, which is said and recorded in results.json."""
    settings, config = current.settings, current.bert_config
    reads_pooler = HEADS[current.task.kind].only_pooled
    prefix = current.base_checkpoint or settings.init_checkpoint
    facts = recipe.Facts(
        split.examples, examples_a_step(settings, split), config.hidden_size, reads_pooler,
        not reads_pooler or pooler.is_trained(prefix, config, split))
    recorded = setup.recorded_flags(settings.output_dir)
    settings, choices = recipe.apply(settings, current.explicit, facts, recorded)
    for line in recipe.lines(choices, settings.recipe):
        logging.info(line)
    results.update_results(settings.output_dir, recipe={
        "name": settings.recipe, "choices": {one.flag: one.value for one in choices}})
    return dataclasses.replace(current, settings=settings)


def train_and_report(current, splits, seen, on_scores=None):
    """Trains, evaluates, predicts and leaves a pack; again while the guard sees nothing learned.

    Returns:
      {metric: float} of the evaluation.

    Raises:
      NothingLearned: in the last attempt too; results and a marked pack are left all the same.
    """
    refuse_unpackable(current, splits)
    settings = current.settings
    guard = Guard(settings.output_dir, splits["train"].prior.loss,
                  settings.guard == "on" and current.cluster.is_alone)
    watched = functools.partial(watch, guard, seen)
    while True:
        current = dataclasses.replace(current, attempt=guard.attempt)
        feed = feed_of(of_attempt(settings, guard.attempt), splits["train"])
        try:
            trained, start, noted = train(
                current, feed, first_dev(current, splits, watched, guard), guard, on_scores)
            if not current.cluster.is_chief:
                return {}
            metrics = report(trained, start, splits, noted, watched)
            problem = guard.problem(checkpoints.global_step(trained.trained))
        except NothingLearned as error:
            if not guard.may_restart:
                raise
            problem = str(error)
        if not problem or not guard.is_on:
            break
        may_restart = guard.may_restart
        guard.restart(settings, problem)
        if not may_restart:
            break
    results.update_results(settings.output_dir, guard={
        "on": guard.is_on, "failed_attempts": guard.failed, "learned": not problem})
    write_pack(trained, start, splits, metrics or noted_scores(trained))
    if problem and guard.is_on:
        raise NothingLearned(guard.message(settings))
    return metrics


def watch(guard, seen, current, split, predicted):
    """Passes predictions on to `seen`, and to the guard whether those of a dev split differ."""
    seen(current, split, predicted)
    guard.note_predictions(KINDS[current.task.kind].is_constant(current, split, predicted))


def report(current, start, splits, noted, seen):
    """Evaluates and predicts what the settings say; returns {metric: float}."""
    is_scored = current.settings.do_eval or predicts(current, "dev")
    metrics = report_scores(current, start, splits, noted, seen) if is_scored else {}
    on_test = (report_predictions(current, start, splits, metrics)
               if predicts(current, "test") else {})
    return metrics | on_test


def noted_scores(current):
    """The scores of the trained checkpoint that were noted on the way; {} for none."""
    scores = history.of_run(current.settings, current.task)
    return scores.at(checkpoints.global_step(current.trained)) or {}


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


def report_scores(current, start, splits, noted, seen):
    """Evaluates on every dev split and leaves the scores in the log and in the output folder.

    `noted` are {global step: metrics of the first dev split} that are known already; `seen` is told
    of the predictions.

    Returns:
      {metric: float}; {} for splits without labels.
    """
    step, output_dir = checkpoints.global_step(current.trained), current.settings.output_dir
    metrics = evaluation.evaluate_all(current, start, step, splits, noted.get(step), seen)
    if metrics:
        results.report(output_dir, metrics, step, current.trained)
    return metrics


def report_predictions(current, start, splits, metrics):
    """Predicts every test split; returns the scores of those that have answers.

    They are left beside the `metrics` of the dev splits.
    """
    scores = evaluation.predict_all(current, start, splits)
    if scores:
        results.report(current.settings.output_dir, {**metrics, **scores},
                       checkpoints.global_step(current.trained), current.trained)
    return scores


def feed_of(settings, split):
    """The fit.Feed of a training split."""
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


def first_dev(current, splits, seen, guard):
    """A function (Start, step) -> metrics of the first dev split; None where none is read."""
    names = [name for name, _ in tasks.splits(current.task, "dev") if name in splits]
    if not names:
        return None
    dev = splits[names[0]]
    passes = evaluation.passes_of(current, dev, current.settings.eval_batch_size)

    def evaluate(start, step):
        metrics = evaluation.evaluate(current, start, step, dev, seen=seen, passes=passes)
        guard.note_step(step)
        return metrics
    return evaluate


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
