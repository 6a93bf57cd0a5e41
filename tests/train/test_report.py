"""report.md, its tables, files and pictures, for every kind of head and for awkward data."""
import csv
import os
import types

import numpy as np
import pytest
import sklearn.metrics

from adapter_bert import kinds
from adapter_bert.files import read_json
from adapter_bert.kinds.metrics import macro_f1
from adapter_bert.train import class_report, run_report, tag_runs
from adapter_bert.train.settings import Settings
from adapter_bert.train.split_records import Split


def run_of(folder, task, **flags):
    """As much of a setup.Run as a report reads."""
    settings = Settings(output_dir=str(folder), task_name="custom", data_dir="/data/tickets",
                        vocab_file="/bases/tiny/vocab.txt", do_eval=True, **flags)
    return types.SimpleNamespace(task=task, settings=settings, trained=None)


def split_of(rows, targets, name="dev"):
    return Split(name, "", len(rows), 0, (), True, targets, "", rows=rows)


def class_task(labels, pair=False):
    task = kinds.generic_task("text", "other" if pair else None, "label")
    return kinds.with_labels(task, [kinds.Example("", None, label) for label in labels])


def class_split(task, labels, name="dev"):
    rows = [kinds.Example(f"text {place} | *bold*\nline", "b" if task.is_pair else None,
                          task.labels[label]) for place, label in enumerate(labels)]
    return split_of(rows, np.array(labels), name)


def probabilities_of(answers, count, sure=0.8):
    """Float [n, C] with the answer at `sure` (a number, or one for each)."""
    sure = np.broadcast_to(np.asarray(sure, np.float32), len(answers))
    values = np.repeat(((1 - sure) / (count - 1))[:, np.newaxis], count, axis=1)
    values[np.arange(len(answers)), answers] = sure
    return {"probabilities": values}


def drawn(count, examples, seed=0, right=0.7):
    """Labels and answers of a model that is right so often, with classes of unequal size."""
    random = np.random.default_rng(seed)
    labels = np.minimum(random.geometric(min(0.6, 2.5 / count), examples) - 1, count - 1)
    answers = np.where(random.random(examples) < right, labels,
                       (labels + random.integers(1, min(4, count), examples)) % count)
    return labels, answers, random.uniform(0.4, 1.0, examples)


def text_of(folder, name="report.md"):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()


def rows_of(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_expected_calibration_error_by_hand():
    """Bins of a fifteenth: 0.9 twice (half right), 0.55 once (right)."""
    error, bins = class_report.calibration(np.array([0.9, 0.9, 0.55]),
                                           np.array([True, False, True]))
    assert error == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.45)
    assert [row["count"] for row in bins] == [1, 2]


@pytest.mark.parametrize("confident, number", [(1 / 15, 0), (1 / 15 + 1e-9, 1), (1.0, 14)])
def test_a_bin_contains_its_upper_end(confident, number):
    _, bins = class_report.calibration(np.array([confident]), np.array([True]))
    assert [row["confidence"] for row in bins] == [confident]
    counts = np.zeros(15)
    counts[min(14, int(np.ceil(confident * 15)) - 1)] = 1
    assert counts[number] == 1


def test_a_classification_report(tmp_path):
    task = class_task(["ham", "spam"], pair=True)
    labels, answers = [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 1]
    sure = [0.9, 0.8, 0.7, 0.9, 0.6, 0.95]
    run_report.write(run_of(tmp_path, task), {"dev": class_split(task, labels)},
                 {"dev": probabilities_of(answers, 2, sure)})
    text = text_of(tmp_path)
    assert "**66.7 %** of 6 text pairs" in text and "“ham”, would be right for 66.7 %" in text
    assert "no better than its baseline" in text
    assert "| accuracy | **0.667** | 0.667 |" in text
    assert "| ham | 0.750 | 0.750 | 0.750 | 4 | 4 |" in text
    for name in ("confusion", "calibration"):
        assert f"](report/{name}.png)" in text and (tmp_path / f"report/{name}.png").exists()
    errors = rows_of(tmp_path, "errors.csv")
    assert [(row["label"], row["prediction"], row["probability"]) for row in errors] == [
        ("ham", "spam", "0.9500"), ("spam", "ham", "0.6000")]
    assert errors[0]["text"] == "text 5 | *bold*\nline" and errors[0]["text_b"] == "b"
    details = read_json(str(tmp_path / "results.json"))["details"]["dev"]
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        labels, answers)
    assert details["classes"]["spam"] == {
        "precision": precision[1], "recall": recall[1], "f1": f1[1], "support": support[1],
        "predicted": 2}
    assert details["macro_mean"]["f1"] == pytest.approx(macro_f1(labels, answers))
    assert details["baseline"] == {"name": "majority class", "scores": {
        "accuracy": 4 / 6, "macro_f1": pytest.approx(0.4)}}


