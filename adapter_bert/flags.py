"""Command-line flags made of a settings dataclass, so that a default is written once."""
import dataclasses
import sys

from absl import flags

from adapter_bert import fields

_DEFINE = {str: flags.DEFINE_string, bool: flags.DEFINE_bool, int: flags.DEFINE_integer,
           float: flags.DEFINE_float}


def define(settings_class, flag_values=flags.FLAGS):
    """Defines a flag of the command for every field; `X | None` has no value at first."""
    kinds = fields.kinds(settings_class)
    for field in dataclasses.fields(settings_class):
        _DEFINE[kinds[field.name]](
            field.name, field.default, field.metadata["help"], module_name=sys.argv[0],
            flag_values=flag_values)


def read(settings_class, flag_values=flags.FLAGS):
    """The settings of the parsed flags, and the names of those on the command line."""
    names = [field.name for field in dataclasses.fields(settings_class)]
    given = frozenset(name for name in names if flag_values[name].present)
    return settings_class(**{name: flag_values[name].value for name in names}), given
