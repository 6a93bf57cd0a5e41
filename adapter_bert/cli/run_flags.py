"""Flags for argparse from a settings dataclass, in groups, the common ones first."""
import argparse
import dataclasses
from collections.abc import Collection
from typing import Any

from adapter_bert import fields
from adapter_bert.cli.parser import Parser

# What --help shows; a field that is in no group is listed under "other flags".
GROUPS = {
    "data": ("data_file", "data_dir", "task_name", "text_column", "text_b_column", "label_column",
             "label_type", "header", "dev_fraction", "test_fraction", "bad_rows", "max_seq_length",
             "max_train_examples", "do_lower_case"),
    "model": ("bert_dir", "vocab_file", "bert_config_file", "init_checkpoint", "pack", "init_pack",
              "adapter_method", "tuning", "adapter_fn", "adapter_size", "adapter_placement",
              "adapter_layers", "adapter_activation", "adapter_init_stddev",
              "adapter_original_ln_before", "adapter_residual_before_ln", "adapter_scale"),
    "training": ("recipe", "guard", "learning_rate", "num_train_epochs", "train_batch_size",
                 "train_batch_tokens", "warmup_proportion", "bias_correction", "seed",
                 "eval_steps", "keep_best", "early_stopping_patience", "eval_batch_size",
                 "predict_batch_size", "do_train", "do_eval", "do_predict"),
    "output": ("output_dir", "pack_dir", "pack_precision", "pack_license", "pack_description",
               "log_steps", "save_checkpoints_steps", "profile_steps"),
    "hardware": ("precision", "kernels", "distribution", "num_replicas", "distribution_timeout",
                 "use_tpu", "tpu_name", "tpu_zone", "gcp_project", "master", "num_tpu_cores",
                 "iterations_per_loop"),
}
_WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def add(parser: Parser, settings_class: type, common: Collection[str],
        without: Collection[str] = ()) -> None:
    """Adds a flag for every field of a settings class; only flags that are given are parsed.

    Args:
      parser: gets the flags, and --helpfull, which shows those that --help leaves out.
      settings_class: dataclass of fields.setting.
      common: names of the fields that --help shows.
      without: names of the fields that the command does not have.
    """
    types = fields.kinds(settings_class)
    by_name = {field.name: field for field in dataclasses.fields(settings_class)
               if field.name not in without}
    others = [name for name in by_name if not any(name in group for group in GROUPS.values())]
    texts = {}
    for title, names in {**GROUPS, "other flags": others}.items():
        group = parser.add_argument_group(title)
        for name in filter(by_name.get, names):
            action = group.add_argument(
                f"--{name}", type=boolean if types[name] is bool else types[name],
                default=argparse.SUPPRESS, metavar=_placeholder(name, types[name]))
            texts[action] = _help_of(by_name[name])
            action.help = texts[action] if name in common else argparse.SUPPRESS
            if types[name] is bool:
                parser.booleans.add(name)
    parser.add_argument("--helpfull", action=_HelpFull, texts=texts)


class _HelpFull(argparse.Action):
    """Prints the help with all flags and exits."""

    def __init__(self, option_strings: Any, dest: str, texts: dict[argparse.Action, str]):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS,
                         help="show all flags and exit")
        self._texts = texts

    def __call__(self, parser: Any, *_: Any) -> None:
        for action, text in self._texts.items():
            action.help = text
        parser.print_help()
        parser.exit()


def boolean(text: str) -> bool:
    """The value of --flag=text; ValueError where it is neither true nor false."""
    try:
        return _WORDS[text.lower()]
    except KeyError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from error


def _placeholder(name: str, kind: type) -> str:
    if kind is bool:
        return "true|false"
    if name.endswith(("_dir", "_file", "_checkpoint")):
        return "PATH"
    return {int: "INT", float: "NUMBER"}.get(kind, "TEXT")


def _help_of(field: dataclasses.Field) -> str:
    text = field.metadata["help"]
    if field.default not in (None, ""):
        value = str(field.default).lower() if isinstance(field.default, bool) else field.default
        text = f"{text} (default: {value})"
    return text.replace("%", "%%")
