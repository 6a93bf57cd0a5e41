"""Every row of the task table against a fixture; every bad input against its message."""
import csv
import os
import subprocess
import sys
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from adapter_bert import kinds
from adapter_bert.errors import InputError
from adapter_bert.kinds.metrics import METRICS
from adapter_bert.kinds.readers import part_of

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "fixtures", "glue")
GLUE = os.path.join(HERE, "..", "..", "shared", "data", "glue")

# Name, whether it takes pairs, the labels of each split's two rows. Texts are "train first 0", ...
TASKS = [
    ("CoLA", False, {"train": ("1", "0"), "dev": ("0", "1")}),
    ("SST-2", False, {"train": ("1", "0"), "dev": ("0", "1")}),
    ("MRPC", True, {"train": ("1", "0"), "dev": ("0", "1")}),
    ("STS-B", True, {"train": (5.0, 0.0), "dev": (2.5, 3.8)}),
    ("QQP", True, {"train": ("1", "0"), "dev": ("0", "1")}),
    ("MNLI", True, {"train": ("neutral", "contradiction"), "dev": ("entailment", "neutral"),
                    "dev_mm": ("contradiction", "entailment")}),
    ("QNLI", True, {"train": ("not_entailment", "entailment"),
                    "dev": ("entailment", "not_entailment")}),
    ("RTE", True, {"train": ("not_entailment", "entailment"),
                   "dev": ("entailment", "not_entailment")}),
    ("WNLI", True, {"train": ("1", "0"), "dev": ("0", "1")}),
    ("AX", True, {}),
]

# Number of rows of the copy beside the project; of GLUE's 3,668 MRPC train rows it has all but one.
REAL_ROWS = {
    "MRPC": (3667, 408, 1725),
    "CoLA": (8551, 1043, 1063),
    "SST-2": (67349, 872, 1821),
    "STS-B": (5749, 1500, 1379),
}


@pytest.mark.parametrize("name, pair, labels", TASKS, ids=[row[0] for row in TASKS])
def test_reads_the_fixture(name, pair, labels):
    task = kinds.get_task(name)
    for split in task.files:
        expected = [
            kinds.Example(f"{split} first {i}", f"{split} second {i}" if pair else None, label)
            for i, label in enumerate(labels.get(split, (None, None)))]
        assert kinds.read_examples(task, os.path.join(FIXTURES, name), split) == expected


def test_each_row_is_tested_and_scored():
    of_texts = {name: task for name, task in kinds.TASKS.items()
                if task.kind != "tokens" and not task.is_parted}
    assert [row[0] for row in TASKS] == list(of_texts)
    for task in of_texts.values():
        assert set(task.metrics) <= set(METRICS)


def test_sms_spam():
    """Ten messages; of the first, `ham\\tIt said "win"`, the quotes are text."""
    task, folder = kinds.get_task("SMS"), os.path.join(FIXTURES, "..", "SMS")
    read = {split: kinds.read_examples(task, folder, split) for split in task.files}
    assert {split: len(examples) for split, examples in read.items()} == {
        "train": 8, "dev": 1, "test": 1}
    everything = [one for examples in read.values() for one in examples]
    assert {one.text_a for one in everything} == {'It said "win"', *(
        f"message {number}" for number in range(1, 10))}
    assert {one.label for one in read["train"]} == {"ham", "spam"}
    assert read["test"][0].label is None
    assert read == {split: kinds.read_examples(task, folder, split) for split in task.files}


def test_20_newsgroups():
    task, folder = kinds.get_task("20news"), os.path.join(FIXTURES, "..", "20news")
    read = {split: kinds.read_examples(task, folder, split) for split in task.files}
    everything = [one for examples in read.values() for one in examples]
    assert len(everything) == 6 and {one.label for one in everything} == {
        "rec.autos", "sci.space", None}
    first = next(one.text_a for one in everything if "Subject: caf\xe9" in one.text_a)
    assert first == "From: a@b.c\nSubject: caf\xe9\n\nNewsgroups: in the text stay.\n"
    assert not any("Path: " in one.text_a for one in everything)
    assert kinds.with_labels(task, read["train"]).labels == ("rec.autos", "sci.space")


