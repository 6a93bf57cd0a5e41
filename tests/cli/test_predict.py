"""adapter-bert predict: what it writes is what load().predict returns, for every kind of input."""
import csv
import dataclasses
import io
import itertools
import json
import os
import pathlib
import sys
import threading

import pytest
from conftest import TINY
from packs import tiny_pack

import adapter_bert
from adapter_bert.cli import predict, predictions
from adapter_bert.cli.main import main
from adapter_bert.errors import InputError
from adapter_bert.export import bulk_rows
from adapter_bert.packs import answers, manifest, store
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import Spans

TEXTS = ["the film was good", 'a "dull", story', "Éa 你好 🙂 bad", "not fine"]
KINDS = {
    "classification": {}, "pairs": {"pair": True},
    "regression": {"head": "regression", "labels": ()},
    "tokens": {"head": "tokens", "labels": ("O", "B-PER", "I-PER"), "task": "NER"},
    "spans": {"head": "spans", "labels": (), "pair": True, "spans": Spans(5, 3, 20, 6, None)}}


@pytest.fixture(name="place", autouse=True)
def fixture_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="packs", scope="module")
def fixture_packs(tiny_dir, tmp_path_factory):
    """{key of KINDS: path of a pack}."""
    folder, on = tmp_path_factory.mktemp("packs"), base_of(tiny_dir)
    for name, changes in KINDS.items():
        store.write(str(folder / f"{name}.zip"), tiny_pack(base=on, **changes))
    return {name: str(folder / f"{name}.zip") for name in KINDS}


@pytest.fixture(name="go")
def fixture_go(packs, tiny_dir, capsys):
    """Function (words, key of KINDS) -> stdout of the command."""
    def go(*words, kind="classification"):
        capsys.readouterr()
        main(["predict", packs[kind], f"--bert_dir={tiny_dir}", *words])
        return capsys.readouterr().out
    return go


@pytest.fixture(name="refused")
def fixture_refused(packs, tiny_dir, capsys):
    """Function (words, key of KINDS) -> the one line on stderr, and stdout."""
    def refused(*words, kind="classification"):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["predict", packs[kind], f"--bert_dir={tiny_dir}", *words])
        output = capsys.readouterr()
        assert ended.value.code == 1 and output.err.count("\n") == 1, output.err
        return output.err
    return refused


def predicted(tiny_dir, path, texts):
    with adapter_bert.load(tiny_dir, path) as task:
        return task.predict(texts)


def put(path, text):
    pathlib.Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_texts_of_the_command_line(tiny_dir, packs, go):
    found = read_csv(go(*(f"--text={text}" for text in TEXTS)))
    wanted = predicted(tiny_dir, packs["classification"], TEXTS)
    assert [row["text"] for row in found] == TEXTS
    assert [row["label"] for row in found] == [one.label for one in wanted]
    assert [float(row["probability"]) for row in found] == pytest.approx(
        [one.probabilities[one.label] for one in wanted], abs=2e-3)   # bfloat16 where there is AMX
    assert list(found[0]) == ["label", "probability", "text"]