def test_classes_that_dev_lacks_have_no_score(tmp_path):
    task = class_task(["a", "b", "c"])
    run_report.write(run_of(tmp_path, task), {"dev": class_split(task, [0])},
                 {"dev": probabilities_of([0], 3)})
    assert "| c | – | – | – | 0 | 0 |" in text_of(tmp_path)
    assert read_json(str(tmp_path / "results.json"))["details"]["dev"]["macro_mean"]["f1"] == 1.0
    assert rows_of(tmp_path, "errors.csv") == []


def test_labels_are_shown_literally(tmp_path):
    task = class_task(["a|b", "*c* $x^$ <i>", "`d`\n# e", "很好" * 40])
    run_report.write(run_of(tmp_path, task), {"dev": class_split(task, [0, 1, 2, 3])},
                 {"dev": probabilities_of([1, 2, 3, 0], 4)})
    table = [line for line in text_of(tmp_path).splitlines() if " | 0.000 | 0.000 | " in line]
    assert len(table) == 6 and all(line.replace("\\|", "").count("|") == 7 for line in table)
    assert any(line.startswith("| a\\|b |") for line in table)
    assert (tmp_path / "report/confusion.png").exists()


def test_two_hundred_classes_stay_readable(tmp_path):
    task = class_task([f"class {number}" for number in range(200)])
    labels, answers, sure = drawn(200, 4000)
    run_report.write(run_of(tmp_path, task), {"dev": class_split(task, labels)},
                 {"dev": probabilities_of(answers, 200, sure)})
    assert len(text_of(tmp_path).splitlines()) < 150
    assert len(rows_of(tmp_path, "report/classes.csv")) == 200
    assert len(rows_of(tmp_path, "errors.csv")) == 50
    names, cells = class_report.displayed(task.labels, sklearn.metrics.confusion_matrix(
        labels, answers, labels=range(200)))
    assert len(names) == 30 and cells.shape == (30, 30)


def test_two_dev_sets_have_files_of_their_own(tmp_path):
    task = class_task(["no", "yes"])
    splits = {name: class_split(task, [0, 1, 1], name) for name in ("dev", "dev_mm")}
    run_report.write(run_of(tmp_path, task), splits, {
        "dev": probabilities_of([0, 1, 1], 2), "dev_mm": probabilities_of([0, 0, 1], 2)})
    text = text_of(tmp_path)
    assert "On the dev set: " in text and "On the dev set “mm”: " in text
    assert "report/confusion.png" in text and "report/confusion_mm.png" in text
    assert len(rows_of(tmp_path, "errors.csv")) == 0
    assert len(rows_of(tmp_path, "errors_mm.csv")) == 1


def test_a_regression_report(tmp_path):
    task = kinds.generic_task("text", None, "label", kind="regression")
    targets = np.array([1.0, 2.0, 3.0, 4.0])
    rows = [kinds.Example(f"text {score}", None, score) for score in targets]
    run_report.write(run_of(tmp_path, task), {"dev": split_of(rows, targets)},
                 {"dev": {"scores": np.float32([1.5, 2.5, 2.0, 4.0])}})
    text = text_of(tmp_path)
    assert "off by **0.5** on average" in text and "would be off by 1." in text
    assert (tmp_path / "report/scatter.png").exists()
    errors = rows_of(tmp_path, "errors.csv")
    assert (errors[0]["label"], errors[0]["prediction"], errors[0]["error"]) == ("3", "2", "-1")
    details = read_json(str(tmp_path / "results.json"))["details"]["dev"]
    assert details["baseline"]["scores"] == {"pearson": 0.0, "spearman": 0.0}
    assert details["errors"]["mean_absolute_error"] == 0.5


