"""Text of others is written as plain lines, whatever it contains."""
import io
import json
import logging

import pytest

from adapter_bert.plain_text import PlainFormatter, plain, plain_json
from adapter_bert.train import findings

NASTY = "a\nb\r\x1b[31mc\x9bd\u202ee\u2028f\ud800g\0h"


def test_plain_text_is_one_printable_line():
    assert plain("café 日本 😀") == "café 日本 😀"
    joined = "👩\u200d👧 می\u200cخواهم"
    assert plain(joined) == joined and plain(f"{joined}\x1b") == f"{joined}\\x1b"
    assert plain(NASTY).isprintable() and plain("\n\x1b\u202e") == "\\n\\x1b\\u202e"
    assert plain("x" * 100, 10) == "x" * 10 + "..."


@pytest.mark.parametrize("value", [NASTY.replace("\ud800", ""), "😀\U000e0001", "é"])
def test_plain_json_has_the_same_value(value):
    text = plain_json(json.dumps({"a": value}, ensure_ascii=False, indent=1))
    assert json.loads(text) == {"a": value}
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_cell_of_a_report_is_printable_and_literal():
    assert findings.escaped("\x1b[31m<b>|\u202e", 80) == "\\\\x1b\\[31m\\<b\\>\\|\\\\u202e"


def test_a_message_cannot_forge_a_log_line():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("pack %s", "x\nERROR all is lost\x1b[2J")
    try:
        raise ValueError("y\x1b[2J")
    except ValueError:
        logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "WARNING pack x\\nERROR all is lost\\x1b[2J"
    assert lines[1] == "ERROR failed" and "\x1b" not in stream.getvalue()
