"""A run, from settings to results, in the order in which it happens."""
import contextlib
import functools

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import files, tasks
from adapter_bert.errors import InputError, reason_of
from adapter_bert.pipeline import batches
from adapter_bert.training import checkpoints, data, evaluation, history, results, setup
from adapter_bert.training.estimator import deployment
from adapter_bert.training.fit import Feed, train
from adapter_bert.training.kinds import predicts
from adapter_bert.training.model_fn import Schedule
from adapter_bert.training.pack import refuse_unpackable, write_pack


def run(settings, given, task, seen=evaluation.unseen):
    """Trains, evaluates and predicts as the settings say.

    Args:
      settings: settings.RunSettings or a class made of it.
      given: names of the settings that a person gave; the others may be filled in.
      task: tasks.Task.
      seen: function (setup.Run, data.Split, predicted), told what is predicted at the end for each
        dev split.

    Returns:
      {metric: float} of the evaluation; {} where nothing was evaluated.

    Raises:
      InputError: flags, files or an output folder that do not fit.
    """
    current = setup.open_run(settings, given, task)
    current, examples = data.read(current)   # nothing is written yet: bad data leaves nothing
    with files.locked(current.settings.output_dir), plain_errors():
        splits = data.prepare(current, examples)
        settings = current.settings
        logging.info(current.engine.line(settings.precision))
        noted = {}
        if settings.do_train:
            refuse_unpackable(current, splits)
            current, start, noted = train(current, feed_of(settings, splits["train"]),
                                          first_dev(current, splits))
            if not current.cluster.is_chief:
                return {}
        else:
            start = checkpoints.find_start(
                current.trained, current.bert_config.to_dict(), current.base_checkpoint)
        is_scored = settings.do_eval or predicts(current, "dev")
        metrics = report_scores(current, start, splits, noted, seen) if is_scored else {}
        on_test = (report_predictions(current, start, splits, metrics)
                   if predicts(current, "test") else {})
        if settings.do_train:
            write_pack(current, start, splits, metrics or noted_scores(current))
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
                split.output_bias)


def first_dev(current, splits):
    """A function (Start, step) -> metrics of the first dev split; None where none is read."""
    names = [name for name, _ in tasks.splits(current.task, "dev") if name in splits]
    if not names:
        return None
    dev = splits[names[0]]
    passes = evaluation.passes_of(current, dev, current.settings.eval_batch_size)
    return functools.partial(evaluation.evaluate, current, split=dev, passes=passes)


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
