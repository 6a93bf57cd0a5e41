"""An experiment as its file tells it: tasks, tuning modes, rates, epochs, sizes and seeds."""
import dataclasses
import os
import re
import types
import typing

from adapter_bert import files
from adapter_bert.errors import InputError

_NAME = re.compile(r"(?=.{1,60}$)[A-Za-z0-9]+(?:[ ._-][A-Za-z0-9]+)*")
WITHOUT_ADAPTERS = ("full", "top_layers", "layer_norm", "bias", "head")
MEAN = "mean"   # a column of tables, so no task's name
MOST, MOST_SEEDS = 1e9, 1000


@dataclasses.dataclass(frozen=True)
class TaskRow:
    """A task of an experiment.

    Attributes:
      name: what tables call it.
      data_dir: folder of its files; of questions with train.json and dev.json.
      task: a name that run_classifier.py knows, custom, or SQuAD; `name` unless given.
      metric: the score in tables; the task's first unless given.
      epochs: list of numbers in the place of those of the modes, or {mode: list} of some modes.
      seeds: of each setting; those of the experiment unless given.
      settings: {flag: value} of the task's command.
    """

    name: str
    data_dir: str
    task: str | None = None
    metric: str | None = None
    epochs: list | dict | None = None
    seeds: int | None = None
    settings: dict = dataclasses.field(default_factory=dict)

    def epochs_of(self, mode):
        """The list of numbers of epochs that a Mode is done for with it."""
        own = self.epochs.get(mode.name) if isinstance(self.epochs, dict) else self.epochs
        return own or mode.epochs


@dataclasses.dataclass(frozen=True)
class Mode:
    """A tuning mode of an experiment, with a sweep of its own.

    Attributes:
      name: what tables call it.
      tuning: --tuning.
      learning_rates, epochs: lists of numbers, each with each.
      sizes: list of --adapter_size; a row of tables each, and of several one for the best.
      init_stddevs: list of --adapter_init_stddev, for the figure of robustness to it.
      tasks: names of the tasks that it is done for; None for all.
      seeds: at most so many of each setting.
      spans: whether runs of seed 0 are also scored with spans of layers' adapters removed.
      settings: {flag: value}, before those of the task and the experiment.
    """

    name: str
    tuning: str
    learning_rates: list
    epochs: list
    sizes: list = dataclasses.field(default_factory=list)
    init_stddevs: list = dataclasses.field(default_factory=list)
    tasks: list | None = None
    seeds: int | None = None
    spans: bool = False
    settings: dict = dataclasses.field(default_factory=dict)

    def label(self, size):
        """What tables call one of its sizes: of a single one the mode's name."""
        return f"{self.name} {size}" if len(self.sizes) > 1 else self.name

    def does(self, task_name):
        """Whether it is done for a task."""
        return self.tasks is None or task_name in self.tasks


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a sweep is made of.

    Attributes:
      base: folder of the base; $NAME in it and in data_dir is an environment variable.
      seeds: of each setting, from 0.
      budget_minutes: after so many no run is begun; None for no end.
      epoch_seconds: {task: {mode: seconds}} that an epoch took somewhere, for a first estimate.
      settings: {flag: value} of every run.
    """

    base: str
    tasks: list[TaskRow]
    modes: list[Mode]
    seeds: int
    budget_minutes: float | None = None
    epoch_seconds: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)


def read(path):
    """The Experiment in a JSON file.

    Raises:
      InputError: a key or value that it cannot have, or an unset environment variable.
    """
    values = files.read_object(path)
    found = _made(Experiment, values, path)
    found = dataclasses.replace(
        found, base=_expanded(found.base, path),
        tasks=[_task(row, f"{path}, task {number}") for number, row in enumerate(found.tasks, 1)],
        modes=[_mode(row, f"{path}, mode {number}") for number, row in enumerate(found.modes, 1)])
    _check(found, path)
    return found


def _task(values, where):
    row = _made(TaskRow, values, where)
    if row.epochs is not None:
        by_mode = row.epochs if isinstance(row.epochs, dict) else {"all": row.epochs}
        for epochs in by_mode.values():
            _check_list(epochs, "epochs", (int, float), where)
    return dataclasses.replace(row, data_dir=_expanded(row.data_dir, where))


def _mode(values, where):
    mode = _made(Mode, values, where)
    for name, kinds in (("learning_rates", (int, float)), ("epochs", (int, float)),
                        ("sizes", (int,)), ("init_stddevs", (int, float)), ("tasks", (str,))):
        value = getattr(mode, name)
        if value is not None and (value or name not in ("sizes", "init_stddevs")):
            _check_list(value, name, kinds, where)
    if (mode.sizes or mode.init_stddevs) and mode.tuning.split("=")[0] in WITHOUT_ADAPTERS:
        raise InputError(f"{where}: sizes and init_stddevs are those of adapters; tuning "
                         f"{mode.tuning!r} has none")
    return mode


def _check_list(values, name, kinds, where):
    """InputError for what is no list, is empty, or of something else, or has a value twice."""
    if type(values) is not list or not values or (
            any(type(value) not in kinds for value in values) or len(set(values)) < len(values)
            or (kinds != (str,) and not all(-MOST < value < MOST for value in values))):
        raise InputError(f"{where}, {name}: {values}; give a list of different "
                         f"{'names' if kinds == (str,) else 'numbers'}")


def _made(kind, values, where):
    """A dataclass of a JSON object; InputError for unknown, missing or mistyped keys."""
    hints = typing.get_type_hints(kind)
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {values!r:.60}, expected an object with the keys "
                         f"{', '.join(hints)}")
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise InputError(f"{where}: unknown key {', '.join(unknown)}; known: {', '.join(hints)}")
    needed = [field.name for field in dataclasses.fields(kind)
              if field.default is dataclasses.MISSING
              and field.default_factory is dataclasses.MISSING]
    missing = [key for key in needed if key not in values]
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}")
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise InputError(f"{where}, {key}: found {value!r:.60}, expected "
                             f"{_in_words(hints[key])}")
    return kind(**values)


_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false",
          list: "a list", dict: "an object", type(None): "null"}


def _kinds(hint):
    """The plain types of a hint: of `list[X] | None` list and NoneType."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [typing.get_origin(part) or part for part in parts]


