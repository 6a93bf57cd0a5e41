"""adapter-bert train and evaluate: flags as typed, and what they run."""
import dataclasses
import os
import pathlib
import random
import re

import pytest
from runs import sentence, write_sst2

from adapter_bert import files
from adapter_bert.cli import evaluate, run_flags, train
from adapter_bert.cli.main import main, make_parser
from adapter_bert.packs import store
from adapter_bert.train.settings import Settings

SMALL = ["--max_seq_length=16", "--train_batch_size=8", "--learning_rate=0.01", "--adapter_size=4"]


def parsed(*words):
    """The flags that the parser finds in the words."""
    options = vars(make_parser().parse_args(["train", *words]))
    del options["run"]
    return options


def write_reviews(folder, *splits, count=48):
    source = random.Random(0)
    os.makedirs(folder, exist_ok=True)
    for split in splits:
        rows = [f"{sentence(source, i % 2)},{('neg', 'pos')[i % 2]}" for i in range(count)]
        pathlib.Path(folder, f"{split}.csv").write_text("\n".join(["review,stars", *rows]) + "\n")
    return str(folder)


@pytest.mark.parametrize("words,value", [
    (["--keep_best"], {"keep_best": True}), (["--nokeep_best"], {"keep_best": False}),
    (["--keep_best=true"], {"keep_best": True}), (["--keep_best=False"], {"keep_best": False}),
    (["--keep_best=0", "--header"], {"keep_best": False, "header": True}),
    (["--seed=3"], {"seed": 3}), (["--seed", "3"], {"seed": 3}),
    (["--learning_rate", "1e-3", "--output_dir=a=b"], {"learning_rate": 1e-3,
                                                      "output_dir": "a=b"}),
    ([], {})])
def test_flags_as_people_write_them(words, value):
    assert parsed(*words) == value


def test_every_field_is_a_flag_in_one_group():
    placed = [name for group in run_flags.GROUPS.values() for name in group]
    assert len(set(placed)) == len(placed)
    for field in dataclasses.fields(Settings):
        text = {bool: "true"}.get(type(field.default), "3")
        assert list(parsed(f"--{field.name}={text}")) == [field.name]


def test_help_is_short_and_helpfull_is_complete(capsys):
    texts = {}
    for flag in ("--help", "--helpfull"):
        with pytest.raises(SystemExit):
            main(["train", flag])
        texts[flag] = capsys.readouterr().out
    assert len(texts["--help"].splitlines()) < 90
    assert "--tpu_zone" not in texts["--help"]
    for field in dataclasses.fields(Settings):
        assert f"--{field.name} " in texts["--helpfull"]
        assert (f"--{field.name} " in texts["--help"]) == (field.name in train.COMMON)


def test_a_field_in_no_group_appears_by_itself(capsys):
    from adapter_bert.cli.parser import Parser
    from adapter_bert.fields import setting
    new = dataclasses.make_dataclass("New", [("moon", int, setting(3, "Phase, 100 %."))])
    parser = Parser(prog="x")
    run_flags.add(parser, new, ["moon"])
    assert vars(parser.parse_args(["--moon=4"])) == {"moon": 4}
    assert "other flags:\n  --moon INT  Phase, 100 %. (default: 3)\n" in parser.format_help()


def test_the_task_is_custom_where_a_column_or_file_is_named():
    assert train.with_task_name({"text_column": "x"})["task_name"] == "custom"
    assert train.with_task_name({"data_file": "x"})["task_name"] == "custom"
    assert train.with_task_name({"text_column": "x", "task_name": "NER"})["task_name"] == "NER"
    assert "task_name" not in train.with_task_name({"data_dir": "x"})


def test_the_task_of_a_pack():
    @dataclasses.dataclass
    class Manifest:
        task: str
        head: str
    assert evaluate.with_task({}, Manifest("MRPC", "classification")) == {"task_name": "MRPC"}
    assert evaluate.with_task({}, Manifest("my reviews", "tokens")) == {
        "task_name": "custom", "label_type": "tokens"}
    assert evaluate.with_task({"text_column": "x"}, Manifest("custom", "regression")) == {
        "text_column": "x", "task_name": "custom", "label_type": "number"}


