"""Files of masked texts: checked record by record, and read in an order that can be taken up."""
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY
from masked import LENGTH, PREDICTIONS, instances, write_records

from adapter_bert.data import batches, masked_batches, masked_files
from adapter_bert.data.masked_files import Form, MaskedFiles
from adapter_bert.errors import InputError

FORM = Form(LENGTH, PREDICTIONS, TINY.vocab_size, TINY.type_vocab_size)


def read(dataset, count):
    """The first elements of a dataset."""
    following = tf.data.make_one_shot_iterator(dataset).get_next()
    with tf.Session() as session:
        return [session.run(following) for _ in range(count)]


def opened(tmp_path, pattern, **options):
    return masked_files.open_files("input_file", str(tmp_path / pattern), FORM,
                                   str(tmp_path / "known.json"), **options)


@pytest.fixture(name="found")
def fixture_found(tmp_path, monkeypatch):
    """Three files of 50, 7 and 30 records; the weight of the first word tells a record."""
    monkeypatch.setattr(masked_files, "RECORDS_AT_ONCE", 8)
    rows = instances(87)
    for number, row in enumerate(rows):
        row["masked_lm_weights"][0] = number + 1
    for name, (start, stop) in {"a": (0, 50), "b": (50, 57), "c": (57, 87)}.items():
        write_records(tmp_path / f"{name}.tfrecord", rows[start:stop])
    return opened(tmp_path, "*.tfrecord")


def numbers(batch):
    return (batch["masked_lm_weights"][:, 0] - 1).astype(int).tolist()


def test_files_are_found_and_counted(found, tmp_path):
    assert [os.path.basename(path) for path in found.paths] == [
        "a.tfrecord", "b.tfrecord", "c.tfrecord"]
    assert found.counts == (50, 7, 30) and found.examples == 87
    assert [len(offsets) for offsets in found.offsets] == [7, 1, 4]
    assert opened(tmp_path, "*.tfrecord", most=60).examples == 60
    some = masked_files.open_files("input_file", f"{found.paths[2]}, {tmp_path}/[a]*", FORM,
                                   str(tmp_path / "known.json"))
    assert some.counts == (50, 30) and some.fingerprint != found.fingerprint


def test_files_are_read_once_until_they_change(found, tmp_path, monkeypatch):
    read_paths, real = [], masked_files.survey

    def survey(path, form):
        read_paths.append(os.path.basename(path))
        return real(path, form)
    monkeypatch.setattr(masked_files, "survey", survey)
    assert opened(tmp_path, "*.tfrecord") == found and read_paths == []
    write_records(tmp_path / "b.tfrecord", instances(9, seed=1))
    changed = opened(tmp_path, "*.tfrecord")
    assert read_paths == ["b.tfrecord"] and changed.counts == (50, 9, 30)
    assert changed.fingerprint != found.fingerprint
    shutil.move(tmp_path, tmp_path.with_name("moved"))
    assert opened(tmp_path.with_name("moved"), "*.tfrecord").fingerprint == changed.fingerprint


