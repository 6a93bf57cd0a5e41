"""Featurizing, TFRecord files and batches."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from adapter_bert.files import write_json
from adapter_bert.pipeline import batches, features, records
from adapter_bert.tasks import Example

SPEC = features.feature_spec("classification", labelled=True)


def slow_truncate(first, second, limit):
    """One id at a time from the longer side, as BERT's own loop does it."""
    first, second = list(first), list(second)
    while len(first) + len(second) > limit:
        (first if len(first) > len(second) else second).pop()
    return first, second


@pytest.mark.parametrize("limit", [2, 3, 4, 7, 8, 20])
def test_truncation_equals_the_loop(limit):
    for a in range(12):
        for b in range(12):
            first, second = list(range(a)), list(range(100, 100 + b))
            assert features.truncate_pair(first, second, limit) == slow_truncate(
                first, second, limit)


def test_join_by_hand():
    assert features.join([7, 8], None, 1, 2, 10) == {
        "input_ids": [1, 7, 8, 2], "segment_ids": [0, 0, 0, 0]}
    assert features.join([7, 8, 9], [5, 6], 1, 2, 7) == {
        "input_ids": [1, 7, 8, 2, 5, 6, 2], "segment_ids": [0, 0, 0, 0, 1, 1, 1]}
    assert features.join([], None, 1, 2, 10)["input_ids"] == [1, 2]
    assert features.join([], [], 1, 2, 10)["segment_ids"] == [0, 0, 1]
    assert len(features.join(list(range(500)), None, 1, 2, 16)["input_ids"]) == 16


class Words:
    """A tokenizer of words whose id is their length."""

    def convert_tokens_to_ids(self, tokens):
        return [101 if token == "[CLS]" else 102 for token in tokens]

    def encode_batch(self, texts):
        return [[len(word) for word in text.split()] for text in texts]


def test_featurize_keeps_order_over_chunks(monkeypatch):
    monkeypatch.setattr(features, "TEXTS_AT_ONCE", 2)
    examples = [Example("a bb", None, "x"), Example("ccc", "d", "y"), Example("", "", None)]
    rows = list(features.featurize(examples, Words(), 16, {"x": 0, "y": 1}))
    assert [row["input_ids"] for row in rows] == [
        [101, 1, 2, 102], [101, 3, 102, 1, 102], [101, 102, 102]]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert [row.get("label_ids") for row in rows] == [0, 1, None]


def make_rows(count, longest, seed=0):
    lengths = np.random.default_rng(seed).integers(2, longest + 1, count)
    return [{"input_ids": [101] + [5] * int(length - 2) + [102], "segment_ids": [0] * int(length),
             "index": index, "label_ids": index % 3} for index, length in enumerate(lengths)]


def read(dataset, count=None):
    iterator = tf.data.make_one_shot_iterator(dataset).get_next()
    found = []
    with tf.Session() as session:
        while count is None or len(found) < count:
            try:
                found.append(session.run(iterator))
            except tf.errors.OutOfRangeError:
                break
    return found


@pytest.mark.parametrize("kind,label", [("classification", 2), ("regression", 2.5)])
def test_a_record_round_trips(kind, label):
    spec = features.feature_spec(kind, labelled=True)
    row = {"input_ids": [3, 1, 2], "segment_ids": [0, 0, 1], "index": 7, "label_ids": label}
    with tf.Session() as session:
        parsed = session.run(features.parse(spec, tf.constant(features.serialize(spec, row))))
    assert {name: value.tolist() for name, value in parsed.items()} == row


def write_once(path, rows, fingerprint, count=None):
    def rows_between(start, stop):
        return rows if count else rows[start:stop]
    return records.write_once(path, rows_between, count or len(rows), SPEC, fingerprint)


def test_records_are_written_once(tmp_path):
    path, rows = str(tmp_path / "train.tf_record"), make_rows(10, 9)
    first = write_once(path, rows, "a")
    assert (first["count"], first["reused"]) == (10, False)
    assert records.write_once(path, None, 10, SPEC, "a")["reused"]
    assert write_once(path, rows[:4], "b")["count"] == 4
    assert not write_once(path, rows, "a")["reused"]


def test_several_processes_write_what_one_does(tmp_path, monkeypatch):
    rows = make_rows(103, 9)
    one, many = str(tmp_path / "one"), str(tmp_path / "many")
    alone = write_once(one, rows, "a")
    monkeypatch.setattr(records, "ROWS_A_PROCESS", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(5))
    together = write_once(many, rows, "a")
    assert together == alone and sorted(os.listdir(tmp_path)) == [
        "many", "many.json", "one", "one.json"]
    with open(one, "rb") as first, open(many, "rb") as second:
        assert first.read() == second.read()


def test_a_process_that_fails_leaves_nothing(tmp_path, monkeypatch, capfd):
    rows = make_rows(40, 9)
    monkeypatch.setattr(records, "ROWS_A_PROCESS", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(2))
    rows[30] = {"index": 30}
    with pytest.raises(RuntimeError, match="a process ended with 1"):
        write_once(str(tmp_path / "x"), rows, "a")
    assert "KeyError" in capfd.readouterr().err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16_383, 16_384, 2**31, 2**63 - 1])
def test_serialized_records_are_the_protocol_buffers_own(value):
    row = {"input_ids": [101, value, 0, 30521], "segment_ids": [], "index": value,
           "label_ids": -1.5}
    spec = features.feature_spec("regression", labelled=True)
    example = tf.train.Example.FromString(features.serialize(spec, row)).features.feature
    assert list(example) and {name: list((feature.int64_list or feature.float_list).value) or
                              list(feature.float_list.value)
                              for name, feature in example.items()} == {
        "input_ids": row["input_ids"], "segment_ids": [], "index": [value], "label_ids": [-1.5]}


