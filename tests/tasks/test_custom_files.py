"""Files of the user's own: recognised columns, labels, bad rows, tests with labels."""
import random

import pytest

from adapter_bert import kinds
from adapter_bert.errors import InputError
from adapter_bert.kinds.custom_task import labels_line
from adapter_bert.train.named_task import text_task
from adapter_bert.train.settings import Settings, check


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return str(folder)


def read(folder, split, labels=None, bad_rows="refuse", columns=("text", None, "label"), **options):
    task = kinds.generic_task(*columns, **options)
    if labels:
        task = kinds.with_labels(task, [kinds.Example("", None, label) for label in labels])
    return kinds.read_examples(task, str(folder), split, bad_rows)


def task_of(**flags):
    settings = Settings(**{"task_name": "custom", "output_dir": "x", "do_train": True, **flags})
    check(settings)
    return text_task(settings)


def test_labels_that_look_the_same_are_the_same(tmp_path):
    write(tmp_path, train="text,label\na,good\nb,good \nc, good\nd,caf\u00e9\ne,cafe\u0301\n"
                          "f,so  so\ng,so so\n")
    assert [one.label for one in read(tmp_path, "train")] == [
        "good", "good", "good", "caf\u00e9", "caf\u00e9", "so so", "so so"]
    write(tmp_path, dev="text,label\nc,cafe\u0301\n")
    assert read(tmp_path, "dev", ["caf\u00e9", "tea"])[0].label == "caf\u00e9"
    # The labels of an older run may not be normalised.
    assert read(tmp_path, "dev", ["cafe\u0301", "tea"])[0].label == "cafe\u0301"


def test_a_label_that_train_lacks_is_a_bad_row(tmp_path):
    write(tmp_path, dev="text,label\na,x\nb,z\nc,y\n")
    with pytest.raises(InputError, match="dev.csv, line 3: found label 'z', expected 'x' or 'y'; "
                                         "fix or delete it, or pass --bad_rows=skip"):
        read(tmp_path, "dev", ["x", "y"])
    assert [one.text_a for one in read(tmp_path, "dev", ["x", "y"], "skip")] == ["a", "c"]


def test_bad_rows_of_all_kinds_are_listed_together(tmp_path):
    write(tmp_path, train="text,label\na,x\nb\n ,x\nc,\n\nd,y\n")
    with pytest.raises(InputError) as refusal:
        read(tmp_path, "train")
    assert all(part in str(refusal.value) for part in (
        "3 bad rows: line 3: 1 column, expected 2", "line 4: column 'text' (the text) is empty",
        "line 5: column 'label' (the label) is empty. To continue"))
    assert read(tmp_path, "train", bad_rows="skip") == [("a", None, "x"), ("d", None, "y")]


@pytest.mark.parametrize("text, labels", [
    ("text,label\na,x\nb,y\n", ["x", "y"]), ("text\na\nb\n", [None, None]),
    ("text,label\na,\nb,\n", [None, None]), ("text,label\na,?\nb,?\n", [None, None]),
    ("label,text\n x ,a\ny,b\n", ["x", "y"])])
def test_a_test_file_with_and_without_labels(tmp_path, text, labels):
    write(tmp_path, test=text)
    assert read(tmp_path, "test", ["x", "y"]) == [("a", None, labels[0]), ("b", None, labels[1])]


def test_a_labelled_test_file_with_a_wrong_label_is_bad(tmp_path):
    write(tmp_path, test="text,label\na,x\nb,z\n")
    with pytest.raises(InputError, match="test.csv, line 3: found label 'z'"):
        read(tmp_path, "test", ["x", "y"])


@pytest.mark.parametrize("cell, message", [
    ("1e38", "expected a number of at most 1e\\+15 \\(larger ones overflow"),
    ("-1e16", "expected a number of at most"), ("two", "expected a number"),
    ("nan", "expected a number")])
def test_scores(tmp_path, cell, message):
    write(tmp_path, train=f"text,score\na,1\nb,{cell}\n")
    with pytest.raises(InputError, match=f"line 3: found score '{cell}', {message}"):
        read(tmp_path, "train", columns=("text", None, "score"), kind="regression")


def test_a_long_number_is_a_label():
    task = kinds.generic_task(0, None, 1)
    labels = ["7" * 5000, "10", "9"]
    found = kinds.with_labels(task, [kinds.Example("", None, label) for label in labels])
    assert found.labels == ("10", "7" * 5000, "9")


