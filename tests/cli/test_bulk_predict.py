"""adapter-bert bulk-predict: what it writes is what load().predict says, every row once."""
import csv
import functools
import json
import pathlib
import random
import shutil
import sys

import numpy as np
import pytest
from packs import tiny_pack

import adapter_bert
from adapter_bert.__main__ import main
from adapter_bert.export.savedmodel import export
from adapter_bert.packs import store
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import Spans

pytest.importorskip("apache_beam")

from adapter_bert.export import bulk_prediction, bulk_rows  # noqa: E402

WORDS = ["good", "bad", "film", "a", "the", "plot", "dull", "not", "É", "你好", "🙂", "\u2028", '"',
         "\t", "'", "..."]
TEXTS = ["the film was good", "Éa 你好 🙂 very bad", "a dull story ! " * 70, "not\u0301 ΟΔΟΣ"]


@pytest.fixture(name="exported", scope="module")
def fixture_exported(tiny_dir, tmp_path_factory):
    """Function (ids_only, fields of the manifest) -> path of the pack, path of the version."""
    @functools.cache
    def make(ids_only=False, **changes):
        folder = tmp_path_factory.mktemp("exported")
        path = str(folder / "pack.zip")
        store.write(path, tiny_pack(base=base_of(tiny_dir), **changes))
        return path, export(tiny_dir, [path], str(folder / "model"), ids_only=ids_only)
    return make


@pytest.fixture(name="go")
def fixture_go(exported, tmp_path, monkeypatch):
    """Function (glob, flags, fields of the manifest) -> predictions and bad rows, in order."""
    monkeypatch.chdir(tmp_path)

    def go(pattern, *flags, output="out/found", **changes):
        main(["bulk-predict", f"--model={exported(**changes)[1]}", f"--input={pattern}",
              f"--output={output}", *flags])
        return written(f"{output}-[0-9]*"), written(f"{output}-bad-*")
    return go


def written(pattern):
    lines = [json.loads(line) for path in pathlib.Path().glob(pattern)
             for line in path.read_text("utf-8").split("\n")[:-1]]
    return sorted(lines, key=lambda line: (line["source"], line["line"]))


def refused(capsys, arguments):
    """The one line that a mistake is answered with."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 1 and said.count("\n") == 1, said
    return said


def put(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def table(texts, separator="\t"):
    return "".join(f"{separator.join(row)}\n" for row in texts)


def assert_same(found, predictions):
    assert [one["label"] for one in found] == [one.label for one in predictions]
    wanted = np.array([list(one.probabilities.values()) for one in predictions])
    assert [list(one["probabilities"]) for one in found] == [
        list(one.probabilities) for one in predictions]
    given = np.array([list(one["probabilities"].values()) for one in found])
    assert np.abs(given - wanted).max() < 1e-5


def predicted(tiny_dir, exported, texts, **changes):
    with adapter_bert.load(tiny_dir, exported(**changes)[0], precision="float32") as task:
        return task.predict(texts)


def test_lines(tiny_dir, exported, go, capsys):
    """300 lines in three files, with Windows' line ends and a byte order mark: each once."""
    source = random.Random(0)
    texts = [" ".join(source.choices(WORDS, k=source.randrange(30))) + f" {index}"
             for index in range(299)] + ["the film"]
    texts[5] = ""
    for name, start, end, mark in (("a", 0, "\n", b""), ("b", 100, "\r\n", b"\xef\xbb\xbf"),
                                   ("c", 200, "\n", b"")):
        put(f"in/{name}.txt", mark + (end.join(texts[start:start + 100]) + end * 3).encode())
    found, bad = go("in/*.txt", "--batch_size=7")
    assert [(one["source"], one["line"]) for one in found] == [
        (f"in/{name}.txt", line) for name in "abc" for line in range(1, 101)]
    assert [one["input"] for one in found] == [{"text": text} for text in texts] and not bad
    assert_same(found, predicted(tiny_dir, exported, texts))
    assert np.ptp([one["probabilities"]["0"] for one in found]) > 0.01
    assert "300 predictions, 0 bad rows\n" in capsys.readouterr().out
    assert not list(pathlib.Path("out").glob("*bad*"))


