"""run_finetuning.py on the tiny BERT: what is learned, asked and written."""
import json

import pytest
from packs import tiny_pack
from runs import write_domains

import adapter_bert
from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.packs import bases, store
from adapter_bert.research.meta import domains, finetuning
from adapter_bert.research.meta.finetuning_settings import FinetuningSettings, check


@pytest.fixture(name="data", scope="module")
def fixture_data(tmp_path_factory):
    return write_domains(tmp_path_factory.mktemp("data") / "dataset.json")


def go(**flags):
    """Runs with these flags on top of small ones; returns the points."""
    flags = {"test_domains": "toys", "max_seq_length": 20, "adapter_size": 4,
             "precision": "float32", **flags}
    return finetuning.run(FinetuningSettings(**flags), frozenset(flags))


def accuracies(points):
    return {one["shots"]: one["accuracy"]["mean"] for one in points}


def test_draws_of_a_new_domain(data, tiny_dir, tmp_path):
    flags = {"data": data, "bert_dir": tiny_dir, "shots": "16,0", "num_test_task": 3,
             "num_query": 20, "inner_update_step_eval": 2, "inner_update_lr": 0.02}
    points = go(output_dir=str(tmp_path / "out"), **flags)
    assert list(accuracies(points)) == [0, 16]
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["points"] == points and written["labels"] == ["negative", "positive"]
    assert [(draw["domain"], draw["draw"]) for draw in points[1]["draws"]] == [
        ("toys", number) for number in range(3)]
    assert written["train_domains"] == {"0": []}
    assert "| 16 | " in (tmp_path / "out" / "results.md").read_text()
    assert {"hyparams.txt", "few_shot.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


FULL = {"tuning": "full", "learning_rate": 5e-3, "epochs": 12, "batch_size": 8, "num_domain": 1}


def test_a_domain_teaches_another_one(data, tiny_dir, tmp_path):
    flags = {"data": data, "bert_dir": tiny_dir, "test_domains": "toys,games", **FULL}
    points = go(output_dir=str(tmp_path), seeds="3,4", **flags)
    assert accuracies(points)[None] > 0.8
    assert [(draw["seed"], draw["domain"]) for draw in points[0]["draws"]] == [
        (seed, name) for seed in (3, 4) for name in ("toys", "games")]
    chosen = json.loads((tmp_path / "results.json").read_text())["train_domains"]
    assert all(len(names) == 1 and names[0] in ("books", "music") for names in chosen.values())
    alone, = go(output_dir=str(tmp_path / "again"), seeds="4", **flags)
    assert alone["draws"] == points[0]["draws"][2:] != points[0]["draws"][:2]


def test_shots_come_after_the_domains(data, tiny_dir, tmp_path):
    points = go(data=data, bert_dir=tiny_dir, output_dir=str(tmp_path), shots="0,4",
                num_test_task=2, num_query=40, seeds="3", **FULL)
    assert accuracies(points)[0] > 0.8 and accuracies(points)[4] > 0.8


@pytest.fixture(name="pack")
def fixture_pack(tiny_dir, tmp_path):
    pack = tiny_pack(base=bases.base_of(tiny_dir), labels=("negative", "positive"),
                     max_seq_length=20)
    store.write(str(tmp_path / "pack"), pack)
    return str(tmp_path / "pack")


def test_zero_shot_of_a_pack_is_what_the_pack_says(data, tiny_dir, tmp_path, pack):
    points = go(data=data, bert_dir=tiny_dir, output_dir=str(tmp_path / "out"), pack=pack,
                zero_shot=True)
    examples = domains.read_dataset(data).domains["toys"]
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        answers = task.predict([example.text_a for example in examples])
    right = sum(answer.label == example.label
                for answer, example in zip(answers, examples, strict=True)) / len(examples)
    assert accuracies(points)[None] == pytest.approx(right) and 0 < right < 1
    draw, = points[0]["draws"]
    for part, of in (("answers", answers), ("labels", examples)):
        positive = sum(one.label == "positive" for one in of) / len(examples)
        assert draw[part] == pytest.approx({"negative": 1 - positive, "positive": positive})
    with pytest.raises(InputError, match="--seeds=0,1: with --zero_shot a start that has a head"):
        go(data=data, bert_dir=tiny_dir, output_dir=str(tmp_path / "out"), pack=pack,
           zero_shot=True, seeds="0,1")


def test_a_pack_of_other_labels_is_refused(data, tiny_dir, tmp_path):
    pack = tiny_pack(base=bases.base_of(tiny_dir), labels=("positive", "negative"))
    store.write(str(tmp_path / "pack"), pack)
    with pytest.raises(InputError, match="its labels are negative, positive, but those of .* are "
                                         "positive, negative"):
        go(data=data, bert_dir=tiny_dir, output_dir=str(tmp_path / "out"), zero_shot=True,
           pack=str(tmp_path / "pack"))


def test_a_training_domain_that_teaches_nothing(data, tiny_dir, tmp_path):
    rows = [row for row in files.read_json(data)
            if row["domain"] != "books" or row["label"] == "positive"]
    (tmp_path / "less.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match="domain books has the label positive only"):
        go(data=str(tmp_path / "less.json"), bert_dir=tiny_dir, output_dir=str(tmp_path / "out"))


def test_dropout_on_the_shots_does_not_depend_on_other_seeds(data, tiny_dir, tmp_path):
    flags = {"data": data, "bert_dir": tiny_dir, "shots": "8", "num_test_task": 2,
             "num_query": 20, "inner_update_lr": 0.02, "inner_update_step_eval": 2}
    both, = go(output_dir=str(tmp_path / "both"), seeds="1,2", **flags)
    second, = go(output_dir=str(tmp_path / "second"), seeds="2", **flags)
    assert both["draws"][2:] == second["draws"]


@pytest.mark.parametrize("flags, message", [
    ({"bert_model": "none/meta.epoch-1.step-2"}, "neither the folder of a base nor the prefix"),
    ({"num_labels": 3}, "--num_labels=3: .* has 2 labels"),
    ({"test_domains": "cars"}, "has no domain 'cars'"),
    ({"shots": "50", "num_query": 11}, "domain toys has 60 different texts, expected 61"),
    ({"tuning": "fully"}, "fully")])
def test_what_does_not_fit_data_or_base(data, tiny_dir, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        go(**{"data": data, "bert_dir": tiny_dir, "output_dir": str(tmp_path), **flags})


@pytest.mark.parametrize("flags, message", [
    ({"test_domains": ""}, "--test_domains is missing"),
    ({"shots": "8,few"}, "--shots=8,few: give whole numbers"),
    ({"shots": "-1"}, "--shots=-1: numbers must be"),
    ({"seeds": ""}, "--seeds=: give whole numbers"),
    ({"num_query": 0}, "--num_query=0: must be at least 1"),
    ({"learning_rate": 0.0}, "--learning_rate=0.0: must be above 0"),
    ({"inner_optimizer": "sgdm"}, "not one of adam, sgd"),
    ({"zero_shot": True, "shots": "8"}, "--zero_shot: learns nothing"),
    ({"zero_shot": True, "num_domain": 1}, "--zero_shot: learns nothing"),
    ({"pack": "a", "bert_model": "b"}, "both name a start"),
    ({"pack": "a"}, "name the folder of its base")])
def test_flags_that_no_run_can_have(flags, message):
    flags = {"data": "dataset.json", "test_domains": "toys", "output_dir": "out", **flags}
    with pytest.raises(InputError, match=message):
        check(FinetuningSettings(**flags), frozenset(flags))


def test_only_a_given_switch_is_zero_shot():
    assert FinetuningSettings().zero_shot is False
