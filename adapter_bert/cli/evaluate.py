"""adapter-bert evaluate: a pack's scores on labelled texts."""
import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from adapter_bert.cli import run_flags, train
from adapter_bert.cli.pack import PACK, pack_in
from adapter_bert.cli.parser import Parser
from adapter_bert.errors import InputError

COMMON = ("data_file", "data_dir", "task_name", "text_column", "text_b_column", "label_column",
          "bad_rows", "bert_dir", "output_dir", "eval_batch_size")
# The pack, or training, determines these.
WITHOUT = ("pack", "init_pack", "init_checkpoint", "do_train", "do_eval", "recipe", "guard",
           "dev_fraction", "test_fraction", "label_type", "vocab_file", "bert_config_file",
           *(name for name in run_flags.GROUPS["training"]
             if name not in ("eval_batch_size", "predict_batch_size", "do_predict")),
           *(name for name in run_flags.GROUPS["model"] if name.startswith(("adapter_", "tuning"))),
           *(name for name in run_flags.GROUPS["output"] if name != "output_dir"))
LABEL_TYPES = {"classification": "classes", "regression": "number", "tokens": "tokens"}


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `evaluate` to argparse's subparsers."""
    parser = commands.add_parser(
        "evaluate", help="score a pack on labelled texts",
        usage="%(prog)s PACK --bert_dir=DIR --data_file=FILE --text_column=NAME "
              "--label_column=NAME [flags]\n"
              "       %(prog)s PACK --bert_dir=DIR --data_dir=DIR [--task_name=MRPC] [flags]",
        description="Scores a pack on all rows of a labelled file, or on the dev examples of a "
                    "folder. FILE is a table or, for question answering, a JSON file in SQuAD's "
                    "format. With --output_dir the scores are also written to results.json.",
        fill=_fill)
    parser.set_defaults(run=_evaluate)


def _fill(parser: Parser) -> None:
    from adapter_bert.train.settings import Settings
    parser.add_argument("pack", **PACK)
    run_flags.add(parser, Settings, COMMON, WITHOUT)


def _evaluate(pack: str, data_file: str | None = None, **flags: Any) -> None:
    pack = pack_in(pack)
    if bool(data_file) == ("data_dir" in flags):
        raise InputError("give either --data_file or --data_dir, where the labelled texts are")
    if data_file and os.path.isdir(data_file):
        raise InputError(f"{data_file}: is a folder; name it with --data_dir")
    if data_file and not os.path.exists(data_file):
        raise InputError(f"{data_file}: no such file")
    if "bert_dir" not in flags:
        raise InputError("--bert_dir is missing; name the folder of the pack's base")
    from adapter_bert.packs import store  # imports TensorFlow
    manifest = store.read(pack).manifest
    with contextlib.ExitStack() as stack:
        writes_report = "output_dir" in flags   # it would be lost with the temporary folder
        if not writes_report:
            flags["output_dir"] = stack.enter_context(tempfile.TemporaryDirectory())
        if manifest.head == "spans":
            _score_answers(pack, data_file, flags, writes_report)
            return
        if data_file:
            flags = of_file(data_file, flags, manifest)
            name = dev_file(data_file, flags["task_name"])
            flags["data_dir"] = stack.enter_context(_as_dev_file(data_file, name))
        _score(pack, with_task(flags, manifest), writes_report)


def of_file(path: str, flags: dict[str, Any], manifest: Any) -> dict[str, Any]:
    """Flags with the task that a file is read as: GLUE's own files are .tsv, others are custom."""
    is_known = manifest.head == "tokens" or path.lower().endswith(".tsv")
    if "task_name" in flags or is_known:
        return with_task(flags, manifest)
    return with_task({**flags, "task_name": "custom"}, manifest)


def dev_file(path: str, task_name: str) -> str:
    """The name under which a task finds the file as its dev set.

    Raises:
      InputError: the task has several dev sets.
    """
    from adapter_bert import kinds
    if task_name.lower() == "custom":
        return f"dev{os.path.splitext(path)[1].lower()}"
    task = kinds.get_task(task_name)
    names = [task.files[split] for split, _ in kinds.splits(task, "dev")]
    if len(names) > 1:
        raise InputError(f"{task.name} has the dev files {' and '.join(map(str, names))}; name "
                         "their folder with --data_dir instead of --data_file")
    if isinstance(names[0], str) and os.path.splitext(names[0])[1]:
        return names[0]
    return f"dev{os.path.splitext(path)[1].lower()}"


def with_task(flags: dict[str, Any], manifest: Any) -> dict[str, Any]:
    """Flags with the task of a packs.manifest.Manifest where they do not name one."""
    from adapter_bert import kinds
    flags = train.with_task_name(flags)
    if "task_name" not in flags:
        try:
            flags = {**flags, "task_name": kinds.get_task(manifest.task).name}
        except InputError:   # a task of the user's own
            flags = {**flags, "task_name": "custom"}
    if flags["task_name"].lower() != "custom":
        return flags
    return {**flags, "label_type": LABEL_TYPES.get(manifest.head, "classes")}


def _score(pack: str, flags: dict[str, Any], writes_report: bool) -> None:
    from adapter_bert.cli import run_command
    from adapter_bert.train.named_task import text_task
    from adapter_bert.train.settings import Settings
    settings = Settings(**flags, pack=pack, do_eval=True)
    run_command.run(settings, frozenset(flags) | {"pack"},
                    run_command.of_task(text_task, writes_report))


def _score_answers(pack: str, data_file: str | None, flags: dict[str, Any],
                   writes_report: bool) -> None:
    from adapter_bert.cli import run_command
    from adapter_bert.train.named_task import squad_task
    from adapter_bert.train.settings import SquadSettings
    if not data_file:
        raise InputError(f"{pack}: answers questions; name a file in SQuAD's format with "
                         "--data_file")
    known = {name: value for name, value in flags.items()
             if name in SquadSettings.__dataclass_fields__}
    settings = SquadSettings(**known, pack=pack, predict_file=data_file, do_eval=True)
    run_command.run(settings, frozenset(known) | {"pack"},
                    run_command.of_task(squad_task, writes_report))


@contextlib.contextmanager
def _as_dev_file(path: str, name: str) -> Iterator[str]:
    """A temporary folder in which a file has this name; messages keep the file's own one."""
    with tempfile.TemporaryDirectory() as folder:
        place = os.path.join(folder, name)
        os.symlink(os.path.abspath(path), place)
        try:
            yield folder
        except InputError as error:
            raise InputError(str(error).replace(place, path)) from error