def failing(rows):
    yield rows[0]
    raise KeyboardInterrupt


def test_interrupted_writing_is_never_trusted(tmp_path):
    path, rows = str(tmp_path / "train.tf_record"), make_rows(10, 9)
    write_once(path, rows, "a")
    with pytest.raises(KeyboardInterrupt):
        write_once(path, failing(rows), "b", 10)
    assert records.read_metadata(path, "a") is None
    assert os.listdir(tmp_path) == ["train.tf_record"]
    assert not write_once(path, rows, "a")["reused"]


@pytest.mark.parametrize("break_it", [
    os.remove, lambda path: os.truncate(path, 10), lambda path: os.truncate(path, 10_000),
    lambda path: os.truncate(path + ".json", 5),
    lambda path: write_json(path + ".json", {"fingerprint": "a"})])
def test_a_broken_file_is_written_anew(tmp_path, break_it):
    path, rows = str(tmp_path / "train.tf_record"), make_rows(10, 9)
    write_once(path, rows, "a")
    break_it(path)
    assert not write_once(path, rows, "a")["reused"]
    assert len(read(tf.data.TFRecordDataset(path))) == 10


def test_fingerprint_sees_every_input():
    examples = [Example("a", None, "x"), Example("b", None, "y")]
    fingerprints = {
        records.fingerprint_of(examples, length=8), records.fingerprint_of(examples, length=9),
        records.fingerprint_of(examples[:1], length=8),
        records.fingerprint_of(examples[::-1], length=8),
        records.fingerprint_of([Example("a", "", "x"), examples[1]], length=8)}
    assert len(fingerprints) == 5


@pytest.fixture(name="record_file")
def fixture_record_file(tmp_path):
    path, rows = str(tmp_path / "x.tf_record"), make_rows(203, 40)
    write_once(path, rows, "a")
    return path, rows


@pytest.mark.parametrize("fixed,count", [(False, 203), (True, 208)])
def test_evaluation_sees_every_example_once(record_file, fixed, count):
    path, rows = record_file
    found = read(batches.evaluation_batches(path, SPEC, 203, 8, 40, fixed))
    index = np.concatenate([batch["index"] for batch in found])
    assert len(index) == count
    assert sorted(index[index >= 0]) == list(range(203))
    for batch in found:
        for place, ids, mask in zip(batch["index"], batch["input_ids"], batch["input_mask"],
                                    strict=True):
            if place >= 0:
                assert ids[:mask.sum()].tolist() == rows[place]["input_ids"]
                assert not ids[mask.sum():].any() and not mask[mask.sum():].any()


def test_grouping_pads_to_the_batch_and_wastes_little(record_file):
    path, rows = record_file
    found = read(batches.training_batches(path, SPEC, 203, 8, 40, seed=0), 50)
    shapes = {batch["input_ids"].shape for batch in found}
    assert all(rows == 8 and tokens % batches.LENGTH_STEP == 0 for rows, tokens in shapes)
    assert len(shapes) > 3
    for batch in found:
        longest = batch["input_mask"].sum(axis=1).max()
        assert batch["input_ids"].shape[1] - longest < batches.LENGTH_STEP
    tokens = sum(batch["input_mask"].sum() for batch in found)
    places = sum(batch["input_mask"].size for batch in found)
    fixed = sum(len(row["input_ids"]) for row in rows) / (203 * 40)
    assert fixed < 0.7 and tokens / places > 0.9


def test_training_uses_every_example_about_equally(record_file):
    path, _ = record_file
    found = read(batches.training_batches(path, SPEC, 203, 8, 40, seed=0), 254)
    seen = np.bincount(np.concatenate([batch["index"] for batch in found]), minlength=203)
    assert seen.sum() == 254 * 8 and seen.min() >= 9 and seen.max() <= 11


@pytest.mark.parametrize("count,batch_size", [(203, 8), (20, 8), (5, 8), (1000, 4)])
def test_an_epoch_holds_every_example_but_the_remainder(tmp_path, count, batch_size):
    path = str(tmp_path / "x.tf_record")
    write_once(path, make_rows(count, 9), "a")
    found = read(batches.training_batches(path, SPEC, count, batch_size, 9, seed=0),
                 max(1, count // batch_size))
    seen = np.concatenate([batch["index"] for batch in found])
    assert len(set(seen)) >= min(count - count % batch_size, len(seen)) * 0.95
    assert len(set(seen)) == len(seen) or count < batch_size or count // batch_size > 50


def test_order_depends_on_the_seed_alone_and_can_be_skipped_into(record_file):
    path, _ = record_file

    def order(seed, skip, count):
        with tf.Graph().as_default():
            found = read(batches.training_batches(path, SPEC, 203, 8, 40, seed, skip), count)
        return [batch["index"].tolist() for batch in found]

    whole = order(3, 0, 60)
    assert order(3, 0, 60) == whole
    assert order(3, 25, 35) == whole[25:]
    assert order(4, 0, 60) != whole
    assert whole[:25] != whole[25:50]


def test_fixed_batches_have_static_shapes(record_file):
    path, _ = record_file
    dataset = batches.training_batches(path, SPEC, 203, 8, 40, seed=0, fixed=True)
    shapes = {name: spec.shape.as_list() for name, spec in dataset.element_spec.items()}
    assert shapes == {"input_ids": [8, 40], "segment_ids": [8, 40], "input_mask": [8, 40],
                      "index": [8], "label_ids": [8]}