def test_files_of_all_formats_and_standard_input(go, monkeypatch):
    put("a.txt", "\n".join(TEXTS) + "\n")
    with open("a.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "sentence"), *enumerate(TEXTS)])
    put("a.tsv", "\r\n".join(["id\tsentence", *(f"{i}\t{text}" for i, text in enumerate(TEXTS))]))
    put("a.jsonl", "".join(json.dumps({"id": i, "sentence": text}) + "\n"
                           for i, text in enumerate(TEXTS)))
    wanted = read_csv(go(*(f"--text={text}" for text in TEXTS)))
    for words in (["a.csv"], ["a.tsv"], ["a.jsonl"]):
        found = read_csv(go(*words, "--text_column=sentence"))
        assert found == [{"label": row["label"], "probability": row["probability"], "id": str(i),
                          "sentence": row["text"]} for i, row in enumerate(wanted)], words
    assert read_csv(go("a.txt")) == wanted
    for name, words in (("a.txt", []), ("a.csv", ["--input_format=csv",
                                                  "--text_column=sentence"])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(
            io.BytesIO(pathlib.Path(name).read_bytes()), encoding="ascii"))
        found = read_csv(go("-", *words))
        assert [row["probability"] for row in found] == [row["probability"] for row in wanted]
    put("b.csv", "\n".join(f"{i},good" for i in range(3)) + "\n")
    assert [row["0"] for row in read_csv(go("b.csv", "--noheader", "--text_column=1"))] == [
        "0", "1", "2"]


def test_a_pipe_is_read_as_a_file_is(go):
    os.mkfifo("texts")   # as `predict PACK <(command)` names one
    writer = threading.Thread(target=put, args=("texts", "good\nbad\n"))
    writer.start()
    found = read_csv(go("texts", "--input_format=txt"))
    writer.join()
    assert [row["text"] for row in found] == ["good", "bad"]


@pytest.mark.parametrize("name, content", [("a.txt", ""), ("a.csv", "text\n"), ("a.csv", "")])
def test_an_input_without_texts_is_noted(packs, tiny_dir, capsys, name, content):
    put(name, content)
    main(["predict", packs["classification"], f"--bert_dir={tiny_dir}", name])
    assert capsys.readouterr() == ("", "standard output: 0 predictions\n")


def test_formats_of_the_output(go):
    put("a.jsonl", json.dumps({"text": "good\tfilm", "n": [1, None], "label": "é"}) + "\n")
    row = json.loads(go("a.jsonl", "--format=jsonl"))
    assert list(row) == ["label", "probability", "text", "n", "input_label"]
    assert row["n"] == [1, None] and row["input_label"] == "é"
    found = read_csv(go("a.jsonl"))
    assert found == [{**row, "probability": str(row["probability"]), "n": "[1, null]"}]
    assert "1 predictions" in go("a.jsonl", "--output=b.jsonl")
    assert json.loads(pathlib.Path("b.jsonl").read_text("utf-8")) == row
    put("c.txt", "good\nbad\n")
    go("c.txt", "--output=c.tsv")
    assert pathlib.Path("c.tsv").read_text().splitlines()[0] == "label\tprobability\ttext"


def test_a_regression(tiny_dir, packs, go):
    found = read_csv(go("--text=a good film", kind="regression"))
    wanted = predicted(tiny_dir, packs["regression"], ["a good film"])
    assert list(found[0]) == ["score", "text"]
    assert float(found[0]["score"]) == pytest.approx(wanted[0], abs=2e-2)


def test_entities(tiny_dir, packs, go):
    wanted = predicted(tiny_dir, packs["tokens"], TEXTS)
    found = [json.loads(row["entities"]) for row in read_csv(
        go(*(f"--text={text}" for text in TEXTS), kind="tokens"))]
    assert [[entity["text"] for entity in row] for row in found] == [
        [entity.text for entity in row] for row in wanted] and sum(map(len, found)) > 3
    assert set(found[0][0]) == set(answers.Entity._fields)


def test_pairs_and_questions(tiny_dir, packs, go):
    put("a.csv", 'question,context\nthe film ?,"it was good, very good"\n')
    wanted = predicted(tiny_dir, packs["spans"], [("the film ?", "it was good, very good")])[0]
    row = read_csv(go("a.csv", kind="spans"))[0]
    assert list(row) == ["answer", "start", "end", "probability", "question", "context"]
    assert (row["answer"], row["start"]) == (wanted.text, str(wanted.start))
    pair = ["--text=the film", "--text_b=it was fine"]
    assert read_csv(go("a.csv", "--text_column=question", "--text_b_column=context",
                       kind="pairs"))[0]["context"] == "it was good, very good"
    assert read_csv(go(*pair, kind="pairs"))[0]["text_b"] == "it was fine"
    assert predictions.of_answer(answers.Answer("", None, None, 0.5)) == {
        "answer": "", "start": None, "end": None, "probability": 0.5}


def test_chunks_change_nothing_and_are_read_one_by_one(go, monkeypatch):
    put("a.txt", "".join(f"good film {i}\n" for i in range(40)))   # more than QUICK_ROWS
    whole = read_csv(go("a.txt"))
    monkeypatch.setattr(predict, "CHUNK_ROWS", 3)
    parts = read_csv(go("a.txt"))
    assert [row["text"] for row in parts] == [row["text"] for row in whole] == [
        f"good film {i}" for i in range(40)]
    assert [float(row["probability"]) for row in parts] == pytest.approx(
        [float(row["probability"]) for row in whole], abs=5e-3)
    endless = (bulk_rows.Row("a", line, {}, ("x",)) for line in itertools.count(1))
    assert len(next(predict.Source("a", endless, False).chunks())) == 3


def test_bad_rows_are_listed_together_or_skipped(go, refused, capsys):
    good, bad = '{"text": "good"}\n', '{"text": [3]}\n'
    put("a.jsonl", good + bad * 25 + good)
    message = refused("a.jsonl", "--output=out.csv")
    assert "a.jsonl: line 2: 'text': found '[3]', expected a text" in message
    assert "line 21" in message
    assert "and 5 more bad rows; fix the rows, or pass --bad_rows=skip" in message
    assert "line 22" not in message and not list(pathlib.Path().glob("*out.csv*"))
    assert "out.csv: 2 predictions; 25 bad rows dropped" in go(
        "a.jsonl", "--bad_rows=skip", "--output=out.csv")
    assert len(read_csv(pathlib.Path("out.csv").read_text())) == 2


@pytest.mark.parametrize("name, content", [
    ("blank.csv", b"text\ngood\n\nbad\n"),
    ("blank.tsv", b"text\n\ngood\n\n\nbad\n\n"),
    ("excel.csv", b"\xef\xbb\xbfid;text\r\n1;good\r\n\r\n2;bad\r\n"),
    ("sep.csv", b"sep=|\r\nid|text\r\n1|good\r\n2|bad\r\n"),
    ("blank.jsonl", b'\n{"text": "good"}\n\n{"text": "bad"}\n')])
def test_tables_as_spreadsheets_leave_them(go, name, content):
    put(name, content)
    assert [row["text"] for row in read_csv(go(name))] == ["good", "bad"]


def test_numbers_are_texts(go):
    put("a.jsonl", '{"text": 3}\n{"text": 2.5}\n{"text": true}\n')
    assert [row["text"] for row in read_csv(go("a.jsonl"))] == ["3", "2.5", "true"]


def test_texts_that_the_model_cannot_read_are_counted(go, caplog):
    go("--text=zzz yyy xxx", "--text=" + "good " * 40)
    assert "1 of 2 texts has all of the 16 word pieces that the task reads" in caplog.text
    assert "[UNK]" not in caplog.text   # of a few words, some may well be unknown
    put("a.txt", "zzz yyy xxx\n" * 40)
    go("a.txt")
    assert "a.txt: 60 % of the word pieces are [UNK]" in caplog.text


def test_empty_input(go):
    put("a.csv", "text\n")
    put("b.txt", "")
    assert go("a.csv") == go("b.txt") == ""


@pytest.mark.parametrize("words,kind,message", [
    ([], "classification", "nothing to predict; give a FILE"),
    (["a.csv", "--text=x"], "classification", "either a file or --text"),
    (["no.csv"], "classification", "no.csv: no such file"),
    (["--text=caf\udce9"], "classification", "--text: found bytes that are not UTF-8"),
    (["folder"], "classification", "folder: is a folder; name a file"),
    (["a.csv", "--output=./a.csv"], "classification", "is the file of the texts"),
    (["a.doc"], "classification", "its ending is none of txt, csv, tsv, jsonl"),
    (["a.csv", "--text_column=txt"], "classification",
     "no column is named 'txt'; found 'id', 'text'; name the column of the text"),
    (["a.txt", "--text_column=text"], "classification", "a text file has no columns"),
    (["a.csv"], "pairs", "for pairs of texts, not for single"),
    (["--text=x"], "pairs", "for pairs of texts, not for single"),
    (["--text=x", "--text_b=y"], "classification", "for single texts, not for pairs"),
    (["--text=x", "--text_b=y", "--text_b=z"], "pairs", "each pair needs both"),
    (["a.csv", "--output=folder"], "classification", "is a folder; name a file"),
    (["keys.jsonl"], "classification", "row 2: has the column 'b'"),
    (["utf16.csv"], "classification", "utf16.csv is UTF-16, expected UTF-8"),
    (["book.csv"], "classification", "book.csv is an Excel workbook"),
    (["twice.csv"], "classification", "twice.csv: two columns are named 'text'; rename one"),
    (["tab.jsonl", "--format=tsv"], "classification", "contains a tab or line break"),
    (["a.csv", "--bad_rows=keep"], "classification", "invalid choice: 'keep'")])
def test_mistakes_are_one_line(words, kind, message, refused):
    put("a.csv", "id,text\n1,good\n")
    put("a.txt", "good\n")
    put("a.doc", "good\n")
    put("keys.jsonl", '{"text": "a"}\n{"text": "a", "b": 1}\n')
    put("tab.jsonl", '{"text": "a\\tb"}\n')
    put("utf16.csv", "text\ngood\n".encode("utf-16"))
    put("book.csv", b"PK\x03\x04....")
    put("twice.csv", "text,text\ngood,bad\n")
    pathlib.Path("folder").mkdir()
    assert message in refused(*words, kind=kind)


def test_the_folder_of_a_run_stands_for_its_pack(packs, tiny_dir, capsys):
    store.write("run/pack", store.read(packs["classification"]))
    main(["predict", "run", f"--bert_dir={tiny_dir}", "--text=good"])
    assert "probability" in capsys.readouterr().out


def test_another_base_is_named_before_its_shapes_are_compared(tiny_dir):
    config = dataclasses.replace(TINY, hidden_size=32)
    other = tiny_pack(base=manifest.Base("minilm", "3" * 64, "1" * 64, config))
    with pytest.raises(InputError, match="made on minilm.*uncased_L-2_H-16_A-2"):
        adapter_bert.load(tiny_dir, other, quick_start=True)


def test_a_quick_start_takes_other_packs_too(tiny_dir):
    on = base_of(tiny_dir)
    one, other = tiny_pack(0, base=on), tiny_pack(1, base=on)
    with adapter_bert.load(tiny_dir, one, quick_start=True) as quick, adapter_bert.load(
            tiny_dir, one) as task:
        for pack in (one, other):
            quick.use(pack)
            task.use(pack)
            assert [row.probabilities["1"] for row in quick.predict(TEXTS)] == pytest.approx(
                [row.probabilities["1"] for row in task.predict(TEXTS)], abs=5e-3)
