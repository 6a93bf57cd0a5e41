"""The automatic split: stratified, deterministic, without leaks."""
import collections
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_bert.data.splitting import split_examples
from adapter_bert.errors import InputError


def split(rows, dev=0.1, test=0.0):
    return split_examples("f.csv", rows, dev, test, lambda row: (row[0],), lambda row: (row[1],))


def rows_of(**counts):
    return [(f"{label} {number}", label) for label, count in counts.items()
            for number in range(count)]


def test_each_label_gives_its_share():
    parts = split(rows_of(a=200, b=100, c=50), dev=0.1, test=0.2)
    assert list(parts) == ["train", "dev", "test"]
    for name, share in (("dev", 0.1), ("test", 0.2)):
        counts = collections.Counter(label for _, label in parts[name])
        assert all(abs(counts[label] - share * count) <= 1
                   for label, count in (("a", 200), ("b", 100), ("c", 50)))
        assert len(parts[name]) == 350 * share


def test_the_order_of_the_rows_does_not_matter_and_stays():
    rows = rows_of(a=30, b=20)
    shuffled = random.Random(0).sample(rows, len(rows))
    parts, others = split(rows), split(shuffled)
    assert {name: set(some) for name, some in parts.items()} == {
        name: set(some) for name, some in others.items()}
    assert others["train"] == [row for row in shuffled if row in set(parts["train"])]


def test_a_column_of_other_things_than_labels_is_suspected():
    with pytest.raises(InputError, match="most labels have one text only.*--label_column"):
        split([(f"text {number}", f"id{number}") for number in range(40)])
    with pytest.raises(InputError, match="add some, or raise --dev_fraction"):
        split(rows_of(a=20, b=20), dev=0.001)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("aabbbbcd")), min_size=40,
                max_size=80), st.sampled_from([0.1, 0.3, 0.5]), st.sampled_from([0.0, 0.2, 0.4]))
def test_no_text_leaks_and_train_has_every_label(numbers, dev, test):
    rows = [(f"Text  {number}" if index % 2 else f"text {number} ", label)
            for index, (number, label) in enumerate(numbers)]
    try:
        parts = split(rows, dev, test)
    except InputError as error:
        assert "cannot be split" in str(error) or "no example is left" in str(error)
        return
    assert sorted(sum(parts.values(), [])) == sorted(rows)
    texts = {name: {" ".join(text.split()).lower() for text, _ in some}
             for name, some in parts.items()}
    assert sum(map(len, texts.values())) == len(set().union(*texts.values()))
    assert {label for _, label in parts["train"]} == {label for _, label in rows}


def test_a_label_with_one_text_is_in_train():
    parts = split([*rows_of(a=12, b=12), ("rare", "z")], dev=0.4)
    assert ("rare", "z") in parts["train"]


def test_too_few_texts_and_no_parts():
    with pytest.raises(InputError, match="f.csv: 5 different texts cannot be split into train and "
                                         "dev, which takes 10"):
        split(rows_of(a=3, b=2))
    assert split(rows_of(a=3, b=2), dev=0.0) == {"train": rows_of(a=3, b=2)}
