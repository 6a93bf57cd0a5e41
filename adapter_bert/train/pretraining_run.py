"""A run of BERT's own pre-training, from settings to results, in the order in which it happens."""
import collections
import dataclasses
import functools
import os
from typing import ClassVar

import numpy as np
from absl import logging

from adapter_bert import files, kinds, paths
from adapter_bert.bert import checkpoint_io
from adapter_bert.data import masked_batches, masked_files
from adapter_bert.errors import InputError
from adapter_bert.fields import setting
from adapter_bert.kinds.heads import masked_lm
from adapter_bert.train import initial_values, resolve, results
from adapter_bert.train.estimator import deployment
from adapter_bert.train.evaluation import mean_loss
from adapter_bert.train.evaluator import Passes
from adapter_bert.train.loop import Feed, train
from adapter_bert.train.model_fn import Schedule
from adapter_bert.train.run import noted_scores, plain_errors
from adapter_bert.train.run_packs import refuse_unpackable, write_pack
from adapter_bert.train.settings import TrainingSettings

SUMMED = ("_hits", "_sums", "_counts")
KNOWN_FILES = "masked_files.json"
TASK = kinds.Task("pretraining", kinds.Columns(0, 1), (), ("masked_lm_accuracy",),
                  kind="masked_lm", files={})


@dataclasses.dataclass(frozen=True)
class Settings(TrainingSettings):
    """The flags of run_pretraining.py."""

    REQUIRED = ("input_file", "output_dir")
    SCORES = ""
    do_predict: ClassVar[bool] = False
    train_batch_tokens: ClassVar[int] = 0

    input_file: str | None = setting(
        None, "TFRecord files of create_pretraining_data.py: paths or globs, commas between them.")
    eval_input_file: str | None = setting(
        None, "Files to evaluate on, as --input_file; those of --input_file unless given.")
    max_predictions_per_seq: int = setting(
        20, "The most masked word pieces of an example, as the files were made with.")
    num_train_steps: int = setting(100000, "Training steps.")
    num_warmup_steps: int = setting(10000, "Steps with a rising learning rate.")
    max_eval_steps: int = setting(100, "The most batches of an evaluation.")

    @property
    def predict_batch_size(self):
        """Examples a batch of evaluation, which is a prediction of examples with labels."""
        return self.eval_batch_size


def run(settings, given):
    """Trains and evaluates as the settings say.

    Args:
      settings: Settings.
      given: names of the settings that a person gave; the others may be filled in.

    Returns:
      {metric: float} of the evaluation; {} where nothing was evaluated.

    Raises:
      InputError: flags, files or an output folder that do not fit.
    """
    current = resolve.open_run(with_vocabulary(settings), given, TASK)
    with files.locked(current.settings.output_dir), plain_errors():
        found, noted, settings = open_splits(current), {}, current.settings
        logging.info(current.engine.line(settings.precision))
        if settings.do_train:
            refuse_unpackable(current, found)
            current, start, noted = train(current, feed_of(current, found["train"]),
                                          scorer(current, found.get("dev")))
            if not current.cluster.is_chief:
                return {}
        else:
            start = initial_values.find_start(
                current.trained, current.bert_config.to_dict(), current.base_checkpoint)
        metrics = report_scores(current, start, found, noted) if settings.do_eval else {}
        if settings.do_train:
            write_pack(current, start, found, metrics or noted_scores(current))
    return metrics


def with_vocabulary(settings):
    """Settings with the vocabulary beside the config, as BERT's folders have it, if none is given.

    BERT's own command names none; a pack says which it was trained with.
    """
    beside = os.path.join(
        os.path.dirname(settings.bert_config_file or ""), checkpoint_io.VOCAB_FILE
    )
    if settings.vocab_file or not settings.bert_config_file or not paths.exists(beside):
        return settings
    return dataclasses.replace(settings, vocab_file=beside)


