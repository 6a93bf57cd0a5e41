"""JSON with one meaning: no key twice, no NaN, no number or text that others could not hold."""
import json
import math
import re
from collections.abc import Iterator

from adapter_bert.packs import checks
from adapter_bert.serve.refusal import Refusal

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(body):
    """The value of a body in JSON.

    Args:
      body: bytes.

    Raises:
      Refusal: it is not JSON, or says something twice or out of bounds.
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=checks.unique,
                           parse_float=_number, parse_constant=checks.refuse)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise Refusal("the JSON of the body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise Refusal(f"the body is not UTF-8 (byte {error.start})") from error
    except UnicodeEncodeError as error:
        raise Refusal("a text in the body has half of a surrogate pair") from error
    except ValueError as error:
        raise Refusal(f"the body is not JSON as it should be ({_plain(error)})") from error
    return value


def _number(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _plain(error):
    """What an error says, in one line of bounded length."""
    return " ".join(str(error).split(";")[0].split())[:120]


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def dumps(value):
    """A value with texts as keys as JSON, bytes.

    Lists and iterators are written entry by entry, so that other threads get their turn.

    Half of a surrogate pair, which is no UTF-8, becomes its escape.
    """
    if isinstance(value, dict):
        return b"{%b}" % b", ".join(b"%b: %b" % (_bytes(key), dumps(inner))
                                    for key, inner in value.items())
    if isinstance(value, (list, Iterator)):
        return b"[%b]" % b", ".join(map(_bytes, value))
    return _bytes(value)


def _bytes(value):
    return _JSON.encode(value).encode("utf-8", "backslashreplace")