def tag_split(gold):
    sentences = [kinds.Sentence(tuple(f"word{place}" for place in range(len(tags))), tuple(tags))
                 for tags in gold]
    lengths = [len(tags) for tags in gold]
    places = np.concatenate([np.arange(1, length + 1) for length in lengths])
    targets = tag_runs.Targets(sentences, np.repeat(np.arange(len(gold)), lengths), places)
    return split_of(sentences, targets)


def label_ids_of(task, predicted):
    """Int [sentences, T] with the tags from the second place on, where the words' pieces begin."""
    ids = np.zeros([len(predicted), 1 + max(map(len, predicted))], int)
    for row, tags in enumerate(predicted):
        ids[row, 1:1 + len(tags)] = [task.label_index[tag] for tag in tags]
    return {"label_ids": ids}


def test_a_report_on_entities(tmp_path):
    """PER: one found, one with wrong boundaries, one missed; LOC: once for PER, once for none."""
    gold = [["B-PER", "I-PER", "O", "B-PER", "O"], ["B-PER", "I-PER", "O", "O", "B-PER"]]
    predicted = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["B-PER", "O", "B-LOC", "O", "O"]]
    task = kinds.with_labels(kinds.generic_task(0, None, -1, kind="tokens"), [
        kinds.Sentence(("w",) * 5, ("O", "B-PER", "I-PER", "B-LOC", "O"))])
    split = tag_split(gold)
    run_report.write(run_of(tmp_path, task), {"dev": split}, {"dev": label_ids_of(task, predicted)})
    details = read_json(str(tmp_path / "results.json"))["details"]["dev"]
    assert details["mistakes"] == {"right": 1, "wrong type": 1, "wrong boundaries": 1,
                                   "not an entity": 1, "missed": 1}
    assert details["entity_types"]["PER"] == {
        "precision": 0.5, "recall": 0.25, "f1": pytest.approx(1 / 3), "support": 4, "predicted": 2}
    assert details["entity_types"]["LOC"]["f1"] == 0.0
    assert details["baseline"]["name"] == "all O"
    assert details["baseline"]["scores"]["f1"] == 0.0
    assert details["baseline"]["scores"]["accuracy"] == 0.4
    text = text_of(tmp_path)
    assert "finds **25.0 %** of the 4 entities in 2 sentences; of the 4 that it marks" in text
    assert (tmp_path / "report/entity_types.png").exists()
    first, second = rows_of(tmp_path, "errors.csv")
    assert (first["label"], first["prediction"], first["mistakes"]) == (
        "PER: word0 word1; PER: word4", "PER: word0; LOC: word2", "4")
    assert (second["prediction"], second["mistakes"]) == ("PER: word0 word1; LOC: word3", "2")


def test_a_model_that_marks_nothing_says_so(tmp_path):
    task = kinds.with_labels(kinds.generic_task(0, None, -1, kind="tokens"), [
        kinds.Sentence(("w", "w"), ("O", "B-PER"))])
    run_report.write(run_of(tmp_path, task), {"dev": tag_split([["O", "B-PER"]])},
                 {"dev": label_ids_of(task, [["O", "O"]])})
    text = text_of(tmp_path)
    assert "**no entity** in 1 sentence" in text and "no better than its baseline (all O)" in (
        text.replace("**", ""))


def test_a_failure_to_draw_loses_nothing(tmp_path, monkeypatch):
    task = class_task(["no", "yes"])
    warnings = []
    monkeypatch.setattr(class_report, "findings", lambda *arguments: 1 / 0)
    monkeypatch.setattr(run_report.logging, "warning", lambda text, *values: warnings.append(
        text % values))
    run_report.write(run_of(tmp_path, task), {"dev": class_split(task, [0, 1])},
                 {"dev": probabilities_of([0, 1], 2)})
    assert warnings == ["no report: ZeroDivisionError: division by zero; scores, checkpoints and "
                        "pack are complete"]


def test_baselines_have_the_keys_of_the_metrics(tmp_path):
    task = class_task(["no", "yes"])
    splits = {name: class_split(task, [0, 1, 1], name) for name in ("dev", "dev_mm", "test")}
    baselines = run_report.baselines_of_splits(run_of(tmp_path, task), splits, splits)
    assert baselines["eval_accuracy"] == baselines["test_accuracy"] == (
        "majority class", pytest.approx(2 / 3))
    assert set(baselines) == {
        "eval_accuracy", "eval_macro_f1", "eval_accuracy_mm", "eval_macro_f1_mm", "test_accuracy",
        "test_macro_f1"}
