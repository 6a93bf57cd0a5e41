"""What a search is about: task, data, flags, and what it varies; recorded in its folder."""
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Set
from typing import Any

from absl import logging

from adapter_bert import files, kinds, paths
from adapter_bert.errors import InputError
from adapter_bert.research.tuning import commands
from adapter_bert.research.tuning import space as spaces
from adapter_bert.research.tuning.journal import LOCKS, alone
from adapter_bert.research.tuning.trial import EVALUATIONS, Job
from adapter_bert.train import resolve, split_records
from adapter_bert.train.run import make_schedule, plain_errors, with_recipe
from adapter_bert.train.settings import PATHS, RunSettings

RECORD_FILE, TRIALS = "tune.json", "trials"
# What every trial does. The guard would restart with other seeds, and so compare seeds; a trial
# that learns nothing is pruned or failed instead.
ALWAYS = {"do_train": True, "do_eval": True, "keep_best": True, "guard": "off"}
# What a search decides or does not support.
RESERVED = ("do_predict", "eval_steps", "early_stopping_patience", "pack_dir", "profile_steps",
            "distribution", "num_replicas", "master")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search, checked.

    folder: of the search.
    command: "classifier" or "squad".
    flags: {flag: value} of the command line, the same in all trials.
    space: what is searched.
    settings: of a run, with defaults filled in.
    train: the training split.
    metric: name of the task's first metric, which is maximized.
    facts: fingerprints of base and data.
    """

    folder: str
    command: str
    flags: dict[str, Any]
    space: spaces.Space
    settings: RunSettings
    train: split_records.Split
    metric: str
    facts: dict[str, str]

    def output_dir(self, number: int) -> str:
        """Folder of the run of a trial, whose number counts from 0; users count from 1."""
        return os.path.join(self.folder, TRIALS, f"{number + 1:04d}")

    def run_flags(self, values: Mapping[str, Any], output_dir: str) -> dict[str, Any]:
        """All flags of a run with these values of the searched parameters."""
        searched = spaces.flags_of(values)
        return {**self.flags, **ALWAYS, "precision": self.settings.precision, **searched,
                "eval_steps": -(-self.steps(values) // EVALUATIONS), "output_dir": output_dir}

    def steps(self, values: Mapping[str, Any]) -> int:
        """Training steps of a run with these values of the searched parameters."""
        epochs = float(values.get("epochs", self.settings.num_train_epochs))
        return make_schedule(dataclasses.replace(self.settings, num_train_epochs=epochs),
                             self.train).num_train_steps

    def job(self, number: int, values: Mapping[str, Any]) -> Job:
        """The Job of a trial."""
        output_dir = self.output_dir(number)
        return Job(self.folder, number, self.command, self.run_flags(values, output_dir),
                   f"{self.settings.SCORES}{self.metric}", self.steps(values))


def make(command: str, settings: RunSettings, explicit_flags: Set[str], search: str | None) -> Plan:
    """The Plan of a command line, after its data was read once; writes nothing.

    Args:
      command: "classifier" or "squad".
      settings: of the command line.
      explicit_flags: names of the flags on it.
      search: value of --search.

    Raises:
      InputError: flags, files or data with which no run or no search is possible.
    """
    if not settings.output_dir:
        raise InputError("--output_dir is missing")
    if paths.is_remote(settings.output_dir):
        raise InputError(f"--output_dir={settings.output_dir}: a search locks files, which needs a "
                         "folder of this machine or a mounted one")
    if reserved := [name for name in RESERVED if name in explicit_flags]:
        raise InputError(f"--{reserved[0]}: tune decides this itself; leave it out")
    flags = {name: getattr(settings, name) for name in sorted(explicit_flags)
             if name not in (*ALWAYS, "output_dir")}
    run, splits = _prepare(command, flags)
    assert isinstance(run.settings, RunSettings)
    names = spaces.choose(search, run.settings, explicit_flags)
    dev = splits[kinds.splits(run.task, "dev")[0][0]]
    facts = {"base": files.sha256(f"{run.settings.init_checkpoint}.index"),
             "training data": splits["train"].fingerprint, "dev data": dev.fingerprint}
    return Plan(paths.absolute(settings.output_dir), command, flags,
                spaces.make(names, run.settings), run.settings, splits["train"],
                run.task.metrics[0], facts)


def _prepare(
    command: str, flags: Mapping[str, Any]
) -> tuple[resolve.Run, dict[str, split_records.Split]]:
    """The run and the splits that all trials have, read in a folder that is removed again."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix="adapter-bert-") as folder, plain_errors():
            settings, task = commands.settings_of(command, {**flags, **ALWAYS,
                                                            "output_dir": folder})
            run, examples = split_records.read(resolve.open_run(
                settings, frozenset({*flags, *ALWAYS, "output_dir"}), task))
            splits = split_records.prepare(run, examples)
            run = with_recipe(run, splits["train"])
            make_schedule(run.settings, splits["train"])
    finally:
        logging.set_verbosity(verbosity)
    names = [name for name, _ in kinds.splits(run.task, "dev")]
    if not splits[names[0]].is_labelled:
        raise InputError(f"the {names[0]} set has no labels; tune compares trials by "
                         f"{run.task.metrics[0]} on it, so give one with labels")
    return run, splits


def bind(plan: Plan) -> Plan:
    """Records the plan in its folder, or checks that the search there is the same.

    Where the search was begun, its record decides what is searched. Paths may differ, so that
    several machines can work on one folder; contents may not.

    Raises:
      InputError: the folder contains another search, or something else.
    """
    path = os.path.join(plan.folder, RECORD_FILE)
    files.make_folder(plan.folder)
    if not os.path.exists(path) and set(os.listdir(plan.folder)) - {LOCKS}:
        raise InputError(f"{plan.folder}: contains files, but no search; name an empty folder "
                         "with --output_dir")
    now = {"command": plan.command, "precision": plan.settings.precision, "metric": plan.metric,
           "flags": {name: value for name, value in plan.flags.items() if name not in PATHS},
           "search": list(plan.space), "facts": plan.facts, "space": spaces.to_json(plan.space)}
    with alone(plan.folder):
        if not os.path.exists(path):
            files.write_json(path, now)
    before = files.read_object(path, *now)
    if differences := list(_differences(before, now)):
        raise InputError(f"{plan.folder}: contains a search with other settings: "
                         f"{'; '.join(differences)}; use those, or name another --output_dir")
    settings = dataclasses.replace(plan.settings, precision=before["precision"])
    return dataclasses.replace(plan, space=spaces.from_json(before["space"]), settings=settings)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between the records of two plans, in words."""
    for name in sorted({*before["flags"], *now["flags"]}):
        then, value = before["flags"].get(name), now["flags"].get(name)
        if then != value:
            yield f"--{name}: {_shown(then)} then, {_shown(value)} now"
    if before["search"] != now["search"]:
        yield f"--search: {','.join(before['search'])} then, {','.join(now['search'])} now"
    if before["command"] != now["command"]:
        yield f"the task: {before['command']} then, {now['command']} now"
    for name, fingerprint in now["facts"].items():
        if before["facts"].get(name) != fingerprint:
            yield f"the {name} changed"


def _shown(value: Any) -> str:
    return "default" if value is None else str(value)