@pytest.mark.parametrize("count, parts", [(5574, (4459, 557, 558)), (18846, (15076, 1885, 1885))])
def test_parts_are_as_large_as_the_papers(count, parts):
    examples = [kinds.Example(str(number), None, "a") for number in range(count)]
    found = [part_of(examples, split) for split in ("train", "dev", "test")]
    assert tuple(map(len, found)) == parts
    assert {one.text_a for part in found for one in part} == {one.text_a for one in examples}


def test_a_part_without_examples_is_refused(tmp_path):
    (tmp_path / "SMSSpamCollection").write_text("ham\tone\n")
    with pytest.raises(InputError, match="no rows for that part; SMS needs train examples"):
        kinds.read_examples(kinds.get_task("SMS"), tmp_path, "train")


@pytest.mark.parametrize("name", REAL_ROWS)
def test_reads_real_glue(name):
    folder = os.path.join(GLUE, name)
    if not os.path.isdir(folder):
        pytest.skip(f"no {name} in ../shared/data/glue beside the project")
    task = kinds.get_task(name)
    read = {split: kinds.read_examples(task, folder, split) for split in task.files}
    assert tuple(map(len, read.values())) == REAL_ROWS[name]
    assert all(example.text_a for examples in read.values() for example in examples)


@pytest.mark.parametrize("spelling, name", [
    ("sst-2", "SST-2"), ("sst2", "SST-2"), ("SST_2", "SST-2"), ("stsb", "STS-B"),
    ("sts-b", "STS-B"), ("cola", "CoLA"), ("Mnli", "MNLI")])
def test_spellings_of_a_name(spelling, name):
    assert kinds.get_task(spelling).name == name


def test_unknown_task_lists_the_known():
    with pytest.raises(InputError, match="unknown task 'squad'; known: CoLA, .*WNLI, AX"):
        kinds.get_task("squad")


def test_splits():
    assert kinds.splits(kinds.get_task("MNLI"), "dev") == [("dev", ""), ("dev_mm", "_mm")]
    assert kinds.splits(kinds.get_task("MRPC"), "test") == [("test", "")]
    assert kinds.splits(kinds.get_task("AX"), "dev") == []


def test_import_is_light():
    heavy = "{'tensorflow', 'numpy', 'scipy', 'sklearn'}"
    subprocess.run([sys.executable, "-c", "import sys, adapter_bert.kinds; "
                    f"assert not {heavy} & set(sys.modules)"],
                   check=True, cwd=os.path.dirname(HERE))


ODD_TEXTS = ["", ' "', '"quoted" and \'so\'', "a\u2028b", "a\x0bb\x0cc", "a\x85b", "a\x1cb", "a\rb",
             " spaces ", "\ufeffmark", "x" * 1_000_000]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_odd_text_stays_as_it_is(tmp_path, end):
    rows = [f"{text}\t1" for text in ODD_TEXTS]
    for tail in ("", end, 3 * end):
        write(tmp_path / "train.tsv", end.join(["sentence\tlabel", *rows]) + tail)
        read = kinds.read_examples(kinds.get_task("SST-2"), tmp_path, "train")
        assert read == [kinds.Example(text, None, "1") for text in ODD_TEXTS]


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.lists(st.text(
    CHARACTERS.filter(lambda character: character not in "\t\n")).filter(str.strip), min_size=1))
def test_tsv_round_trip(texts):
    task = kinds.generic_task(1, None, 0, header=False)
    with tempfile.TemporaryDirectory() as folder:
        write(os.path.join(folder, "dev.tsv"), "".join(f"x\t{text}\tz\n" for text in texts))
        read = kinds.read_examples(task, folder, "dev")
    assert read == [kinds.Example(text, None, "x") for text in texts]


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.lists(st.tuples(st.text(CHARACTERS), st.text(CHARACTERS)), min_size=1))
def test_csv_round_trip(pairs):
    task = kinds.generic_task("one", "two", "score", kind="regression")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "test.csv")
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("one", "two"), *pairs])
        read = kinds.read_examples(task, folder, "test")
    assert read == [kinds.Example(*pair, None) for pair in pairs]


