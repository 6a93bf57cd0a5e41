"""absl flags from a settings dataclass, so that a default is written once."""
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from adapter_bert import fields

_DEFINE: dict[type, Callable] = {
    str: flags.DEFINE_string, bool: flags.DEFINE_bool, int: flags.DEFINE_integer,
    float: flags.DEFINE_float}


def define(settings_class: type, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag of the command for every field; `X | None` has no value at first."""
    types = fields.kinds(settings_class)
    for field in dataclasses.fields(settings_class):
        _DEFINE[types[field.name]](
            field.name, field.default, field.metadata["help"], module_name=sys.argv[0],
            flag_values=flag_values)


def read(settings_class: type, flag_values: flags.FlagValues = flags.FLAGS,
         ) -> tuple[Any, frozenset[str]]:
    """The settings of the parsed flags, and the names of the flags that the user gave."""
    names = [field.name for field in dataclasses.fields(settings_class)]
    explicit_flags = frozenset(name for name in names if flag_values[name].present)
    return settings_class(**{name: flag_values[name].value for name in names}), explicit_flags