@pytest.mark.parametrize("counts", [(1,), (5, 1, 2), (3, 30, 17, 1)])
def test_an_epoch_is_every_record_once_and_any_place_is_found(monkeypatch, counts):
    def numbered(found, number, first, count):
        del found
        return tf.data.Dataset.range(first, first + count).map(
            lambda place: tf.strings.join([tf.as_string(number), tf.as_string(place)], ":"))
    monkeypatch.setattr(masked_batches, "read", numbered)
    total = sum(counts)
    found = MaskedFiles(tuple(map(str, range(len(counts)))), counts, (), total, "")
    every = sorted(f"{file}:{place}".encode() for file, count in enumerate(counts)
                   for place in range(count))
    whole = read(masked_batches.stream(found, 0, seed=5), 3 * total)
    assert all(sorted(whole[start:start + total]) == every for start in (0, total, 2 * total))
    for skip in (total // 2, total + total // 3):
        assert read(masked_batches.stream(found, skip, seed=5), total) == whole[skip:skip + total]


def test_the_order_is_another_each_epoch_and_seed(found):
    whole = read(masked_batches.stream(found, 0, seed=5), 174)
    assert set(whole[:87]) == set(whole[87:]) and whole[:87] != whole[87:]
    assert read(masked_batches.stream(found, 0, seed=6), 87) != whole[:87]
    assert read(masked_batches.stream(found, 100, seed=5), 74) == whole[100:]


def test_records_come_from_all_files_side_by_side(found):
    """A file is not read to its end before the next one begins."""
    rows = masked_batches.parsed(masked_batches.stream(found, 0, seed=1), FORM)
    first = [row["masked_lm_weights"][0] - 1 for row in read(rows, 32)]
    assert min(first) < 50 and max(first) >= 57


@pytest.mark.parametrize("fixed", [False, True])
def test_batches_hold_every_record_and_can_be_skipped_into(found, monkeypatch, fixed):
    monkeypatch.setattr(batches, "BATCHES_A_WINDOW", 4)   # an epoch of ten batches has windows

    def some(skip, count, seed=2):
        return list(map(numbers, read(masked_batches.training_batches(
            found, FORM, 8, seed, skip=skip, fixed=fixed), count)))
    whole = some(0, 30)
    assert len(set(sum(whole[:9], []))) == 72   # three windows of three batches; one more is begun
    assert all(some(skip, 6) == whole[skip:skip + 6] for skip in (4, 24))
    assert some(0, 10, seed=3) != whole[:10]


def test_readers_share_the_records(found):
    parts = [sum(map(numbers, read(masked_batches.training_batches(
        found, FORM, 8, 0, fixed=True, shard=(host, 2)), 5)), []) for host in range(2)]
    assert not set(parts[0]) & set(parts[1])


def test_padding_is_cut_off(found):
    made = read(masked_batches.training_batches(found, FORM, 8, 0), 10)
    for batch in made:
        lengths = batch["input_mask"].sum(axis=1)
        most = (batch["masked_lm_weights"] > 0).sum(axis=1).max()
        assert batch["input_ids"].shape == (8, lengths.max())
        assert batch["masked_lm_ids"].shape == (8, most)
        assert batch["masked_lm_ids"].dtype == batch["masked_lm_positions"].dtype == np.int32
        assert batch["next_sentence_labels"].shape == (8,)
    assert len({batch["input_ids"].shape for batch in made}) > 1


def test_fixed_batches_have_static_shapes(found):
    shapes = tf.data.get_output_shapes(masked_batches.training_batches(
        found, FORM, 8, 0, fixed=True))
    assert {name: shape.as_list() for name, shape in shapes.items()} == {
        **dict.fromkeys(("input_ids", "segment_ids", "input_mask"), [8, LENGTH]),
        **dict.fromkeys(masked_files.PREDICTIONS, [8, PREDICTIONS]), "next_sentence_labels": [8]}


@pytest.mark.filterwarnings("ignore:To make it possible to preserve tf.data options")
@pytest.mark.parametrize("fixed,count", [(False, 87), (True, 88)])
def test_evaluation_sees_every_record_once(found, fixed, count):
    batches = masked_batches.evaluation_batches(found, FORM, 8, fixed)
    assert batches.options().autotune.enabled is False
    made = read(batches, 11)
    indices = np.concatenate([batch["index"] for batch in made])
    assert len(indices) == count and sorted(indices[indices >= 0]) == list(range(87))
    assert all(index < 0 or index == number for batch in made
               for index, number in zip(batch["index"], numbers(batch), strict=True))


def spoiled(place, **columns):
    """Twenty instances, one of them with other columns."""
    rows = instances(20)
    rows[place] = {**rows[place], **columns}
    return rows


def fixed(*values):
    return np.array([*values] + [0] * (PREDICTIONS - len(values)))


@pytest.mark.parametrize("rows,message", [
    (instances(3, length=24), "record 0: input_ids has 24 values, not 16; give the --max_seq_len"),
    (instances(3, predictions=5),
     "record 0: masked_lm_positions has 5 values, not 4; give the --max_predictions_per_seq"),
    (spoiled(7, segment_ids=np.zeros(15, int)), "record 7: segment_ids has 15 values"),
    (spoiled(7, input_ids=np.full(LENGTH, 40)), "record 7: input_ids not from 0 to 39"),
    (spoiled(2, masked_lm_ids=fixed(40)), "record 2: masked_lm_ids not from 0 to 39.*this base"),
    (spoiled(2, masked_lm_ids=fixed(-1)), "record 2: masked_lm_ids not from 0 to 39"),
    (spoiled(4, segment_ids=np.full(LENGTH, 2)), "record 4: segment_ids not from 0 to 1"),
    (spoiled(4, next_sentence_labels=np.array([2])), "record 4: next_sentence_labels not from 0"),
    (spoiled(4, next_sentence_labels=np.zeros(2, int)), "next_sentence_labels has 2 values, not 1"),
    (spoiled(4, masked_lm_positions=fixed(LENGTH), masked_lm_weights=fixed(1.0)),
     "record 4: masked_lm_positions where no token is"),
    (spoiled(4, input_mask=np.arange(LENGTH) % 2), "record 4: input_mask not ones, then zeros"),
    (spoiled(4, input_mask=np.zeros(LENGTH, int)), "record 4: no tokens"),
    (spoiled(4, masked_lm_weights=np.full(PREDICTIONS, np.nan)), "masked_lm_weights not numbers"),
    (spoiled(4, masked_lm_weights=np.zeros(PREDICTIONS, int)), "first 0 records.*masked_lm_weight"),
    ([], "holds no record")])
def test_records_that_do_not_fit_are_refused_by_number(tmp_path, rows, message):
    write_records(tmp_path / "a.tfrecord", instances(3))
    write_records(tmp_path / "b.tfrecord", rows)
    with pytest.raises(InputError, match=f"b.tfrecord.*{message}"):
        opened(tmp_path, "*.tfrecord")


@pytest.mark.parametrize("spoil,message", [
    (lambda content: content[:-3], "first 0 records"),
    (lambda content: content[:500] + b"\0" + content[501:], "first 0 records"),
    (lambda content: b"no records at all", "first 0 records")])
def test_a_damaged_file_is_named(tmp_path, spoil, message):
    path = tmp_path / "a.tfrecord"
    write_records(path, instances(20))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=f"a.tfrecord: damaged.*{message}"):
        opened(tmp_path, "*.tfrecord")


def test_patterns(tmp_path):
    path = write_records(tmp_path / "a[1].tfrecord", instances(3))
    (tmp_path / "a[1].tfrecord.json").write_text("{}")   # what says how the file was made
    assert masked_files.find("input_file", path) == [path]
    assert masked_files.find("input_file", f"{tmp_path}/a*, {path}") == [path]
    with pytest.raises(InputError, match="--input_file=.*nothing.*: no file is there"):
        masked_files.find("input_file", f"{path},{tmp_path}/nothing*")
    with pytest.raises(InputError, match="no file is there"):
        masked_files.find("input_file", str(tmp_path))
    with pytest.raises(InputError, match="knows no such file system"):
        masked_files.find("input_file", "s3://bucket/x*")
    with pytest.raises(InputError, match="--input_file= ,: names no file"):
        masked_files.find("input_file", " ,")