def test_generic_task_by_name(tmp_path):
    write(tmp_path / "train.csv", 'id,label,text\n7,10,"a, ""b"""\n8,9,c\n\n,,\n9,-1,d\n')
    write(tmp_path / "test.csv", "text\nonly\n\n\"\"\nlast\n\n")
    task = kinds.generic_task("text", "", "label")
    examples = kinds.read_examples(task, tmp_path, "train")
    assert task.labels is None and task.kind == "classification"
    assert examples == [("a, \"b\"", None, "10"), ("c", None, "9"), ("d", None, "-1")]
    assert kinds.with_labels(task, examples).labels == ("-1", "9", "10")
    assert [example.text_a for example in kinds.read_examples(task, tmp_path, "test")] == [
        "only", "", "last"]


def test_a_long_text_in_csv(tmp_path):
    text = "x" * 1_000_000
    write(tmp_path / "test.csv", f"text\n{text}\n")
    task = kinds.generic_task("text", None, "label")
    assert kinds.read_examples(task, tmp_path, "test") == [(text, None, None)]


def test_generic_task_by_number(tmp_path):
    write(tmp_path / "dev.tsv", "left\tright\t-1.5e0\na\t\t2\n")
    task = kinds.generic_task("0", 1, "-1", header=False, kind="regression")
    assert kinds.read_examples(task, tmp_path, "dev") == [("left", "right", -1.5), ("a", "", 2.0)]
    assert kinds.with_labels(task, []) is task


def test_a_name_that_is_a_number_is_a_name(tmp_path):
    write(tmp_path / "train.tsv", "1\t0\nzero\tone\n")
    task = kinds.generic_task("0", None, "1")
    assert kinds.read_examples(task, tmp_path, "train") == [("one", None, "zero")]


def test_labels_sort_by_name_unless_all_are_integers():
    task = kinds.generic_task(0, None, 1)
    examples = [kinds.Example("", None, label) for label in ("10", "b", "9", "b")]
    assert kinds.with_labels(task, examples).labels == ("10", "9", "b")


def test_labels_of_train_bind_dev(tmp_path):
    write(tmp_path / "dev.tsv", "a\tgood\nb\tbda\n")
    task = kinds.generic_task(0, None, 1, header=False)
    task = kinds.with_labels(task, [kinds.Example("", None, x) for x in ("good", "bad")])
    check_refusal(task, tmp_path, "dev", "dev.tsv, line 2: found label 'bda', "
                  "expected 'bad' or 'good'")


@pytest.mark.parametrize("labels, message", [
    ([], "have no label, and"), (["a", "a"], "have only the label 'a', and a classifier needs")])
def test_too_few_labels(labels, message):
    examples = [kinds.Example("", None, label) for label in labels]
    with pytest.raises(InputError, match=message):
        kinds.with_labels(kinds.generic_task(0, None, 1), examples)


def test_generic_task_refuses():
    with pytest.raises(InputError, match="classes, number or tokens, not 'ranking'"):
        kinds.generic_task(0, None, 1, kind="ranking")
    with pytest.raises(InputError, match="column 'text': files without a header have no names"):
        kinds.generic_task("text", None, 1, header=False)


# Bad files: name of the task, content of train, what the message says.

HEADER = b"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
MRPC = HEADER + b"1\t1\t2\ta\tb\n"
STSB = b"0\t1\t2\t3\t4\t5\t6\tsentence1\tsentence2\tscore\n"
MNLI = b"sentence1\tsentence2\t" + b"".join(b"%d\t" % i for i in range(9)) + b"gold_label\n"

