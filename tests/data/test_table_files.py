"""Tables in all forms; every odd or broken file against what is read or reported."""
import json
import os

import pyarrow
import pyarrow.parquet
import pytest

from adapter_bert.data.bad_rows import BadRows
from adapter_bert.data.table_files import cell_text, open_table
from adapter_bert.errors import InputError

ROWS = [("fine, really", "good"), ("so \"so\"", "bad")]


def read(path, header=True, policy="refuse"):
    bad = BadRows(str(path), policy)
    table = open_table(str(path), bad, header)
    rows = [(number, list(cells)) for number, cells in table.rows(range(table.width))]
    bad.conclude(len(rows))
    return table.columns, rows


def write_parquet(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize("name, content", [
    ("a.tsv", 'text\tlabel\nfine, really\tgood\n\n  \nso "so"\tbad\n\t\n'),
    ("a.TSV", '\ufefftext\tlabel\r\nfine, really\tgood\r\nso "so"\tbad'),
    ("a.csv", 'text,label\n\n"fine, really",good\n,\n"so ""so""",bad\n'),
    ("a.csv", 'text,label\r"fine, really",good\r"so ""so""",bad\r'),
    ("a.tsv", 'text\tlabel\rfine, really\tgood\rso "so"\tbad'),
    ("a.csv", 'sep=;\ntext;label\nfine, really;good\n"so ""so""";bad\n'),
    ("a.csv", 'text;label\nfine, really;good\nso "so";bad\n'),
    ("a.csv", 'text\tlabel\nfine, really\tgood\nso "so"\tbad\n'),
    ("a.jsonl", '{"text": "fine, really", "label": "good"}\n\n'
                '{"label": "bad", "text": "so \\"so\\""}'),
    ("a.json", json.dumps([{"text": text, "label": label} for text, label in ROWS], indent=1)),
    ("a.json", "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS))])
def test_the_same_table_in_every_text_form(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode("utf-8"))
    columns, rows = read(tmp_path / name)
    assert sorted(columns) == ["label", "text"]
    places = [columns.index("text"), columns.index("label")]
    assert [tuple(cells[place] for place in places) for _, cells in rows] == ROWS


def test_parquet_reads_the_needed_columns_only(tmp_path):
    write_parquet(tmp_path / "a.parquet", text=["a", None], label=[1.0, 0.0], vector=[[1], [2]])
    bad = BadRows(str(tmp_path / "a.parquet"))
    table = open_table(bad.path, bad)
    assert list(table.rows([0, 1])) == [(1, ["a", "1", None]), (2, [None, "0", None])]
    assert bad.unit == "row" and not bad.count


def test_parquet_of_hugging_face_names_its_classes(tmp_path):
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
                "text": {"dtype": "string"}}
    table = pyarrow.table({"text": ["a"], "label": [1]}).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[1] == [(1, ["a", "pos"])]


@pytest.mark.parametrize("value, text", [
    ("a", "a"), (None, None), (float("nan"), None), (1, "1"), (1.0, "1"), (2.5, "2.5"),
    (True, "true")])
def test_cells(value, text):
    assert cell_text(value) == text


@pytest.mark.parametrize("value", ["a\ud800", "a\0", ["a"], {"a": 1}, b"a"])
def test_what_is_no_cell(value):
    with pytest.raises(ValueError, match="found"):
        cell_text(value)


@pytest.mark.parametrize("name, content, message", [
    ("a.xlsx", b"PK\x03\x04", "is a spreadsheet; save it as CSV"),
    ("a.csv", b"PK\x03\x04", "is an Excel workbook"),
    ("a.csv", b"\x1f\x8b\x08\x00", "is compressed with gzip"),
    ("a.csv", "text".encode("utf-16"), "is UTF-16, expected UTF-8"),
    ("a.parquet", b"text,label", "not readable as Parquet"),
    ("a.json", b'[{"text": 1}', "not readable as JSON"),
    ("a.json", b'[{"text": 1, "text": 2}]', "the key 'text' is there twice"),
    ("a.json", b"3", "line 1: found '3', expected an object"),
    ("a.json", b"[3]", "item 1: found '3', expected an object"),
    ("a.doc", b"text", "the ending '.doc' says no known form; tables end in .tsv, .csv, .jsonl")])
def test_files_that_are_no_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_a_pipe_is_refused_instead_of_waiting_for_a_writer(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: is a pipe or device"):
        open_table(str(tmp_path / name), BadRows(name))


@pytest.mark.parametrize("content", [b"", b" \n", b"[]", b"[ ]\n"])
def test_a_json_file_without_rows_is_empty(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert open_table(str(tmp_path / "a.json"), BadRows("a.json")) is None


def test_a_folder_and_no_file(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        read(tmp_path)
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        with pytest.raises(InputError, match=f"{name}: no such file"):
            read(tmp_path / name)


@pytest.mark.parametrize("name, content, problems", [
    ("a.tsv", b"text\nfine\ncaf\xe9\n", ["line 3: found byte 0xe9 at position 3"]),
    ("a.csv", b'text,label\n"a\n\x93b\x94",x\nc,y\n',
     ["line 3: found byte 0x93 at position 0", "seems to be Windows-1252"]),
    ("a.csv", "text\nпривет\nfine\n".encode("cp1251"), ["line 2: found byte", "another encoding"]),
    ("a.tsv", b"text\na\0b\nfine", ["line 2: found a NUL character"]),
    ("a.csv", b'text,label\na,x\n"b,x\nc,y\n"d,y\n', ["line 3: the row that begins here is not CSV",
                                                     "line 5: the row that begins here"]),
    ("a.jsonl", b'{"text": "a"}\n{"text": }\n[1]\n{"text": ["b"]}\n',
     ["line 2: not readable as JSON", "line 3: found '[1]', expected an object",
      "line 4: column 'text': found", "3 bad rows"]),
    ("a.jsonl", b'{"text": "a"}\n{"text": "b", "text": "c"}\n',
     ["line 2: not readable as JSON (the key 'text' is there twice)"]),
    ("a.jsonl", b'{"text": "a"}\n{"text": ' + 5000 * b"1" + b"}\n", ["line 2: not readable"]),
    ("a.json", b'[{"text": "a"}, 3]', ["item 2: found '3', expected an object"])])
def test_all_bad_rows_are_in_one_message(tmp_path, name, content, problems):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read(tmp_path / name)
    message = str(refusal.value)
    assert all(problem in message for problem in problems), message
    assert "\n" not in message and "--bad_rows=skip" in message
    assert read(tmp_path / name, policy="skip")[1]


def test_a_broken_row_does_not_swallow_the_rows_below(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"b,x\nc,y\nd,z\n')
    assert read(tmp_path / "a.csv", policy="skip")[1] == [(3, ["c", "y"]), (4, ["d", "z"])]


def test_twenty_of_many_bad_rows_are_listed(tmp_path):
    bad = BadRows("f.csv")
    for number in range(2, 27):
        bad.add(number, "no")
    with pytest.raises(InputError, match="25 bad rows: .*line 21: no; and 5 more. To continue"):
        bad.conclude(1)
    with pytest.raises(InputError, match="all rows are bad: line 2: no; .*line 4: no; and 22 more"):
        BadRows.conclude(bad, 0)
    bad.policy = "skip"
    bad.conclude(1)
    with pytest.raises(InputError, match="all rows are bad"):
        bad.conclude(0)
