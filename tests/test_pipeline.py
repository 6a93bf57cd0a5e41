"""Featurizing, TFRecord files and batches."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from adapter_bert.data import batches, example_codec, features, records, truncation
from adapter_bert.files import write_json
from adapter_bert.kinds import Example

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
            kept = truncation.truncate_pairs(np.array([a]), np.array([b]), np.array([limit]))
            wanted = slow_truncate(range(a), range(100, 100 + b), limit)
            assert [side[0] for side in kept] == list(map(len, wanted))


def ragged(lists):
    """Lists of ids as what `encode_ragged` gives."""
    return (np.array([index for some in lists for index in some], np.int32),
            np.array(list(map(len, lists)), np.int64))


def split(rows, name):
    """A column of Rows as a list for each row."""
    return [part.tolist() for part in np.split(rows.columns[name], np.cumsum(rows.lengths)[:-1])]


def test_join_by_hand():
    firsts = [[7, 8], [7, 8, 9], [], [], list(range(500))]
    seconds = [None, [5, 6], None, [], None]
    rows = features.join(ragged(firsts), ragged([ids or [] for ids in seconds]),
                         np.array([ids is not None for ids in seconds]), 1, 2, 7)
    assert split(rows, "input_ids") == [
        [1, 7, 8, 2], [1, 7, 8, 2, 5, 6, 2], [1, 2], [1, 2, 2], [1, 0, 1, 2, 3, 4, 2]]
    assert split(rows, "segment_ids") == [
        [0] * 4, [0, 0, 0, 0, 1, 1, 1], [0, 0], [0, 0, 1], [0] * 7]
    alone = features.join(ragged(firsts[:1]), ragged([]), np.array([False]), 1, 2, 7)
    assert split(alone, "input_ids") == [[1, 7, 8, 2]]


class Words:
    """A tokenizer of words whose id is their length."""

    def convert_tokens_to_ids(self, tokens):
        return [101 if token == "[CLS]" else 102 for token in tokens]

    def encode_ragged(self, texts):
        return ragged([[len(word) for word in text.split()] for text in texts])


def test_featurize_keeps_order_over_chunks(monkeypatch):
    monkeypatch.setattr(features, "TEXTS_AT_ONCE", 2)
    examples = [Example("a bb", None, "x"), Example("ccc", "d", "y"), Example("", "", "x")]
    rows = list(features.featurize(examples, Words(), 16, {"x": 0, "y": 1}))
    assert [ids for some in rows for ids in split(some, "input_ids")] == [
        [101, 1, 2, 102], [101, 3, 102, 1, 102], [101, 102, 102]]
    assert [some.columns["index"].tolist() for some in rows] == [[0, 1], [2]]
    assert [some.columns["label_ids"].tolist() for some in rows] == [[0, 1], [0]]
    unlabelled = features.featurize([Example("a", None, None)], Words(), 16, {})
    assert "label_ids" not in next(unlabelled).columns


def test_long_texts_come_in_smaller_lists(monkeypatch):
    monkeypatch.setattr(features, "CHARACTERS_AT_ONCE", 10)
    examples = [Example("a" * length, None, None) for length in (3, 3, 3, 50, 1, 2, 8)]
    chunks = list(features.chunks(examples, features.characters))
    assert sum(chunks, []) == examples and [len(chunk) for chunk in chunks] == [3, 1, 1, 2]


def make_rows(count, longest, seed=0):
    """A list of Rows, each of one row."""
    lengths = np.random.default_rng(seed).integers(2, longest + 1, count)
    return [make_row([101] + [5] * int(length - 2) + [102], [0] * int(length), index, index % 3)
            for index, length in enumerate(lengths)]


def make_row(input_ids, segment_ids, index, label):
    return example_codec.Rows(np.array([len(input_ids)]), {
        "input_ids": np.array(input_ids), "segment_ids": np.array(segment_ids),
        "index": np.array([index]), "label_ids": np.array([label])})


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
    serialized = example_codec.serialize(spec, make_row(*row.values()))
    with tf.Session() as session:
        parsed = session.run(features.parse(spec, tf.constant(serialized[0])))
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


def test_a_process_that_fails_leaves_nothing(tmp_path, monkeypatch):
    rows = make_rows(40, 9)
    monkeypatch.setattr(records, "ROWS_A_PROCESS", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(2))
    rows[10] = example_codec.Rows(np.array([1]), {})
    with pytest.raises(KeyError, match="input_ids"):
        write_once(str(tmp_path / "x"), rows, "a")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("value", [0, 127, 128, 16_384, 2**21, 2**63 - 1])
def test_serialized_columns_of_one_length_are_the_protocol_buffers_own(value):
    """Next to each other, before and after one of another kind; rows of 0s among them."""
    spec = tuple(example_codec.Feature(name, kind, False, length) for name, kind, length in (
        ("mask", np.int64, 2), ("ids", np.int64, 3), ("weights", np.float32, 2),
        ("next", np.int64, 1)))
    rows = example_codec.Rows(np.array([9, 9]), {
        "mask": np.array([[True, False], [False, False]]), "next": np.array([True, False]),
        "ids": np.array([[1, value, 128], [0, 0, 0]]),
        "weights": np.array([[0.5, 1.0], [0.0, -2.0]])})
    for place, record in enumerate(example_codec.serialize(spec, rows)):
        wanted = tf.train.Example(features=tf.train.Features(feature={
            feature.name: tf.train.Feature(float_list=tf.train.FloatList(
                value=np.ravel(rows.columns[feature.name][place])))
            if feature.dtype == np.float32 else tf.train.Feature(int64_list=tf.train.Int64List(
                value=np.ravel(rows.columns[feature.name][place]).astype(int)))
            for feature in spec}))
        found = tf.train.Example.FromString(record)
        assert found == wanted and len(record) == len(wanted.SerializeToString())
        with tf.Session() as session:
            parsed = session.run(features.parse(spec, tf.constant(record)))
        assert {name: value.shape for name, value in parsed.items()} == {
            "mask": (2,), "ids": (3,), "weights": (2,), "next": (1,)}


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16_383, 16_384, 2**31, 2**63 - 1])
def test_serialized_records_are_the_protocol_buffers_own(value):
    spec = features.feature_spec("regression", labelled=True)
    ids = [[101, value, 0, 30521], [], [value]]
    rows = example_codec.Rows(np.array([4, 0, 1]), {
        "input_ids": np.array(sum(ids, [])), "segment_ids": np.array([0, 1, 0, 1, 1]),
        "index": np.array([value, 1, 2]), "label_ids": np.array([-1.5, 2.0, 1e9])})
    segments = [[0, 1, 0, 1], [], [1]]
    for place, record in enumerate(example_codec.serialize(spec, rows)):
        example = tf.train.Example.FromString(record).features.feature
        found = {name: list((feature.int64_list if feature.HasField("int64_list")
                             else feature.float_list).value) for name, feature in example.items()}
        assert found == {
            "input_ids": ids[place], "segment_ids": segments[place],
            "index": [rows.columns["index"][place]],
            "label_ids": [rows.columns["label_ids"][place]]}


def test_serialized_single_values_are_the_protocol_buffers_own():
    """Nothing but small numbers, one a row, of several rows."""
    spec = tuple(example_codec.Feature(name, np.int64, False) for name in ("index", "place"))
    rows = example_codec.Rows(np.array([3, 3, 3]), {
        "index": np.arange(3), "place": np.array([5, 127, 0])})
    found = [tf.train.Example.FromString(record).features.feature
             for record in example_codec.serialize(spec, rows)]
    assert [[row[name].int64_list.value[0] for name in ("index", "place")] for row in found] == [
        [0, 5], [1, 127], [2, 0]]


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
                assert ids[:mask.sum()].tolist() == rows[place].columns["input_ids"].tolist()
                assert not ids[mask.sum():].any() and not mask[mask.sum():].any()


def test_grouping_pads_to_the_batch_and_wastes_little(record_file):
    path, rows = record_file
    found = read(batches.training_batches(path, SPEC, 203, 8, 40, seed=0), 50)
    shapes = {batch["input_ids"].shape for batch in found}
    assert all(rows == 8 for rows, _ in shapes) and len(shapes) > 3
    for batch in found:
        assert batch["input_ids"].shape[1] == batch["input_mask"].sum(axis=1).max()
    tokens = sum(batch["input_mask"].sum() for batch in found)
    places = sum(batch["input_mask"].size for batch in found)
    fixed = sum(row.lengths[0] for row in rows) / (203 * 40)
    assert fixed < 0.7 and tokens / places > 0.9


@pytest.mark.filterwarnings("ignore:To make it possible to preserve tf.data options")
def test_no_thread_tunes_batches_at_whose_end_a_session_would_wait(record_file):
    path, _ = record_file
    grouped = batches.training_batches(path, SPEC, 203, 8, 40, seed=0)
    for made in (grouped, batches.training_batches(path, SPEC, 203, 8, 40, seed=0, fixed=True),
                 batches.batches_of_tokens(path, SPEC, 203, 10, 200, 0),
                 batches.evaluation_batches(path, SPEC, 203, 8, 40),
                 batches.evaluation_batches(path, SPEC, 203, 8, 40, True),
                 batches.share(grouped, 0, 2)):
        assert made.options().autotune.enabled is False


def test_training_uses_every_example_about_equally(record_file):
    path, _ = record_file
    found = read(batches.training_batches(path, SPEC, 203, 8, 40, seed=0), 254)
    seen = np.bincount(np.concatenate([batch["index"] for batch in found]), minlength=203)
    assert seen.sum() == 254 * 8 and seen.min() >= 9 and seen.max() <= 11


def test_batches_of_tokens_have_about_as_many_and_lose_nothing(record_file):
    path, rows = record_file
    arguments = (path, SPEC, 203, 10, 200, 0)
    found = read(batches.batches_of_tokens(*arguments), 120)
    assert {len(batch["index"]) for batch in found} > {5, 6, 10, 16}
    for batch in found:
        tokens = batch["input_ids"].shape[1]
        assert tokens == batch["input_mask"].sum(axis=1).max()
        assert batch["input_mask"].sum() < 200 + tokens
        for place, ids, mask in zip(batch["index"], batch["input_ids"], batch["input_mask"],
                                    strict=True):
            assert ids[:mask.sum()].tolist() == rows[place].columns["input_ids"].tolist()
    seen = np.bincount(np.concatenate([batch["index"] for batch in found]), minlength=203)
    assert seen.min() >= 3 and seen.max() - seen.min() <= 2
    places = sum(batch["input_mask"].size for batch in found)
    assert sum(batch["input_mask"].sum() for batch in found) / places > 0.85
    later = read(batches.batches_of_tokens(*arguments, skip=70), 50)
    assert all(np.array_equal(one["index"], other["index"])
               for one, other in zip(found[70:], later, strict=True))


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


def test_cut_texts_are_counted():
    firsts = np.arange(9, dtype=np.int32), np.array([2, 3, 4])
    rows = features.join(firsts, (np.zeros(0, np.int32), np.zeros(3, np.int64)),
                         np.zeros(3, bool), 100, 101, 5)
    assert rows.cut == 1 and rows.lengths.tolist() == [4, 5, 5]