@pytest.mark.parametrize("header, columns", [
    ("id,Message,Intent", ("Message", None, "Intent")), ("label,text", ("text", None, "label")),
    ("premise,hypothesis,label", ("premise", "hypothesis", "label")),
    ("sentiment,review,date", ("review", None, "sentiment"))])
def test_obvious_columns_are_recognised(tmp_path, header, columns):
    folder = write(tmp_path, train=f"{header}\n")
    assert task_of(data_dir=folder).columns == columns
    assert task_of(data_file=f"{folder}/train.csv").columns == columns


def test_other_columns_are_listed(tmp_path):
    folder = write(tmp_path, train="a,b\n", test="text\n")
    with pytest.raises(InputError, match="the text with --text_column; the columns are 'a', 'b'"):
        task_of(data_dir=folder)
    with pytest.raises(InputError, match="of the label with --label_column; the columns are 'a'"):
        task_of(data_dir=folder, text_column="a")
    with pytest.raises(InputError, match="--noheader: name the columns by number"):
        task_of(data_dir=folder, header=False)
    (tmp_path / "train.csv").unlink()
    only = task_of(data_dir=folder, do_train=False, do_predict=True)
    assert only.columns == ("text", None, None)


def test_columns_by_number_are_followed_by_name(tmp_path):
    folder = write(tmp_path, train="label,text\nx,a\ny,b\n", test="text,label\nc,y\n",
                   dev="text,id\nc,1\n")
    task = task_of(data_dir=folder, text_column="1", label_column="0")
    task = kinds.with_labels(task, kinds.read_examples(task, folder, "train"))
    assert kinds.read_examples(task, folder, "test") == [("c", None, "y")]
    with pytest.raises(InputError, match="columns .0, 0., one of them twice"):
        kinds.read_examples(task, folder, "dev")


def test_a_row_is_no_header(tmp_path):
    folder = write(tmp_path, train="a,x\nb,y\nc,x\n")
    task = task_of(data_dir=folder, text_column="0", label_column="1")
    with pytest.raises(InputError, match="line 1: expected the names of the columns, found a row "
                                         "with the label 'x'.*--noheader"):
        kinds.read_examples(task, folder, "train")


@pytest.mark.parametrize("flags, message", [
    ({}, "--data_dir is missing; or name one file with --data_file"),
    ({"data_file": "a.csv", "data_dir": "b"}, "--data_dir and --data_file: name one of them"),
    ({"data_file": "a.csv", "dev_fraction": 0.6, "test_fraction": 0.4}, "leave nothing to train"),
    ({"data_file": "a.csv", "dev_fraction": -0.1}, "--dev_fraction=-0.1: must be at least 0"),
    ({"data_file": "a.csv", "bad_rows": "mend"}, "--bad_rows=mend: not one of refuse, skip"),
    ({"data_file": "a.csv", "task_name": "SST-2"}, "--data_file is for --task_name=custom"),
    ({"data_file": "none.csv"}, "none.csv: no such file")])
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(InputError, match=message):
        task_of(**flags)


def test_labels_are_counted_in_one_line():
    examples = [kinds.Example("", None, label) for label in ["Good", "good", "bad", "bad"]]
    task = kinds.with_labels(kinds.generic_task(0, None, 1), examples)
    assert labels_line(task, examples) == (
        "labels: Good 1, bad 2, good 1; 'Good' and 'good' differ in case only, is that meant?")
    source = random.Random(0)
    many = [kinds.Example("", None, f"l{source.randrange(40)}") for _ in range(400)]
    task = kinds.with_labels(kinds.generic_task(0, None, 1), many)
    assert labels_line(task, many).endswith("and 20 more labels")


def test_hidden_files_are_no_examples(tmp_path):
    for path in ("rec.autos/1", "sci.space/2", "sci.space/._2", ".git/objects/3", "rec.autos/.x/4",
                 "sci.space/.ipynb_checkpoints/2", "__MACOSX/sci.space/5"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("From: a\n\ntext\n")
    parts = kinds.read_parts(kinds.get_task("20news"), str(tmp_path))
    assert sorted(len(part) for part in parts.values()) == [0, 1, 1]
    labels = {one.label for part in parts.values() for one in part}
    assert labels <= {"rec.autos", "sci.space", None}
