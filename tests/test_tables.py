"""adapter-bert dataset: a folder of files, one a domain, as one data set."""
import json

import pytest

from adapter_bert.__main__ import main
from adapter_bert.research.meta import domains

FLAGS = ("--text_column=review", "--label_column=stars")


def write(folder, **tables):
    folder.mkdir()
    for name, lines in tables.items():
        domain, ending = name.rsplit("_", 1)
        (folder / f"{domain}.{ending}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder)


def test_each_file_is_a_domain(tmp_path, capsys):
    folder = write(tmp_path / "texts", music_tsv=["stars\treview", "good\tI \"hum\" it", "bad\tNo"],
                   books_csv=["review,stars", '"a, b",bad', "a read,good", "A  read,good"],
                   notes_txt=["no table"])
    output = str(tmp_path / "dataset.json")
    main(["dataset", folder, output, *FLAGS])
    found = domains.read_dataset(output)
    assert {name: [(example.text_a, example.label) for example in examples]
            for name, examples in found.domains.items()} == {
                "books": [("a, b", "bad"), ("a read", "good")],
                "music": [('I "hum" it', "good"), ("No", "bad")]}
    said = capsys.readouterr().out
    assert "1 whose text stands before" in said and "examples: books 2, music 2" in said


def test_files_without_a_header(tmp_path):
    folder = write(tmp_path / "texts", music_tsv=["good\tone", "bad\ttwo"])
    output = tmp_path / "dataset.json"
    main(["dataset", folder, str(output), "--text_column=1", "--label_column=0", "--noheader"])
    assert json.loads(output.read_text()) == [
        {"text": "one", "label": "good", "domain": "music"},
        {"text": "two", "label": "bad", "domain": "music"}]


@pytest.mark.parametrize("tables, message", [
    ({"notes_txt": ["a"]}, "holds no file that ends in .tsv or .csv"),
    ({"a_tsv": ["review\tstars", "x\tgood"], "a_csv": ["review,stars"]}, "holds a.csv and a.tsv"),
    ({"a_tsv": ["review\tstars", "x\tgood", "y"]}, "a.tsv, line 3: 1 column, expected 2"),
    ({"a_tsv": ["text\tstars", "x\tgood"]}, "no column is named 'review'"),
    ({"a_tsv": ["review\tstars", " \tgood"]}, "a.tsv, line 2: column 'review' (the text) is empty"),
    ({"a_tsv": ["review\tstars", "x\tgood"]}, "the only label is 'good'")])
def test_a_wrong_folder_leaves_no_file(tmp_path, capsys, tables, message):
    folder = write(tmp_path / "texts", **tables)
    with pytest.raises(SystemExit):
        main(["dataset", folder, str(tmp_path / "dataset.json"), *FLAGS])
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "dataset.json").exists()


def test_a_folder_that_is_none(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["dataset", str(tmp_path / "none"), str(tmp_path / "out.json"), *FLAGS])
    assert "not a folder that can be read" in capsys.readouterr().err


def test_hidden_files_are_no_domains(tmp_path):
    folder = write(tmp_path / "texts", music_tsv=["review\tstars", "x\tgood", "y\tbad"])
    (tmp_path / "texts" / "._music.tsv").write_bytes(b"\0\5\x16\7")
    main(["dataset", folder, str(tmp_path / "out.json"), *FLAGS])
    assert list(domains.read_dataset(str(tmp_path / "out.json")).domains) == ["music"]
