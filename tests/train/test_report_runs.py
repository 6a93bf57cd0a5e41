"""Reports of whole runs: what is evaluated once, what is learned from the run's own files."""
import os

import pytest
from runs import go, go_squad, write_squad, write_sst2

from adapter_bert.files import read_json
from adapter_bert.kinds import squad_files
from adapter_bert.train import answer_report, evaluation

pytestmark = pytest.mark.slow


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_a_run_reports_what_it_evaluated_in_training(tmp_path, tiny_dir, monkeypatch):
    """The best checkpoint's predictions are kept: nothing is predicted for the report alone."""
    calls, predict_split, out = [], evaluation.predict_split, str(tmp_path / "out")
    monkeypatch.setattr(evaluation, "predict_split",
                        lambda *arguments: calls.append(1) or predict_split(*arguments))
    metrics = go(data_dir=write_sst2(tmp_path / "data"), bert_dir=tiny_dir, output_dir=out,
                 do_train=True, do_eval=True, keep_best=True, eval_steps=3, num_train_epochs=1.0)
    history = read_json(f"{out}/eval_history.json")
    assert len(calls) == len(history) == 4
    text = read(f"{out}/report.md")
    assert text.index("Adapters of size 4 on the base") < text.index("## Scores")
    for name in ("learning_curve", "confusion", "calibration"):
        assert os.path.getsize(f"{out}/report/{name}.png") > 5000
    results = read_json(f"{out}/results.json")
    details = results["details"]["dev"]
    assert details["scores"] == {"accuracy": metrics["eval_accuracy"]}
    assert results["baselines"]["eval_accuracy"] == {
        "name": "majority class", "score": details["baseline"]["scores"]["accuracy"]}
    block = read(f"{out}/eval_results.txt").splitlines()
    assert block == [f"{name} = {metrics[name]}" for name in (
        "eval_accuracy", "eval_loss", "global_step", "loss")]


def test_training_alone_leaves_a_learning_curve(tmp_path, tiny_dir):
    out = str(tmp_path / "out")
    go(data_dir=write_sst2(tmp_path / "data"), bert_dir=tiny_dir, output_dir=out, do_train=True,
       num_train_epochs=1.0)
    text = read(f"{out}/report.md")
    assert "report/learning_curve.png" in text and "## Scores" not in text
    assert os.listdir(f"{out}/report") == ["learning_curve.png"]


def test_answers_are_scored_by_length(tmp_path, tiny_dir):
    out = str(tmp_path / "out")
    path = write_squad(tmp_path / "dev.json", 30, impossible=0.3)
    metrics = go_squad(train_file=path, predict_file=path, bert_dir=tiny_dir, output_dir=out,
                       do_train=True, do_predict=True, version_2_with_negative=True,
                       num_train_epochs=1.0)
    details = read_json(f"{out}/results.json")["details"]["dev"]
    lengths = details["answer_length"]
    assert list(lengths) == ["2", "no answer"]
    impossible = squad_files.read_squad(path)
    count = sum(example.is_impossible for example in impossible)
    assert lengths["no answer"]["questions"] == count
    mean = sum(row["f1"] * row["questions"] for row in lengths.values()) / 30
    assert mean == pytest.approx(metrics["eval_f1"])
    assert details["baseline"]["scores"] == {"exact": pytest.approx(100 * count / 30),
                                             "f1": pytest.approx(100 * count / 30)}
    assert "(never answering)" in read(f"{out}/report.md")
    assert os.path.exists(f"{out}/report/answer_length.png")


@pytest.mark.parametrize("question, word", [
    ("How many legs has it?", "how many"), ("In which year?", "which"), ("Name it.", "other"),
    ("Whatever, whom did it see?", "who")])
def test_question_words(question, word):
    assert answer_report.question_word(
        squad_files.SquadExample("", question, "", (), False)) == word


@pytest.mark.parametrize("text, group", [
    ("one", "1 word"), ("one two", "2"), ("a b c d e", "4–5"), ("w " * 11, "over 10")])
def test_lengths(text, group):
    assert answer_report.length_of(
        squad_files.SquadExample("", "", "", ((text, 0),), False)) == group
