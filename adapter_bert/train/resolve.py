"""From settings to a checked run: base, tokenizer, task, and what an earlier run fixed."""
import dataclasses
import json
import os
from typing import Any

from absl import logging

from adapter_bert import compute, files, kinds, paths
from adapter_bert.bert import adapters, checkpoint_io, modeling, source, tokenization, tuning_modes
from adapter_bert.data import casing
from adapter_bert.errors import InputError
from adapter_bert.kinds import heads
from adapter_bert.network import Model, read_config
from adapter_bert.packs import store
from adapter_bert.packs.manifest import check_pairs
from adapter_bert.train import initial_values, recipe
from adapter_bert.train.distributed import clusters
from adapter_bert.train.run_packs import unpack, without_head
from adapter_bert.train.settings import TrainingSettings, adapter_config, check, with_method

# What a checkpoint fixes for evaluation and prediction.
MODEL_FLAGS = ("tuning", "adapter_fn", "adapter_size", "adapter_placement", "adapter_layers",
               "adapter_activation", "adapter_original_ln_before", "adapter_residual_before_ln",
               "adapter_scale", "do_lower_case")
# What fixes which examples of --data_file are for what.
SPLIT_FLAGS = ("dev_fraction", "test_fraction")
# What a run fixes for going on with its training.
RUN_FLAGS = (*MODEL_FLAGS, "max_seq_length", "max_predictions_per_seq", "train_batch_size",
             "train_batch_tokens", "learning_rate", "num_train_epochs", "num_train_steps",
             "warmup_proportion", "num_warmup_steps", "bias_correction", "adapter_init_stddev",
             "head_bias_init", "seed", "precision", "max_train_examples", "use_tpu", "doc_stride",
             "max_query_length", "version_2_with_negative", *SPLIT_FLAGS)
# Flags that runs of earlier versions did not record, with the values that those had.
NEW_FLAGS = {"adapter_scale": 1.0, "head_bias_init": "zeros", "dev_fraction": 0.1,
             "test_fraction": 0.0}
# Of these, what may be raised to go on with a run.
LENGTHS = ("num_train_epochs", "num_train_steps", "epochs")
# In the output folder, the checkpoints that --pack and --init_pack are unpacked to.
PACK_FOLDERS = ("from_pack", "from_init_pack")
# What evaluation and prediction take over from a run or a pack, unless it is given.
KEPT_FLAGS = ("max_seq_length", "max_predictions_per_seq", "adapter_init_stddev", "doc_stride",
              "max_query_length", "version_2_with_negative", "n_best_size", "max_answer_length",
              "null_score_diff_threshold", *SPLIT_FLAGS)
BASE_FILES = ("vocab_file", "bert_config_file", "init_checkpoint")
# What else it fixes, and how a message says that it differs.
FACTS = {"labels": "other labels", "train_data": "other training data",
         "start": "another --init_checkpoint", "init_pack": "another --init_pack, or none"}
BASE_FACTS = {"fingerprint": "another base", "vocab": "another vocabulary",
              "bert_config": "another bert_config.json"}


@dataclasses.dataclass(frozen=True)
class Run:
    """What every step of a run needs, checked.

    trained: prefix of a checkpoint to evaluate or predict with where nothing is trained here;
      None for the output folder's own.
    base_checkpoint: prefix of the base that --bert_dir names; None where it names none.
    cluster: the processes that train it.
    explicit: names of the settings that a recipe leaves as they are.
    attempt: how often the guard restarted its training.
    recipe: what results.json says of its recipe; None for runs without one.
    """

    settings: TrainingSettings
    task: kinds.Task
    bert_config: modeling.BertConfig
    tokenizer: tokenization.FullTokenizer
    trained: str | None
    base_checkpoint: str | None
    engine: compute.Engine
    cluster: clusters.Cluster = clusters.Cluster()
    explicit: frozenset[str] = frozenset()
    attempt: int = 0
    recipe: dict[str, Any] | None = None

    @property
    def model(self):
        """The model of the flags and of the task's labels."""
        width = heads.width(self.task.kind, self.task.labels)
        return Model(self.bert_config, self.task.kind, width, self.settings.tuning,
                     adapter_config(self.settings), self.settings.precision)


