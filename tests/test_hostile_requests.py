"""What a short request may cost: memory and time are bounded by the bytes of its body."""
import json
import time
import tracemalloc

import pytest

from adapter_bert.errors import InputError
from adapter_bert.serve import rest, strict_json

BODY = 1 << 20
LIMITS = rest.Limits(rows=256, characters=20_000, all_characters=BODY)
KEYS = {f"k{number}": 0 for number in range(12_000)}
LONG = "word " * 4000
HOSTILE = {
    "wide context": ("classify", {"examples": [{}] * 14_000, "context": KEYS}),
    "long context": ("regress", {"examples": [{"text_b": "x"}] * 256, "context": {"text_a": LONG}}),
    "many examples": ("classify", {"examples": [{}] * 250_000}),
    "many instances": ("predict", {"instances": [""] * 250_000}),
    "wide instances": ("predict", {"instances": [KEYS] * 6}),
    "many columns": ("predict", {"inputs": {name: [""] for name in KEYS}}),
    "long columns": ("predict", {"inputs": {"text_a": [""] * 250_000}}),
    "nested": ("predict", {"instances": [[[[0]]]] * 50_000}),
    "clashing keys": ("classify", {"examples": [KEYS] * 4, "context": {"text_a": "x"}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_body_costs_memory_and_time_in_proportion_to_its_bytes(name, record_property):
    verb, value = HOSTILE[name]
    body = json.dumps(value).encode()
    assert len(body) <= BODY, len(body)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(InputError) as refusal:
        rest.parse(verb, strict_json.loads(body), LIMITS)
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    record_property("peak bytes per byte", peak / len(body))
    assert peak < 64 * len(body) + (1 << 20) and seconds < 20 and len(str(refusal.value)) < 1000


def test_texts_of_all_rows_count_together():
    questions, _ = rest.parse("classify", {"examples": [{}] * 50, "context": {"text_a": LONG}},
                              LIMITS)
    assert len(questions) == 50
    with pytest.raises(InputError, match="the texts of the request have 5120256 characters"):
        rest.parse(*HOSTILE["long context"], LIMITS)
