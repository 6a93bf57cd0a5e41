"""Settings as fields of a dataclass, from which the flags of a command are made."""
import dataclasses
import types
import typing

PRECISIONS, KERNELS = ("auto", "float32", "bfloat16"), ("auto", "plain", "fused")


def setting(default, text):
    """A dataclass field with its default and the help text of its flag."""
    return dataclasses.field(default=default, metadata={"help": text})


def listed(text):
    """What a flag names with commas between, without blanks around; a list of str."""
    return list(filter(None, map(str.strip, text.split(","))))


def kinds(settings_class):
    """{name of a field: its type}, X of `X | None`."""
    return {name: next(kind for kind in typing.get_args(hint) if kind is not type(None))
            if isinstance(hint, types.UnionType) else hint
            for name, hint in typing.get_type_hints(settings_class).items()}