def open_run(settings, given, task):
    """The run of settings, after every check that needs no data.

    Args:
      settings: Settings.
      given: names of the settings that a person gave; the others may be filled in.
      task: kinds.Task.

    Raises:
      InputError: a flag, file or folder that does not fit.
    """
    check(settings)
    settings, given = with_method(settings, given)
    cluster = clusters.find(settings)
    settings = cluster.own_settings(settings)
    settings = dataclasses.replace(settings, precision=compute.choose_precision(
        settings.precision, settings.use_tpu))
    located = checkpoint_io.locate(settings.bert_dir) if settings.bert_dir else None
    if settings.init_checkpoint:
        settings = dataclasses.replace(
            settings, init_checkpoint=source.second_format(settings.init_checkpoint))
    is_from_pack = bool(settings.pack or settings.init_pack)
    if is_from_pack:
        settings, given = from_pack(settings, given, task)
    trained = None if settings.do_train else trained_checkpoint(
        settings, given, untrained(settings, located, task))
    recorded = checkpoint_io.recorded_run(settings.init_checkpoint if is_from_pack else trained)
    if recorded:
        settings, task = with_recorded(settings, given, task, recorded)
    if located:
        settings = fill(settings, given, dataclasses.asdict(located))
    check_base_files(settings, task)
    bert_config = read_config(settings.bert_config_file)
    check_model(settings, bert_config)
    tokenizer = open_tokenizer(settings, bert_config)
    explicit = frozenset(given) | (set(MODEL_FLAGS) if recorded else set())
    if settings.do_train:
        refuse_contradiction(settings.output_dir, {
            "flags": decided_flags(settings, task, explicit),
            "base": files_of_base(settings, bert_config),
            "init_pack": recorded.get("weights") if settings.init_pack else None})
    if recorded:
        refuse_other_base(settings, bert_config, recorded)
    return Run(settings, task, bert_config, tokenizer, trained,
               given_base(settings, given, located, trained), open_engine(settings, cluster),
               cluster, explicit)


def from_pack(settings, given, task):
    """The settings of a run that starts from the checkpoint of a pack, and the names now given.

    Raises:
      InputError: the pack is not sound, or is --pack and not of this task.
    """
    pack = store.read(settings.pack or settings.init_pack)
    store.warn(pack.manifest, settings.pack or settings.init_pack)
    if settings.pack:
        check_own(settings, pack.manifest, task)
    folder = os.path.join(settings.output_dir, PACK_FOLDERS[0 if settings.pack else 1],
                          pack.manifest.weights.sha256[:16])
    checkpoint = unpack(pack if settings.pack else without_head(pack), folder)
    return (dataclasses.replace(settings, init_checkpoint=checkpoint),
            frozenset(given) | {"init_checkpoint"})


def check_own(settings, manifest, task):
    """InputError where --pack has another head than the task, is for pairs and the task is not (or
    the other way), or meets a trained run in the output folder, which would be passed over."""
    if not settings.do_train and initial_values.latest_step(settings.output_dir)[1]:
        raise InputError(f"--pack={settings.pack}: {settings.output_dir} holds a run of its own; "
                         "leave --pack out to use that, or name another --output_dir")
    if manifest.head != task.kind:
        raise InputError(f"--pack={settings.pack}: its head is for {manifest.head}, and "
                         f"{task.name} is a task of {task.kind}; to start from its adapters and "
                         "train a new head, give --init_pack")
    check_pairs(manifest, task.is_pair)


def open_engine(settings, cluster):
    """The Engine of the settings; one for all that the run does in this process of the cluster."""
    rows = settings.train_batch_size // len(cluster.workers) if settings.do_train else max(
        settings.eval_batch_size * settings.do_eval,
        settings.predict_batch_size * settings.do_predict)
    return compute.choose_engine(settings.kernels, settings.use_tpu, rows)


def given_base(settings, given, located, trained):
    """Prefix of the base that a person named by --bert_dir or --init_checkpoint; None for none."""
    if located:
        return located.init_checkpoint
    named = "init_checkpoint" in given and settings.init_checkpoint != trained
    return settings.init_checkpoint if named and not settings.do_train else None


def untrained(settings, located, task):
    """Prefix of a base that can be evaluated without training: one of BERT's own task; or None."""
    if not heads.HEADS[task.kind].is_berts:
        return None
    return settings.init_checkpoint or (located and located.init_checkpoint)


def trained_checkpoint(settings, given, otherwise=None):
    """Prefix of the checkpoint that evaluation and prediction start from.

    It is --init_checkpoint where that has a trained head, else the best or newest of output_dir,
    else `otherwise`.
    """
    init = settings.init_checkpoint
    if "init_checkpoint" in given and initial_values.has_head(init):
        return init
    found = initial_values.best_or_latest(settings.output_dir) or otherwise
    if not found:
        raise InputError(f"{settings.output_dir}: no checkpoint of a trained task; train with "
                         "--do_train, or name one with --init_checkpoint")
    return found