BAD_FILES = {
    "empty": ("MRPC", b"", "train.tsv: the file is empty"),
    "blank": ("MRPC", b"\n\r\n", "train.tsv: the file is empty"),
    "header only": ("MRPC", HEADER, "train.tsv: no rows below the header"),
    "narrow header": ("MRPC", b"Quality\ta\tb\tc\n",
                      "line 1: found 'Quality', 'a', 'b', 'c'; the train file of MRPC has a header "
                      "with the columns '#1 String', '#2 String', 'Quality'"),
    "too few": ("MRPC", MRPC + b"1\t3\t4\tc\n", "line 3: 4 columns, expected 5 as in line 1"),
    "too many": ("MRPC", MRPC + b"1\t3\t4\tc\td\te\n", "line 3: 6 columns, expected 5"),
    "blank between": ("MRPC", MRPC + b"\n1\t3\t4\tc\n", "line 4: 4 columns, expected 5"),
    "no header": ("CoLA", b"a\t1\n", "line 1: found 'a', '1'; the train file of CoLA has"),
    "label": ("MRPC", MRPC + b"2\t3\t4\tc\td\n", "line 3: found label '2', expected '0' or '1'"),
    "long label": ("MRPC", MRPC + b"x" * 10**6 + b"\t3\t4\tc\td\n", "line 3: found label 'xxx"),
    "no gold label": ("MNLI", MNLI + 11 * b"x\t" + b"-\n", "line 2: found label '-', expected "
                      "'contradiction' or 'entailment' or 'neutral'"),
    "no score": ("STS-B", STSB + 9 * b"x\t" + b"\n", "line 2: column 'score' (the label) is empty"),
    "latin-1": ("MRPC", MRPC + b"1\t3\t4\tcaf\xe9\td\n", "line 3: found byte 0xe9 at position 9"),
    "utf-16": ("MRPC", MRPC.decode().encode("utf-16"), "train.tsv is UTF-16, expected UTF-8"),
    "surrogate": ("MRPC", MRPC + b"1\t3\t4\t\xed\xa0\x80\td\n", "line 3: found byte 0xed"),
    "cut off": ("MRPC", MRPC + b"1\t3\t4\tc\t\xe2\x80", "line 3: found byte 0xe2"),
    "NUL": ("MRPC", MRPC + b"1\t3\t4\tc\0\td\n", "line 3: found a NUL character"),
    **{f"score {cell!r}": ("STS-B", STSB + 9 * b"x\t" + cell + b"\n", "line 2: found score "
                           f"'{cell.decode()}', expected a number from 0 to 5")
       for cell in (b"five", b"nan", b"inf", b"1e999", b"5.001", b"-0.1", b"0_1", b"3,5")},
}