def open_splits(current):
    """{"train", "dev": masked_files.MaskedFiles} of those that the run will need, all checked."""
    settings, found = current.settings, {}
    known = os.path.join(settings.output_dir, KNOWN_FILES)
    if settings.do_train:
        warn_of_schedule(settings)
        found["train"] = masked_files.open_files(
            "input_file", settings.input_file, form_of(current), known)
        resolve.refuse_contradiction(settings.output_dir,
                                   {"train_data": found["train"].fingerprint})
    if settings.do_eval or settings.evaluates_in_training:
        flag = "eval_input_file" if settings.eval_input_file else "input_file"
        found["dev"] = masked_files.open_files(
            flag, getattr(settings, flag), form_of(current), known,
            settings.max_eval_steps * settings.eval_batch_size)
    return found


def warn_of_schedule(settings):
    """Says where the learning rate never rises to its peak."""
    if settings.num_warmup_steps > settings.num_train_steps:
        logging.info("--num_warmup_steps=%d is more than --num_train_steps=%d: the learning rate "
                     "stays below --learning_rate", settings.num_warmup_steps,
                     settings.num_train_steps)


def form_of(current):
    """The masked_files.Form that the records of a run have."""
    settings, config = current.settings, current.bert_config
    return masked_files.Form(settings.max_seq_length, settings.max_predictions_per_seq,
                             config.vocab_size, config.type_vocab_size)


def feed_of(current, found):
    """The loop.Feed of the files to train on."""
    settings, form = current.settings, form_of(current)
    schedule = Schedule(settings.learning_rate, settings.num_train_steps,
                        settings.num_warmup_steps, settings.bias_correction, settings.seed)

    def read(params, skip):
        host, hosts, replicas = deployment(params)
        return masked_batches.training_batches(
            found, form, params["batch_size"], settings.seed, skip=skip * replicas,
            fixed=settings.use_tpu, shard=(host, hosts))

    return Feed(found.fingerprint, found.examples, settings.train_batch_size, schedule, read)


def report_scores(current, start, found, noted):
    """Evaluates and leaves the scores in the log and in the output folder.

    `noted` are {global step: metrics} that are known already.
    """
    step = initial_values.global_step(current.trained)
    if not any(f"{masked_lm.WORDS}/output_bias" in checkpoint_io.Checkpoint(prefix)
               for prefix in start.prefixes):
        logging.info("%s: has no head for masked words; a new one is evaluated, at chance",
                     current.trained)
    metrics = noted.get(step) or scorer(current, found["dev"])(start, step)
    results.report(current.settings.output_dir, metrics, step, current.trained)
    return metrics


def scorer(current, found):
    """A function (Start, step) -> metrics of masked_files.MaskedFiles, see `evaluate`."""
    def input_fn(params):
        return masked_batches.evaluation_batches(
            found, form_of(current), params["batch_size"], fixed=current.settings.use_tpu)

    return functools.partial(evaluate, Passes(current, input_fn, current.settings.eval_batch_size))


def evaluate(passes, start, step):
    """The metrics of BERT's run_pretraining.py, each a mean over all that is scored.

    Args:
      passes: evaluator.Passes of the records.
      start: initial_values.Start.
      step: global step of the checkpoint.

    Raises:
      InputError: the predictions contain NaN or infinity.
    """
    totals, losses = collections.Counter(), []
    for batch in passes.batches(start):
        batch = {name: values[batch["index"] >= 0] for name, values in batch.items()}
        losses.append(mean_loss(batch))
        totals.update({name: values.sum(dtype=np.float64) for name, values in batch.items()
                       if name.endswith(SUMMED)})
    metrics = metrics_of(totals)
    if not np.isfinite(list(metrics.values())).all():
        raise InputError(f"{start.prefixes[0]}: predictions contain NaN or infinity: training "
                         "diverged; lower --learning_rate")
    return results.ordered({**metrics, "global_step": step, "loss": float(np.mean(losses))})


def metrics_of(totals):
    """{name of a metric: float} of the sums over all examples of what the head gives."""
    metrics = {}
    for name in ("masked_lm", "next_sentence"):
        count = max(totals[f"{name}_counts"], 1.0)
        metrics[f"{name}_accuracy"] = float(totals[f"{name}_hits"] / count)
        metrics[f"{name}_loss"] = float(totals[f"{name}_sums"] / count)
    return metrics