def test_tables_and_objects(tiny_dir, exported, go):
    """TSV, CSV over several lines, JSONL: all columns come out again, those named label too."""
    lines = [f"{text}\n,\"{text}" for text in TEXTS]
    put("a.tsv", table([("label", "text"), *(("9", text) for text in TEXTS)]))
    with open("b.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *(("9", text) for text in lines)])
    put("c.jsonl", "".join(json.dumps({"label": 9, "text": text, "more": [None]}) + "\n"
                           for text in TEXTS))
    found, bad = go("?.*", "--text_column=text")
    assert not bad
    assert [one["line"] for one in found] == [2, 3, 4, 5, 2, 4, 6, 8, 1, 2, 3, 4]
    assert [one["input"] for one in found] == [
        *({"label": "9", "text": text} for text in TEXTS + lines),
        *({"label": 9, "text": text, "more": [None]} for text in TEXTS)]
    assert_same(found, predicted(tiny_dir, exported, TEXTS + lines + TEXTS))


def test_pairs_without_a_header(tiny_dir, exported, go, capsys):
    pairs = [("the plot", "it was fine"), ("the film", ""), ("", "a"), ("good " * 30, "bad " * 30)]
    put("a.tsv", table((str(index), *pair) for index, pair in enumerate(pairs)))
    found, bad = go("a.tsv", "--noheader", "--text_column=1", "--text_b_column=2", pair=True)
    assert [one["input"]["0"] for one in found] == list("0123") and not bad
    assert_same(found, predicted(tiny_dir, exported, pairs, pair=True))
    assert "--text_b_column is missing" in refused(capsys, [
        "bulk-predict", f"--model={exported(pair=True)[1]}", "--input=a.tsv", "--output=o",
        "--text_column=1"])


def test_a_regression(tiny_dir, exported, go):
    changes = {"head": "regression", "labels": ()}
    put("a.txt", "\n".join(TEXTS))
    found, _ = go("a.txt", **changes)
    assert all(one.keys() == {"source", "line", "input", "score"} for one in found)
    assert [one["score"] for one in found] == pytest.approx(
        predicted(tiny_dir, exported, TEXTS, **changes), abs=1e-5)


def test_bad_rows(go, capsys):
    """They are told with file, line and reason, and the others are predicted."""
    put("a.tsv", b"id\ttext\n1\tgood\n2\n3\tbad\xff\n4\ta\tb\n5\tfilm\0\n\n6\tfine\n")
    put("b.csv", 'text\ngood\n"bad"x\nfine\n"dull\nnever closed\n')
    put("c.jsonl", b'{"text": "good"}\n{"text": \n[1]\n{"texts": "a"}\n{"text": [3]}\n'
                   b'{"text": "\\ud800"}\n{"text": NaN}\n{"text": "\xff"}\n{"text": "fine"}\n')
    put("d.tsv", "id\tsentence\n1\tgood\n")
    put("e.txt", b"good\n\xc3\nfine")
    found, bad = go("[a-c].*", "--text_column=text")
    assert [(one["source"], one["line"]) for one in found] == [
        ("a.tsv", 2), ("a.tsv", 8), ("b.csv", 2), ("b.csv", 4), ("c.jsonl", 1), ("c.jsonl", 9)]
    reasons = [(one["source"], one["line"], one["reason"]) for one in bad]
    for (source, line, reason), wanted in zip(reasons, [
            ("a.tsv", 3, "column count 1, expected 2"), ("a.tsv", 4, "byte 0xff"),
            ("a.tsv", 5, "column count 3"), ("a.tsv", 6, "NUL"),
            ("b.csv", 3, "not CSV"), ("b.csv", 5, "not CSV"), ("c.jsonl", 2, "not JSON"),
            ("c.jsonl", 3, "expected a JSON object"), ("c.jsonl", 4, "no column is named 'text'"),
            ("c.jsonl", 5, "'text': found '[3]'"), ("c.jsonl", 6, "surrogate"),
            ("c.jsonl", 7, "NaN"), ("c.jsonl", 8, "byte 0xff")], strict=True):
        assert (source, line) == wanted[:2] and wanted[2] in reason
    assert "6 predictions, 13 bad rows in out/found-bad-*.jsonl\n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        go("e.txt", "--strict", output="strict")
    assert ended.value.code == 1
    assert "1 bad rows in strict-bad" in capsys.readouterr().err
    assert len(written("strict-[0-9]*")) == 2


def test_empty_files(go, capsys):
    for name in ("a.txt", "b.tsv", "c.csv", "d.jsonl"):
        put(f"in/{name}", "\n" if name == "d.jsonl" else "")
    assert go("in/[b-d].*", "--text_column=text") == ([], [])
    assert go("in/a.txt", output="other") == ([], [])
    assert "0 predictions, 0 bad rows" in capsys.readouterr().out


def test_columns_that_are_not_used_may_share_a_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,text,x,\n1,good,2,\n3,bad,4,\n")
    asked = bulk_rows.Asked("text")
    with path.open("rb") as file:
        bulk_rows.check_columns(str(path), file, asked)
    with path.open("rb") as file:
        first, second = bulk_rows.read(str(path), file, asked)
    assert first.texts == ("good",) and second.texts == ("bad",)
    assert first.fields == {"x": "1", "text": "good", "x (column 3)": "2", "": ""}


def test_mistakes(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put("a.tsv", "id\ttext\n1\tgood\n")
    put("a.txt", "good\n")
    put("a.doc", "good\n")
    put("twice.csv", "text,text\na,b\n")
    put("twice.tsv", "id\ttext\ttext\n1\ta\tb\n")
    put("there-bad-00000-00001.jsonl", "")
    put("their-s-00000-of-00001.jsonl", "")   # Beam would remove it
    put("damaged/saved_model.pb", b"\xff\xff")
    shutil.copytree(exported()[1], "short")
    put("short/variables/variables.data-00000-of-00001", b"\0" * 100)
    given = {"model": exported()[1], "input": "a.tsv", "output": "o", "text_column": "text"}
    more = ["--", "--runner=FnApiRunner"]
    for changes, words, wanted in (
            ({"input": "b*.tsv"}, [], "b*.tsv: no such file"),
            ({"input": "a.doc"}, [], "files end in .txt"),
            ({"input": "a.txt"}, [], "no column 'text'"),
            ({"input": "twice.csv"}, [], "two columns are named 'text'; rename one"),
            ({"input": "twice.tsv"}, [], "two columns are named 'text'; rename one"),
            ({"model": "models/[a]/1"}, [], "reads * ? [ "),
            ({"text_column": None}, [], "--text_column is missing"),
            ({"text_column": "txt"}, [], "no column is named 'txt'; found 'id', 'text'"),
            ({"text_b_column": "txt"}, [], "no column is named 'txt'"),
            ({"text_column": "2"}, ["--noheader"], "no column is named '2'"),
            ({"batch_size": 0}, [], "at least 1"), ({"batch_size": "x"}, [], "invalid int"),
            ({"model": "."}, [], "DIR/NAME/1"), ({"model": "damaged"}, [], "DIR/NAME/1"),
            ({"model": "short"}, [], "a damaged one"),
            ({"model": exported(ids_only=True)[1]}, [], "without --ids_only"),
            ({"output": "there"}, [], "is there already"),
            ({"output": "their"}, [], "is there already"),
            ({"output": "a.txt/o"}, [], "cannot be written"),
            ({}, ["--bath_size=3"], "--bath_size"), ({}, ["b.tsv"], "b.tsv: not a flag"),
            ({}, [*more, "--no_such=1"], "--no_such=1: no option of Beam's"),
            ({}, ["--", "--runner=Nobody"], "Nobody"),
            ({}, [*more, "--direct_num_workers=x"], "invalid int")):
        flags = [f"--{name}={value}" for name, value in (given | changes).items()
                 if value is not None]
        assert wanted in refused(capsys, ["bulk-predict", *flags, *words]), (changes, words)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert 'pip install "apache-beam==2.77.0"' in refused(capsys, [
        "bulk-predict", "--model=m", "--input=i", "--output=o"])
    assert not list(tmp_path.glob("o-*"))


def test_options_reach_beam(go):
    put("a.txt", "good\nbad\n")
    found, _ = go("a.txt", "--", "--direct_num_workers=2",
                  "--direct_running_mode=multi_threading")
    assert len(found) == 2


def test_like_lengths_run_together(exported):
    """A call of the model holds neighbours in length; the results are in the rows' order."""
    sizes = []

    class Model:
        labels = ()

        def __call__(self, texts):
            sizes.append([len(text) for text, in texts])
            return {"score": np.array(sizes[-1])}

    lengths = [9, 1, 8, 2, 7]
    handler = bulk_prediction.SavedModelHandler("path", "any", 2)
    found = handler.run_inference(
        [bulk_rows.Row("a", 1, {}, ("x" * length,)) for length in lengths], Model())
    assert sizes == [[1, 2], [7, 8], [9]]
    assert [one.inference["score"] for one in found] == lengths


NER = {"head": "tokens", "labels": ("O", "B-PER", "I-PER"), "task": "NER"}
QA = {"head": "spans", "labels": (), "pair": True, "spans": Spans(5, 3, 20, 6, -0.7)}


def test_names(tiny_dir, exported, go, capsys):
    texts = [*TEXTS, "\u00ad", "..."]
    put("a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    found, bad = go("a.jsonl", "--text_column=text", "--batch_size=2", **NER)
    wanted = predicted(tiny_dir, exported, texts, **NER)
    assert not bad and [list(one) for one in found] == [
        ["source", "line", "input", "entities"]] * len(texts)
    assert [one["entities"] for one in found] == [[
        {**name._asdict(), "probability": pytest.approx(name.probability, abs=1e-5)}
        for name in names] for names in wanted]
    assert sum(map(len, wanted)) > 10
    assert "a task of single texts; leave --text_b_column out" in refused(capsys, [
        "bulk-predict", f"--model={exported(**NER)[1]}", "--input=a.jsonl", "--output=o",
        "--text_column=text", "--text_b_column=text"])


def test_answers(tiny_dir, exported, go, capsys):
    pairs = [("the film", "it was fine"), ("", "a dull story ! " * 30),
             ("good ?", "Éa 你好 🙂 bad"), ("was it ?", "the film was good")]
    put("a.jsonl", "".join(json.dumps({"q": one, "c": other}) + "\n" for one, other in
                           [*pairs, ("film", "\u00ad")]))
    found, bad = go("a.jsonl", "--text_column=q", "--text_b_column=c", **QA)
    *answers, last = ({name: one[name] for name in ("answer", "start", "end", "probability")}
                      for one in found)
    assert answers == [{"answer": one.text, "start": one.start, "end": one.end,
                        "probability": pytest.approx(one.probability, abs=1e-5)}
                       for one in predicted(tiny_dir, exported, pairs, **QA)]
    assert last == {"answer": "", "start": None, "end": None, "probability": 0.0} and not bad
    assert "--text_b_column is missing, the column that holds the second texts, or" in refused(
        capsys, ["bulk-predict", f"--model={exported(**QA)[1]}", "--input=a.jsonl", "--output=o",
                 "--text_column=q"])