@pytest.mark.slow
def test_train_evaluate_predict(tiny_dir, tmp_path, capsys, monkeypatch):
    """The three commands on one task: a test file is predicted, a pack scored on a file."""
    monkeypatch.chdir(tmp_path)
    data = write_reviews("data", "train", "dev", "test")
    main(["train", f"--data_dir={data}", "--text_column=review", "--label_column=stars",
          f"--bert_dir={tiny_dir}", "--output_dir=out", "--num_train_epochs", "1", "--guard=off",
          *SMALL])
    assert len(pathlib.Path("out/test_results.tsv").read_text().splitlines()) >= 48
    trained = files.read_json("out/results.json")
    main(["evaluate", "out", f"--bert_dir={tiny_dir}", "--data_file=data/dev.csv",
          "--text_column=review", "--label_column=stars", "--output_dir=scores"])
    scored = files.read_json("scores/results.json")
    assert scored["metrics"]["eval_accuracy"] == trained["metrics"]["eval_accuracy"]
    capsys.readouterr()
    main(["predict", "out", f"--bert_dir={tiny_dir}", "data/test.csv", "--text_column=review"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "label,probability,review,stars" and len(lines) == 49


@pytest.mark.slow
def test_train_on_glue_and_evaluate_without_an_output_folder(tiny_dir, tmp_path, caplog):
    data = write_sst2(tmp_path / "data")
    main(["train", "--task_name=SST-2", f"--data_dir={data}", f"--bert_dir={tiny_dir}",
          f"--output_dir={tmp_path}/out", "--num_train_epochs=1", "--nodo_eval", "--guard=off",
          *SMALL])
    assert store.read(f"{tmp_path}/out/pack").manifest.task == "SST-2"
    assert os.path.exists(tmp_path / "out" / "SST-2.tsv")
    caplog.clear()
    rows = pathlib.Path(data, "dev.tsv").read_text().splitlines()
    (tmp_path / "own.csv").write_text("\n".join(row.replace("\t", ",") for row in rows) + "\n")
    (tmp_path / "own.tsv").write_text("\n".join(rows) + "\n")
    scores = []
    for place in (f"--data_dir={data}", f"--data_file={tmp_path}/own.tsv",
                  f"--data_file={tmp_path}/own.csv"):
        caplog.clear()
        main(["evaluate", f"{tmp_path}/out/pack", f"--bert_dir={tiny_dir}", place])
        scores.append(re.search(r"eval_accuracy = (\S+)", caplog.text)[1])
    assert len(set(scores)) == 1
    assert "report: " not in caplog.text   # its folder is temporary


@pytest.mark.parametrize("words,message", [
    (["evaluate", "p", "--bert_dir=b"], "give either --data_file or --data_dir"),
    (["evaluate", "p", "--data_file=/no.csv"], "/no.csv: no such file"),
    (["evaluate", "p", "--data_file=/"], "/: is a folder; name it with --data_dir"),
    (["train", "--bert_dir=b", "--output_dir=o"], "nothing to learn from; name a file"),
    (["evaluate", "p", "--data_dir=d"], "--bert_dir is missing"),
    (["evaluate", "p", "--learning_rate=1"], "unknown flag --learning_rate"),
    (["train", "--data_file=x.csv"], "--output_dir is missing")])
def test_mistakes_are_one_line(words, message, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    ["evaluate", "p.zip"], ["train", "--init_pack=p.zip", "--max_seq_length=16"]])
def test_refused_data_leaves_no_output_folder_beside_a_pack(tiny_dir, tmp_path, monkeypatch,
                                                            words, caplog):
    from packs import tiny_pack

    from adapter_bert.packs.bases import base_of
    monkeypatch.chdir(tmp_path)
    store.write("p.zip", tiny_pack(base=base_of(tiny_dir), task="custom", warning="NaN"))
    pathlib.Path("mine.csv").write_text("text,label\ngood,\n")
    with pytest.raises(SystemExit):
        main([*words, f"--bert_dir={tiny_dir}", "--data_file=mine.csv", "--output_dir=out"])
    assert not os.path.exists("out")
    assert "pack p.zip: NaN" in caplog.text


def test_messages_name_the_file_of_the_user(tiny_dir, tmp_path, capsys, monkeypatch):
    from packs import tiny_pack

    from adapter_bert.packs.bases import base_of
    monkeypatch.chdir(tmp_path)
    store.write("p.zip", tiny_pack(base=base_of(tiny_dir), task="custom"))
    pathlib.Path("mine.csv").write_text("review,stars\ngood,9\n")
    with pytest.raises(SystemExit):
        main(["evaluate", "p.zip", f"--bert_dir={tiny_dir}", "--data_file=mine.csv",
              "--text_column=review", "--label_column=stars"])
    message = capsys.readouterr().err
    assert "mine.csv" in message and "9" in message and "dev.csv" not in message
