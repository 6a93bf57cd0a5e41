"""adapter-bert train: a task from labelled texts, in one command."""
import argparse
import dataclasses
from typing import Any

from adapter_bert.cli import run_flags
from adapter_bert.cli.parser import Parser
from adapter_bert.errors import InputError

COMMON = ("data_file", "data_dir", "task_name", "text_column", "text_b_column", "label_column",
          "label_type", "dev_fraction", "test_fraction", "bad_rows", "max_seq_length", "bert_dir",
          "init_pack", "adapter_method", "adapter_size", "tuning", "recipe", "guard",
          "learning_rate", "num_train_epochs", "train_batch_size", "keep_best", "seed",
          "output_dir", "pack_dir")
# A flag that only files of the user's own need: it makes --task_name=custom the default.
OF_CUSTOM_TASKS = ("data_file", "text_column")


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `train` to argparse's subparsers."""
    parser = commands.add_parser(
        "train", help="train a task from labelled texts, evaluate it, and write its pack",
        usage="%(prog)s --data_file=FILE --text_column=NAME --label_column=NAME --bert_dir=DIR "
              "--output_dir=DIR [flags]\n"
              "       %(prog)s --task_name=MRPC --data_dir=DIR --bert_dir=DIR --output_dir=DIR "
              "[flags]",
        description="Trains adapters on a frozen BERT, evaluates them on the dev examples, "
                    "predicts the test examples if there are any, and writes the task as a pack, "
                    "OUTPUT_DIR/pack. The flags are those of run_classifier.py; write --flag or "
                    "--noflag for true or false. Question answering (SQuAD): run_squad.py.",
        fill=_fill)
    parser.set_defaults(run=_train)


def _fill(parser: Parser) -> None:
    from adapter_bert.train.settings import Settings
    run_flags.add(parser, Settings, COMMON)


def _train(**flags: Any) -> None:
    from adapter_bert.train.settings import Settings, check
    flags = with_task_name(flags)
    if not any(name in flags for name in ("data_file", "data_dir", "task_name")):
        raise InputError("nothing to learn from; name a file of labelled texts with --data_file, "
                         "or a folder of train and dev files with --data_dir")
    settings = Settings(**{"do_train": True, "do_eval": True, **flags})
    check(settings)
    from adapter_bert.cli import run_command  # imports TensorFlow
    from adapter_bert.train.named_task import text_task
    if "do_predict" not in flags and settings.do_train:
        settings = with_prediction(settings, text_task(settings))
    run_command.run(settings, frozenset(flags), run_command.of_task(text_task))


def with_task_name(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags with --task_name=custom where they name a file or a column of the user's own."""
    if "task_name" in flags or not any(name in flags for name in OF_CUSTOM_TASKS):
        return flags
    return {**flags, "task_name": "custom"}


def with_prediction(settings: Any, task: Any) -> Any:
    """Settings with --do_predict where the task has a test file.

    Args:
      settings: train.settings.Settings.
      task: kinds.Task.
    """
    from adapter_bert import kinds
    from adapter_bert.kinds.readers import find_file
    for split, _ in kinds.splits(task, "test"):
        try:
            find_file(task, settings.data_dir, split)
        except InputError:   # there is none
            continue
        return dataclasses.replace(settings, do_predict=True)
    return settings
