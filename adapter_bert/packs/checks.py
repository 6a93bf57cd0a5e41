"""What values in the JSON files of packs and hubs may be; without TensorFlow."""
import re

TEXT_LIMIT = 10_000
# The largest numbers of a task, be it trained or read from a pack.
MOST_ADAPTER_SIZE = 65_536
MOST_POSITIONS = 65_536   # word pieces of a text
MOST_N_BEST = 100         # with more, one question takes seconds


def is_text(value):
    """Whether it is a text of a length that a person may write."""
    return isinstance(value, str) and len(value) <= TEXT_LIMIT


def is_texts(value):
    """Whether it is a list of texts."""
    return isinstance(value, list) and len(value) <= TEXT_LIMIT and all(map(is_text, value))


def is_bool(value):
    """Whether it is true or false."""
    return isinstance(value, bool)


def is_dict(value):
    """Whether it is an object."""
    return isinstance(value, dict)


def is_count(value):
    """Whether it is a positive whole number that a file may have bytes."""
    return type(value) is int and 0 < value < 1 << 40


def is_hash(value):
    """Whether it is a sha256 of 64 hexadecimal digits."""
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def is_number(value):
    """Whether it is a finite number; NaN is none."""
    return type(value) in (int, float) and abs(value) < 1e300


def is_dict_of(is_right, most=1000):
    """A check: an object of at most so many values, each of which is right."""
    return lambda value: (isinstance(value, dict) and len(value) <= most
                          and all(map(is_text, value)) and all(map(is_right, value.values())))


def check(values, wanted, name="{}"):
    """ValueError where a value of a dict is not what it is to be.

    Args:
      values: dict.
      wanted: {key: (check, what the value is to be)}.
      name: what a message calls a key, with {} in its place.
    """
    for key, (is_right, words) in wanted.items():
        if not is_right(values[key]):
            raise ValueError(f"{name.format(key)} is {short(values[key])}, not {words}")


def unique(pairs):
    """For json.loads: an object has each key once."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an object has a key twice")
    return dict(pairs)


def short(value):
    """A value for a message, of which a whole number may have too many digits to be shown."""
    if type(value) is int and abs(value) >= 1 << 64:
        return f"a number of {value.bit_length()} bits"
    return ascii(value)[:60]


def refuse(constant):
    """For json.loads: NaN and infinity are no JSON."""
    raise ValueError(f"{constant} is no number")


def whole(least, most):
    """(check, what the value is to be) of a whole number within bounds."""
    return (lambda value: type(value) is int and least <= value <= most,
            f"a whole number from {least} to {most}")


# (check, what the value is to be)
TEXT = (is_text, f"a text of at most {TEXT_LIMIT:,} characters")
HASH = (is_hash, "a sha256 of 64 hexadecimal digits")
COUNT = (is_count, "a positive whole number")
BOOL = (is_bool, "true or false")
NUMBERS = (is_dict_of(is_number), "numbers by name")
