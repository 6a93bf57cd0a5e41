"""The runs of an experiment, each known by the hash of what makes it this run and no other."""
import hashlib
import itertools
import json
import os
from typing import NamedTuple

from adapter_bert import fields, kinds, network
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.research.sweep.experiment_config import Mode, TaskRow, file_name
from adapter_bert.train import resolve
from adapter_bert.train import settings as run_settings
from adapter_bert.train.named_task import squad_task, text_task

QUESTIONS = "SQuAD"
WITH_SPANS = ("classification", "regression")
# What a sweep says itself, or what would make its scores another thing.
RESERVED = ("output_dir", "bert_dir", "init_checkpoint", "vocab_file", "bert_config_file", "pack",
            "pack_dir", "init_pack", "do_train", "do_eval", "do_predict", "seed", "data_dir",
            "train_file", "predict_file", "task_name", "tuning", "learning_rate",
            "num_train_epochs", "eval_steps", "keep_best", "early_stopping_patience")


class Planned(NamedTuple):
    """A run of a sweep.

    name: of its result file, without extension.
    point: what differs within a mode: {"size", "learning_rate", "epochs", "init_stddev"}.
    flags: {flag: value} that its command is given, but for base and folders.
    """

    name: str
    task: TaskRow
    mode: Mode
    point: dict
    seed: int
    flags: dict


def plan(experiment):
    """Every Planned run of an Experiment; first all of seed 0, so that half a sweep is of use.

    Raises:
      InputError: a flag that a run cannot have.
    """
    found = [planned(experiment, task, mode, point, seed)
             for task, mode in itertools.product(experiment.tasks, experiment.modes)
             if mode.does(task.name)
             for point in points(task, mode)
             for seed in range(seeds_of(experiment, task, mode))]
    for run in found:
        check(experiment, run)
    return sorted(found, key=lambda run: run.seed)


def seeds_of(experiment, task, mode):
    """How many seeds a setting of a mode has on a task."""
    seeds = experiment.seeds if task.seeds is None else task.seeds
    return seeds if mode.seeds is None else min(seeds, mode.seeds)


def points(task, mode):
    """The settings of a mode's sweep on a task; a size or init_stddev of None is not said."""
    names = ("size", "learning_rate", "epochs", "init_stddev")
    return [dict(zip(names, values, strict=True)) for values in itertools.product(
        mode.sizes or [None], mode.learning_rates, task.epochs_of(mode),
        mode.init_stddevs or [None])]