def with_recorded(settings, given, task, recorded):
    """Settings and task, with what the run of a checkpoint wrote down filled in.

    Raises:
      InputError: a flag was given that contradicts it.
    """
    flags = {name: recorded["flags"][name] for name in MODEL_FLAGS if name in recorded["flags"]}
    differing = {name: value for name, value in flags.items()
                 if name in given and not agrees(settings, name, value)}
    if differing:
        raise InputError("the checkpoint was trained with other flags: " + "; ".join(
            f"--{name}={value}, not {getattr(settings, name)}"
            for name, value in differing.items()))
    for name in BASE_FILES[:2]:
        path = recorded["base"].get(name, "")
        if name not in given and not settings.bert_dir and not paths.exists(path):
            raise InputError(f"the base of this run was at {path} and is there no more; "
                             "name its folder with --bert_dir")
    refuse_other_split(settings, given, recorded)
    if task.name not in (recorded["flags"]["task_name"], "custom"):
        logging.info("the checkpoint was trained for %s, and is used for %s",
                     recorded["flags"]["task_name"], task.name)
    flags |= {name: recorded["flags"][name] for name in KEPT_FLAGS if name in recorded["flags"]}
    settings = fill(settings, given, {**flags, **recorded["base"]})
    if recorded["labels"] is None:   # of a pack without its head
        return settings, task
    return settings, with_recorded_labels(task, recorded)


def refuse_other_split(settings, given, recorded):
    """InputError where --data_file is split otherwise than for training: dev was not held out."""
    for name in SPLIT_FLAGS if getattr(settings, "data_file", None) else ():
        trained, wanted = recorded["flags"].get(name), getattr(settings, name)
        if name in given and trained not in (None, wanted):
            raise InputError(f"--{name}={wanted:g}: training had {trained:g}, so some of the "
                             "examples to score may have been trained on; leave the flag out, or "
                             "score another file with adapter-bert evaluate")


def agrees(settings, name, value):
    """Whether a flag that was given fits its recorded value: a recipe may add the pooler."""
    given = getattr(settings, name)
    return given == value or (name == "tuning" and given == tuning_modes.without_pooler(value))


def with_recorded_labels(task, recorded):
    """The task with the labels that a checkpoint was trained for.

    Raises:
      InputError: the task is of another kind, or has other labels.
    """
    advice = "give the task, or for custom the --label_type, that it was trained for"
    labels = tuple(recorded["labels"])
    kind = recorded.get("kind") or ("classification" if labels else "regression")   # of before
    if kind != task.kind:
        raise InputError(f"the checkpoint was trained for {kind}, and {task.name} is {task.kind}; "
                         f"{advice}")
    if task.labels not in (None, labels):
        raise InputError(f"the checkpoint was trained for {', '.join(labels)}, and {task.name} has "
                         f"{', '.join(task.labels)}; {advice}")
    return dataclasses.replace(task, labels=labels)


def fill(settings, given, values):
    """Settings with `values` in the fields that nobody gave; other keys are passed over."""
    names = {field.name for field in dataclasses.fields(settings)} - set(given)
    return dataclasses.replace(settings, **{k: v for k, v in values.items() if k in names})


def check_base_files(settings, task):
    """InputError where a file of the base is not named; BERT itself may be trained from nothing."""
    from_nothing = heads.HEADS[task.kind].is_berts and settings.tuning == "full"
    for name in BASE_FILES:
        if not getattr(settings, name) and not (name == "init_checkpoint" and from_nothing):
            raise InputError(f"--{name} is missing; or give --bert_dir, which fills it (without a "
                             "start only run_pretraining.py --tuning=full trains)")


def check_model(settings, bert_config):
    """InputError where the flags ask for what this BERT does not have."""
    positions = bert_config.max_position_embeddings
    if not 5 <= settings.max_seq_length <= positions:
        raise InputError(f"--max_seq_length={settings.max_seq_length}: this BERT has {positions} "
                         f"positions; give 5 to {positions}")
    try:
        adapter, layers = adapter_config(settings), bert_config.num_hidden_layers
        tuning_modes.tuning_rules(settings.tuning, layers, adapter)
        adapters.attach(adapter, layers)
    except ValueError as error:
        raise InputError(str(error)) from error


