"""A run of the classifier, from settings to results, in the order in which it happens."""
import contextlib
import dataclasses
import os

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import base, files, tasks
from adapter_bert.errors import InputError
from adapter_bert.pipeline import batches
from adapter_bert.training import checkpoints, data, evaluation, history, results, setup
from adapter_bert.training.estimator import build_estimator, deployment
from adapter_bert.training.hooks import EvaluationHook, Progress
from adapter_bert.training.model_fn import Schedule
from adapter_bert.training.pack import refuse_unpackable, write_pack


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
    current = setup.open_run(settings, given, task)
    with files.locked(settings.output_dir), plain_errors():
        current, splits = data.prepare(current)
        settings = current.settings
        logging.info(current.engine.line(settings.precision))
        noted = {}
        if settings.do_train:
            refuse_unpackable(current, splits)
            current, start, noted = train(current, splits)
        else:
            start = checkpoints.find_start(
                current.trained, current.bert_config.to_dict(), current.base_checkpoint)
        metrics = report_scores(current, start, splits, noted) if settings.do_eval else {}
        if settings.do_predict:
            evaluation.predict_all(current, start, splits)
        if settings.do_train:
            write_pack(current, start, splits, metrics or noted_scores(current))
    return metrics


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
        tf.errors.UnavailableError: "is the machine of --master or --tpu_name there?"}
    try:
        yield
    except tuple(advice) as error:
        reason = (error.message or "").strip().splitlines() or [type(error).__name__]
        raise InputError(f"{reason[0]}; {advice[type(error)]}") from error


def report_scores(current, start, splits, noted):
    """Evaluates on every dev split and leaves the scores in the log and in the output folder.

    `noted` are {global step: metrics of the first dev split} that are known already.
    """
    step, output_dir = checkpoints.global_step(current.trained), current.settings.output_dir
    metrics = evaluation.evaluate_all(current, start, step, splits, noted.get(step))
    results.write_block(output_dir, metrics)
    results.write_events(output_dir, metrics, step)
    results.update_results(output_dir, metrics=metrics, checkpoint=current.trained)
    return metrics


def train(current, splits):
    """Trains to the last step, going on from the newest checkpoint of the output folder.

    Args:
      current: setup.Run.
      splits: {name: data.Split} with "train", and the dev split where it is evaluated on the way.

    Returns:
      The run with the checkpoint to evaluate in `trained`, its checkpoints.Start, and the scores
      that were noted on the way, {global step: metrics}.
    """
    settings, split = current.settings, splits["train"]
    start = checkpoints.find_start(settings.init_checkpoint, current.bert_config.to_dict(),
                                   current.base_checkpoint)
    schedule = make_schedule(settings, split)
    identity = setup.identity(current, split.fingerprint, start)
    latest, step = checkpoints.latest_step(settings.output_dir)
    setup.refuse_contradiction(settings.output_dir, identity)
    if not step:
        history.forget(settings.output_dir)
    if not settings.keep_best:
        history.forget_best(settings.output_dir)
    checkpoints.point_to(settings.output_dir, latest if step else None)
    files.write_json(os.path.join(settings.output_dir, base.RUN_FILE), identity)
    results.update_results(settings.output_dir, flags=dataclasses.asdict(settings))
    noted = fit(current, start, splits, schedule, step)
    trained = checkpoints.best_or_latest(settings.output_dir)
    logging.info("trained: %s", trained)
    return dataclasses.replace(current, trained=trained), start._replace(task=trained), noted


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


def fit(current, start, splits, schedule, step):
    """Trains from `step` to the end of the schedule, evaluating in between where that is asked.

    A TPU has room for one session, so training stops there for an evaluation; elsewhere a hook
    evaluates while the training session stays.

    Returns:
      {global step: metrics} of the evaluations made.
    """
    settings, total = current.settings, schedule.num_train_steps
    scores = history.of_run(settings, current.task)
    every = evaluation_interval(settings, splits["train"])
    logging.info(where_it_stands(step, total, scores))
    progress = Progress(total, examples_a_step(settings, splits["train"]))

    def note(step):
        is_due = every and step and (step % every == 0 or step == total)
        if is_due and not scores.at(step):
            note_scores(current, start, splits, scores)
        return scores.is_over()

    hooks = [EvaluationHook(every, settings.output_dir, note, progress)] if (
        every and not settings.use_tpu) else []
    estimator = build_estimator(current, start, settings.output_dir, schedule=schedule,
                                progress=progress, announce=announcer(current, splits["train"]))
    try:
        while not note(step) and step < total:
            stop = min(total, step + every - step % every) if every and not hooks else total
            train_stretch(estimator, current, splits["train"], step, stop, hooks)
            results.add_training_time(settings.output_dir, progress)
            checkpoints.prune(settings.output_dir)
            step = checkpoints.latest_step(settings.output_dir)[1]
    finally:
        progress.close()
    return scores.added


def where_it_stands(step, total, scores):
    """One line on what training has to do."""
    if step >= total:
        return (f"training is complete ({step} of {total} steps); "
                "to go on, raise --num_train_epochs")
    if scores.is_over():
        return (f"training stopped early at step {step} of {total}, the best score being that of "
                f"step {scores.best()['global_step']}; to go on, raise --early_stopping_patience")
    return f"going on from step {step} of {total}" if step else f"{total} steps"


def evaluation_interval(settings, split):
    """Steps between two evaluations while training; 0 for none."""
    if not settings.evaluates_in_training:
        return 0
    return settings.eval_steps or max(1, int(split.examples / examples_a_step(settings, split)))


def announcer(current, split):
    """A function that prints and writes down what trains, at the first graph that is built."""
    said = []

    def announce(variables):
        if said:
            return
        said.append(True)
        counts = checkpoints.counts(variables, current.model.rules)
        for line in results.variable_table(counts):
            logging.info(line)
        results.update_results(current.settings.output_dir, counts={
            "variables": counts, "train_examples": split.examples})
    return announce


def train_stretch(estimator, current, split, step, stop, hooks):
    """Trains from `step` until `stop`, with these SessionRunHooks beside the estimator's own.

    Raises:
      InputError: the loss is not a number any more.
    """
    settings = current.settings

    def input_fn(params):
        if settings.train_batch_tokens:
            return batches.batches_of_tokens(
                split.path, split.spec, split.examples, int(examples_a_step(settings, split)),
                settings.train_batch_tokens, settings.max_seq_length, settings.seed, skip=step)
        host, hosts, replicas = deployment(params)
        return batches.training_batches(
            split.path, split.spec, split.examples, params["batch_size"], settings.max_seq_length,
            settings.seed, skip=step * replicas, fixed=settings.use_tpu, shard=(host, hosts))

    try:
        estimator.train(input_fn, hooks, max_steps=stop)
    except tf.train.NanLossDuringTrainingError as error:
        raise InputError(f"the loss is not a number any more; --learning_rate="
                         f"{settings.learning_rate} is too high for this task, lower it") from error


def note_scores(current, start, splits, scores):
    """Evaluates the newest checkpoint of the run on the first dev split and notes the scores."""
    latest, step = checkpoints.latest_step(current.settings.output_dir)
    dev = splits[tasks.splits(current.task, "dev")[0][0]]
    metrics = evaluation.evaluate(current, start._replace(task=latest), step, dev)
    scores.add(metrics, latest)
    results.write_events(current.settings.output_dir, metrics, step)
    logging.info("step %d: %s", step, ", ".join(
        f"{key} = {value:.4f}" for key, value in metrics.items() if key.startswith("eval_")))