@pytest.mark.parametrize("name, content, message", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(tmp_path, name, content, message):
    (tmp_path / "train.tsv").write_bytes(content)
    check_refusal(kinds.get_task(name), tmp_path, "train", "train.tsv", message)


# Files for generic_task(*columns, **options) that are refused: {file: content}, then the message.

BAD_GENERIC_FILES = {
    "unknown name": (("txt", None, "label"), {"train.tsv": "text\tlabel\n"},
                     "line 1: no column is named 'txt'; did you mean 'text'? The columns are "
                     "'text', 'label'"),
    "name twice": (("text", None, "label"), {"train.tsv": "text\ttext\tlabel\n"},
                   "line 1: 2 columns are named 'text'; give the column's number"),
    "column twice": (("text", None, "0"), {"train.tsv": "text\tlabel\n"},
                     "to be read in the columns [0, 0]"),
    "number too high": ((0, None, 2), {"train.tsv": "text\tlabel\n"},
                        "line 1: no column 2; the file has 2 columns: 'text', 'label'"),
    "number too low": ((-3, None, 1), {"train.tsv": "text\tlabel\n"},
                       "line 1: no column -3; the file has 2 columns"),
    "empty label": ((0, None, 1), {"train.tsv": "text\tlabel\na\tx\nb\t\n"},
                    "line 3: column 'label' (the label) is empty; fix or delete it, or pass "
                    "--bad_rows=skip"),
    "label of two lines": ((0, None, 1), {"train.csv": 'text,label\n"a\nb","x\ny"\n'},
                           "line 2: found label 'x\\ny', expected a name without"),
    "row of two lines": ((0, None, 1), {"train.csv": 'text,label\n"a\nb",x\nc\n'},
                         "line 4: 1 column, expected 2"),
    "open quote": ((0, None, 1), {"train.csv": 'text,label\na,x\n"b,x\nc,y\n'},
                   "line 3: the row that begins here is not CSV (unexpected end of data)"),
    "single quote inside": ((0, None, 1), {"train.csv": 'text,label\n"a "b" c",x\n'},
                            "line 2: the row that begins here is not CSV"),
    "bare carriage return": ((0, None, 1), {"train.csv": "text,label\na\rb,x\n"},
                             "line 2: 1 column, expected 2"),
    "two files": ((0, None, 1), {"train.csv": "a", "train.tsv": "a"},
                  "contains train.tsv and train.csv; leave only one"),
    "no file": ((0, None, 1), {"dev.tsv": "a"}, "train.tsv or train.csv or train.jsonl or "
                "train.json or train.parquet: no such"),
}


@pytest.mark.parametrize(
    "columns, files, message", BAD_GENERIC_FILES.values(), ids=BAD_GENERIC_FILES)
def test_bad_generic_file(tmp_path, columns, files, message):
    for name, content in files.items():
        write(tmp_path / name, content)
    check_refusal(kinds.generic_task(*columns), tmp_path, "train", str(tmp_path), message)


def test_no_file(tmp_path):
    check_refusal(kinds.get_task("MRPC"), tmp_path, "dev", "dev.tsv: no such file; the dev exa")
    (tmp_path / "dev.tsv").mkdir()
    check_refusal(kinds.get_task("MRPC"), tmp_path, "dev", "dev.tsv: cannot be read (Is a direct")
    check_refusal(kinds.get_task("AX"), tmp_path, "train", "AX has no split 'train'; it has test")


def test_test_rows_may_be_longer_but_not_shorter(tmp_path):
    task = kinds.get_task("SST-2")
    write(tmp_path / "test.tsv", "index\tsentence\n0\ta\tmore\n1\n")
    check_refusal(task, tmp_path, "test", "line 3: 1 column, expected 2 or more")
    write(tmp_path / "test.tsv", "index\tsentence\n0\ta\tmore\n")
    assert kinds.read_examples(task, tmp_path, "test") == [("a", None, None)]


@pytest.mark.parametrize("name, split, predictions, file, written", [
    ("CoLA", "test", np.array([1, 0]), "CoLA.tsv", ["1", "0"]),
    ("STS-B", "test", np.float32([-0.1, 2.71828, 5.2]), "STS-B.tsv", ["0.000", "2.718", "5.000"]),
    ("MNLI", "test", [0, 2], "MNLI-m.tsv", ["contradiction", "neutral"]),
    ("MNLI", "test_mm", [1, 1], "MNLI-mm.tsv", ["entailment", "entailment"]),
    ("RTE", "test", [1, 0], "RTE.tsv", ["not_entailment", "entailment"]),
    ("AX", "test", [2, 1], "AX.tsv", ["neutral", "entailment"]),
])
def test_submission(tmp_path, name, split, predictions, file, written):
    folder = tmp_path / "made"
    path = kinds.write_submission(kinds.get_task(name), split, predictions, folder)
    assert path == os.path.join(folder, file) and os.listdir(folder) == [file]
    rows = "".join(f"{index}\t{cell}\n" for index, cell in enumerate(written))
    assert read(path) == "index\tprediction\n" + rows


def test_names_of_the_submission_files():
    names = {task.submissions.get(split, f"{task.name}.tsv")
             for task in kinds.TASKS.values() for split, _ in kinds.splits(task, "test")}
    assert names >= {"CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv",
                     "MNLI-mm.tsv", "QNLI.tsv", "RTE.tsv", "WNLI.tsv", "AX.tsv"}


def test_predictions_of_a_generic_task(tmp_path):
    task = kinds.generic_task(0, None, 1, kind="regression")
    path = kinds.write_submission(task, "test", [-1234.5, 1e-5], tmp_path)
    assert path == os.path.join(tmp_path, "predictions.tsv")
    assert read(path) == "index\tprediction\n0\t-1234.5\n1\t1e-05\n"


def write(path, text):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def check_refusal(task, folder, split, *parts):
    with pytest.raises(InputError) as refusal:
        kinds.read_examples(task, folder, split)
    message = str(refusal.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message and len(message) < 400 + len(str(folder))


def test_qqp_was_published_with_broken_rows(tmp_path):
    rows = ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\ta\tb\t1",
            "1\t3\t4\tc", "2\t5\t6\td\te\t0"]
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    examples = kinds.read_examples(kinds.get_task("QQP"), str(tmp_path), "train")
    assert [example.label for example in examples] == ["1", "0"]