def open_tokenizer(settings, bert_config):
    """The FullTokenizer of the base, after its size and casing were checked."""
    try:
        tokenization.validate_case_matches_checkpoint(
            settings.do_lower_case, settings.init_checkpoint)
        with paths.here(settings.vocab_file) as vocab_file:
            tokenizer = tokenization.FullTokenizer(vocab_file, settings.do_lower_case)
    except ValueError as error:
        raise InputError(str(error)) from error
    if len(tokenizer.vocab) != bert_config.vocab_size:
        raise InputError(f"{settings.vocab_file}: {len(tokenizer.vocab)} word pieces, but "
                         f"{settings.bert_config_file} says {bert_config.vocab_size}; "
                         "give the two files of one model")
    casing.check_casing(settings.do_lower_case, settings.vocab_file, tokenizer.vocab)
    return tokenizer


def run_flags(settings, task):
    """The flags that a run fixes, of those that its command has."""
    flags = {name: getattr(settings, name) for name in RUN_FLAGS if hasattr(settings, name)}
    return {**flags, "task_name": task.name}


def recorded_flags(output_dir):
    """The flags of the run in an output folder; {} where it has no checkpoint to resume from."""
    if not initial_values.all_of(output_dir):
        return {}
    recorded = checkpoint_io.recorded_run(os.path.join(output_dir, "model.ckpt"))
    return {**NEW_FLAGS, **recorded["flags"]} if recorded else {}


def decided_flags(settings, task, explicit):
    """`run_flags` without those that the recipe chooses once the training data are known."""
    flags = run_flags(settings, task)
    if getattr(settings, "recipe", "reference") != "auto":
        return flags
    return {name: value for name, value in flags.items()
            if name in explicit - {"tuning"} or name not in recipe.FLAGS}


def identity(run, train_data, start):
    """What makes a training run this one and no other, as JSON values.

    Args:
      run: Run.
      train_data: fingerprint of the training split.
      start: initial_values.Start of the first step.
    """
    pack = checkpoint_io.recorded_run(start.task).get("weights") if run.settings.init_pack else None
    return {
        "flags": run_flags(run.settings, run.task),
        "kind": run.task.kind,
        "labels": list(run.task.labels),
        "train_data": train_data,
        "start": files.sha256(f"{start.task}.index") if start.task and not pack else None,
        "init_pack": pack,
        "attempt": run.attempt,
        "base": record_of_base(run.settings, run.bert_config, start),
    }


def record_of_base(settings, bert_config, start):
    """What a run records of its base, as JSON values: where it lies and what it is."""
    named = {name: paths.absolute(getattr(settings, name)) for name in BASE_FILES[:2]}
    return {
        **named,
        "init_checkpoint": start.base and paths.absolute(start.base),
        "name": start.base and checkpoint_io.name_of(start.base),
        "fingerprint": start.fingerprint,
        **files_of_base(settings, bert_config),
    }


def files_of_base(settings, bert_config):
    """What a run records of the base's vocabulary and config."""
    return {"vocab": files.sha256(settings.vocab_file), "bert_config": bert_config.to_dict()}


def refuse_contradiction(output_dir, now):
    """InputError where an unfinished or finished run in `output_dir` is not this one.

    More epochs or steps go on with a run; a base that has moved is still the same base.

    Args:
      output_dir: folder of the run; one without trained checkpoints contradicts nothing.
      now: what `identity` returns, or the part of it that is known yet.
    """
    if not initial_values.latest_step(output_dir)[1]:
        return
    before = checkpoint_io.recorded_run(os.path.join(output_dir, "model.ckpt"))
    if not before:
        raise InputError(f"{output_dir}: holds checkpoints but no run.json; "
                         "name an empty folder with --output_dir")
    flags = {**NEW_FLAGS, **before["flags"]}
    differing = [
        f"--{name}: {json.dumps(flags.get(name))} then, {json.dumps(value)} now"
        for name, value in now.get("flags", {}).items() if flags.get(name) != value
        and not (name in LENGTHS and value >= flags.get(name, 0))]
    differing += [what for key, what in FACTS.items()
                  if key in now and before.get(key) != now[key]]
    differing += other_base(before["base"], now["base"]) if "base" in now else []
    if differing:
        raise InputError(f"{output_dir}: holds a run made with other settings: "
                         f"{'; '.join(differing)}; give those, or another --output_dir")


def other_base(before, now):
    """What differs of two bases as a run records them, in words; where they lie does not count."""
    return [what for key, what in BASE_FACTS.items() if key in now and before.get(key) != now[key]]


def refuse_other_base(settings, bert_config, recorded):
    """InputError where vocabulary or config are not those that a checkpoint was trained with."""
    differing = other_base(recorded["base"], files_of_base(settings, bert_config))
    if differing:
        raise InputError(
            f"the checkpoint was trained on {recorded['base'].get('name')}, and "
            f"{checkpoint_io.name_of(settings.vocab_file)} has {' and '.join(differing)} "
            "than then; give the base of its training with --bert_dir"
        )