def _fits(value, hint):
    kinds = _kinds(hint)
    return type(value) in kinds or (float in kinds and type(value) is int)


def _in_words(hint):
    return " or ".join(_WORDS[kind] for kind in _kinds(hint))


def file_name(name):
    """A name of a task, mode or run as the names of files have it."""
    return name.replace(" ", "_")


def _expanded(path, where):
    """A path with its environment variables filled in; InputError where one is not set."""
    unset = [name for name in re.findall(r"\$\{?(\w+)", path) if name not in os.environ]
    if unset:
        raise InputError(f"{where}: {path}: ${unset[0]} is not set; export it")
    return os.path.expandvars(path)


def _check(found, path):
    """InputError where names are odd or used twice, or counts are below 1."""
    for kind, rows in (("task", found.tasks), ("mode", found.modes)):
        names = [file_name(row.name) for row in rows]
        if not names:
            raise InputError(f"{path}, {kind}s: there are none; give one or more")
        odd = [row.name for row, name in zip(rows, names, strict=True)
               if not _NAME.fullmatch(row.name) or names.count(name) > 1 or row.name == MEAN]
        if odd:
            raise InputError(f"{path}: names of {kind}s {odd}; give each one of its own of "
                             "at most 60 letters and digits, parted by . _ - or a space, which is "
                             f"as _, and none {MEAN!r}")
    if found.budget_minutes is not None and not 0 < found.budget_minutes < MOST:
        raise InputError(f"{path}: budget_minutes {found.budget_minutes}; give more than 0, or "
                         "leave it out")
    _check_epoch_seconds(found, path)
    _check_modes(found, path)
    for where, row in ((path, found), *((f"{path}, {row.name}", row)
                                        for row in [*found.tasks, *found.modes])):
        if row.seeds is not None and not 1 <= row.seeds <= MOST_SEEDS:
            raise InputError(f"{where}: seeds {row.seeds}; give 1 to {MOST_SEEDS}")


def _check_epoch_seconds(found, path):
    """InputError where an estimate is none, or of something that is not there."""
    tasks, modes = ({row.name for row in rows} for rows in (found.tasks, found.modes))
    for task, seconds in found.epoch_seconds.items():
        if not isinstance(seconds, dict) or not all(
                type(value) in (int, float) and 0 < value < MOST for value in seconds.values()):
            raise InputError(f"{path}, epoch_seconds, {task}: give {{task: {{mode: seconds}}}}, "
                             "seconds above 0")
        unknown = sorted({task} - tasks | seconds.keys() - modes)
        if unknown:
            raise InputError(f"{path}, epoch_seconds: no task or mode is called "
                             f"{', '.join(unknown)}")


def _check_modes(found, path):
    """InputError where modes and tasks do not fit, or tables and figures could not tell them apart.
    """
    known = {row.name for row in found.tasks}
    for mode in found.modes:
        unknown = sorted(set(mode.tasks or ()) - known)
        if unknown:
            raise InputError(f"{path}, mode {mode.name}: no task is called {', '.join(unknown)}")
    for task in found.tasks:
        doing = {mode.name for mode in found.modes if mode.does(task.name)}
        other = sorted(set(task.epochs) - doing) if isinstance(task.epochs, dict) else []
        if other:
            raise InputError(f"{path}, task {task.name}, epochs: no mode that does it is called "
                             f"{', '.join(other)}")
    idle = [name for name in known if not any(mode.does(name) for mode in found.modes)]
    if idle:
        raise InputError(f"{path}: no mode does the task {', '.join(sorted(idle))}; leave it out")
    labels = [label for mode in found.modes
              for label in {mode.name, *map(mode.label, mode.sizes)}]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InputError(f"{path}: tables would have two rows {', '.join(twice)}, a mode and a "
                         "size of another; name the mode otherwise")
    for mode in found.modes:
        epochs = [task.epochs_of(mode) for task in found.tasks if mode.does(task.name)]
        if mode.init_stddevs and max(map(len, (mode.learning_rates, mode.sizes, *epochs))) > 1:
            raise InputError(f"{path}, mode {mode.name}: its figure has a point for each of "
                             "init_stddevs; give one of learning_rates, epochs and sizes beside "
                             "them")