def planned(experiment, task, mode, point, seed):
    """The Planned run of a setting and seed."""
    said = {"tuning": mode.tuning, "learning_rate": float(point["learning_rate"]),
            "num_train_epochs": float(point["epochs"]), "seed": seed,
            "adapter_size": point["size"], "adapter_init_stddev": point["init_stddev"]}
    flags = {**experiment.settings, **task.settings, **mode.settings,
             **{name: value for name, value in said.items() if value is not None}}
    task_name = task.task or task.name
    spans_of = task.metric or "the first" if mode.spans and not seed else None
    key = json.dumps([task.name, mode.name, task_name, flags, spans_of], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    size = "" if point["size"] is None else f"-{point['size']}"
    name = file_name(f"{task.name}-{mode.name}{size}-seed{seed}-{digest}")
    return Planned(name, task, mode, point, seed, flags)


def settings_of(experiment, run, output_dir):
    """What train.run.run takes: settings, the names that were given, and the task.

    Args:
      experiment: config.Experiment.
      run: Planned.
      output_dir: folder of the run.
    """
    kind, folder = kind_of(run), run.task.data_dir
    if kind is run_settings.SquadSettings:
        task_of = squad_task
        data = {"train_file": os.path.join(folder, "train.json"),
                "predict_file": os.path.join(folder, "dev.json")}
    else:
        task_of = text_task
        data = {"data_dir": folder, "task_name": run.task.task or run.task.name}
    # A grid says its own settings; a restarted run would be of another setting.
    flags = {"recipe": "reference", "guard": "off", **run.flags, **data,
             "bert_dir": experiment.base, "output_dir": output_dir, "do_train": True,
             "do_eval": True}
    settings = kind(**flags)
    return settings, frozenset(flags), task_of(settings)


def check(experiment, run):
    """InputError where a run has a flag or metric that it cannot have."""
    where = where_of(run)
    said = {**experiment.settings, **run.task.settings, **run.mode.settings}
    known = fields.kinds(kind_of(run))
    for name, value in said.items():
        if name in RESERVED:
            raise InputError(f"{where}: settings say {name}, which the sweep says itself")
        if name not in known:
            raise InputError(f"{where}: settings: no flag is called {name!r}; see --help of the "
                             "task's command")
        if type(value) is not known[name] and (type(value), known[name]) != (int, float):
            raise InputError(f"{where}: settings: {name} is {value!r}, expected a value of type "
                             f"{known[name].__name__}")
    try:
        settings, _, task = settings_of(experiment, run, "run")
        run_settings.check(settings)
        run_settings.adapter_config(settings)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    has_layers = settings.tuning.startswith("adapters") and task.kind in WITH_SPANS and not (
        {"adapter_method", "adapter_fn"} & set(run.flags))
    if run.mode.spans and not has_layers:
        raise InputError(f"{where}: spans of layers are removed from bottlenecks, in tasks of "
                         f"{' and '.join(WITH_SPANS)}; leave spans out")
    if run.task.metric not in (None, *metrics_of(task)):
        raise InputError(f"{where}: metric {run.task.metric!r}; known: "
                         f"{', '.join(metrics_of(task))}")


def check_models(experiment, runs):
    """InputError where the base is missing, or a run asks for what that BERT does not have."""
    config = network.read_config(checkpoint_io.locate(experiment.base).bert_config_file)
    for run in runs:
        if run.seed:
            continue
        settings, given, _ = settings_of(experiment, run, "run")
        try:
            resolve.check_model(run_settings.with_method(settings, given)[0], config)
        except InputError as error:
            raise InputError(f"{where_of(run)}: {error}") from error


def where_of(run):
    """The place in the file that a Planned run comes from, in words."""
    return f"task {run.task.name}, mode {run.mode.name}"


def kind_of(run):
    """The class of the settings of a Planned run's command."""
    is_squad = (run.task.task or run.task.name).lower() == QUESTIONS.lower()
    return run_settings.SquadSettings if is_squad else run_settings.Settings


def metrics_of(task):
    """The metrics that a kinds.Task can be scored by in tables."""
    always = ("accuracy",) if task.kind == "classification" else ()
    return tuple(dict.fromkeys(task.metrics + always))


def metric_of(experiment, run):
    """The metric that tables have of a Planned run's task."""
    return run.task.metric or settings_of(experiment, run, "run")[2].metrics[0]


def data_files(experiment, run):
    """{split: path} of what a run learns from and is scored on.

    Raises:
      InputError: a file is missing.
    """
    settings, _, task = settings_of(experiment, run, "run")
    names = [name for kind in ("train", "dev") for name, _ in kinds.splits(task, kind)]
    if task.kind != "spans":
        return {name: kinds.find_file(task, settings.data_dir, name) for name in names}
    missing = [task.files[name] for name in names if not os.path.exists(task.files[name])]
    if missing:
        raise InputError(f"{missing[0]}: no such file; the questions of {run.task.name} are read "
                         "there")
    return {name: task.files[name] for name in names}


def setting_of(run):
    """What runs that differ in their seed alone share, a hashable value."""
    return setting(run.task, run.mode, run.point)


def setting(task, mode, point):
    """The same of a config.TaskRow, a Mode and a point of its sweep."""
    return task.name, mode.name, tuple(point.items())
