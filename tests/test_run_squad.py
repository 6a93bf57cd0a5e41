"""The command run_squad.py: from files in SQuAD's form to answers, scores and a pack."""
import glob
import os
import subprocess
import sys

import numpy as np
import pytest
from packs import tiny_pack
from runs import go_squad, go_squad_with, same, values, write, write_squad

import adapter_bert
from adapter_bert import kinds
from adapter_bert.cli.pack import lines
from adapter_bert.errors import InputError
from adapter_bert.files import read_json, write_json
from adapter_bert.kinds.squad_scores import squad_scores
from adapter_bert.packs import adapterhub, manifest, store
from adapter_bert.packs.average import average
from adapter_bert.packs.bases import base_of
from adapter_bert.train import initial_values

pytestmark = pytest.mark.slow
FILES = ("predictions", "nbest_predictions", "null_odds")
SPANS = manifest.Spans(4, 6, 20, 30, None)


@pytest.fixture(name="data", scope="module")
def fixture_data(tmp_path_factory):
    """Flags with the files: questions of which a quarter has no answer, windows of 20 pieces."""
    folder = tmp_path_factory.mktemp("squad")
    return {"train_file": write_squad(folder / "train.json", 500, 0, impossible=0.25),
            "predict_file": write_squad(folder / "dev.json", 60, 1, impossible=0.25),
            "version_2_with_negative": True}


@pytest.fixture(name="learned", scope="module")
def fixture_learned(data, tiny_dir, tmp_path_factory):
    """The folder of a trained run, never to be changed, and its metrics."""
    out = str(tmp_path_factory.mktemp("learned") / "out")
    return out, go_squad(**data, bert_dir=tiny_dir, output_dir=out, do_train=True, do_eval=True,
                         do_predict=True, tuning="top_layers=2", num_train_epochs=3.0,
                         bias_correction=True, eval_steps=150, keep_best=True,
                         precision="float32", null_score_diff_threshold=0.5)


@pytest.fixture(name="examples", scope="module")
def fixture_examples(data):
    return kinds.read_squad(data["predict_file"])


def from_pack(learned, out, tiny_dir, data, **flags):
    """The metrics of a run that predicts with the pack of `learned`; that knows other flags."""
    return go_squad_with({
        "predict_file": data["predict_file"], "bert_dir": tiny_dir, "output_dir": str(out),
        "do_predict": True, "precision": "float32", "pack": f"{learned[0]}/pack", **flags})


def content(folder, names=FILES):
    return [read_json(f"{folder}/{name}.json") for name in names]


def test_it_learns_and_says_so(learned):
    out, metrics = learned
    assert metrics["eval_f1"] > 85 and metrics["eval_NoAns_f1"] > 85
    assert metrics["eval_exact"] <= metrics["eval_f1"] <= metrics["eval_best_f1"]
    assert read_json(f"{out}/results.json")["metrics"] == metrics
    with open(f"{out}/eval_results.txt", encoding="utf-8") as file:
        assert f"eval_f1 = {metrics['eval_f1']}\n" in file
    history = read_json(f"{out}/eval_history.json")
    best = max(history, key=lambda row: row["eval_f1"])
    assert len(history) == 2 and best["global_step"] == metrics["global_step"]


def test_files_have_the_official_forms_and_scores(learned, examples):
    predictions, n_best, odds = content(learned[0])
    assert list(predictions) == list(n_best) == list(odds) == [row.id for row in examples]
    by_script = squad_scores(examples, predictions)
    assert {f"eval_{name}": value for name, value in by_script.items()}.items() <= (
        learned[1].items())
    wrong = {name: "it" for name in predictions}
    assert squad_scores(examples, wrong)["f1"] < by_script["f1"] / 2
    for example in examples:
        rows, text = n_best[example.id], predictions[example.id]
        assert set(rows[0]) == {"text", "probability", "start_logit", "end_logit"}
        assert sum(row["probability"] for row in rows) == pytest.approx(1)
        assert text in example.context and text in [row["text"] for row in rows]
        assert (text == "") == (odds[example.id] > 0.5)


def test_answers_of_later_windows_are_found(learned, examples):
    """20 pieces a window hold at most 15 of a context, and most contexts are longer."""
    assert read_json(f"{learned[0]}/dev.tf_record.json")["count"] > 1.5 * len(examples)
    predictions, = content(learned[0], FILES[:1])
    later = [row for row in examples if row.answers and row.context[:row.answers[0][1]].count(
        " ") > 15]
    right = sum(predictions[row.id] == row.answers[0][0] for row in later)
    assert len(later) > 8 and right > 0.7 * len(later)


def test_a_pack_answers_as_its_run(learned, data, tiny_dir, tmp_path, examples):
    pack = store.read(f"{learned[0]}/pack").manifest
    assert pack.spans == manifest.Spans(4, 6, 20, 30, 0.5) and pack.pair
    assert pack.metrics == learned[1]
    assert from_pack(learned, tmp_path, tiny_dir, data)["eval_f1"] == learned[1]["eval_f1"]
    written = content(learned[0])
    assert content(tmp_path) == written
    pairs = [(row.question, row.context) for row in examples]
    with adapter_bert.load(tiny_dir, f"{learned[0]}/pack", precision="float32") as task:
        found = task.predict(pairs)
        assert task.predict(pairs[:1]) == found[:1] and task.predict([]) == []
    assert [answer.text for answer in found] == list(written[0].values())
    for answer, (_, context), n_best in zip(found, pairs, written[1].values(), strict=True):
        assert [one.text for one in answer.n_best] == [row["text"] for row in n_best]
        assert answer.text == ("" if answer.start is None else context[answer.start:answer.end])
        assert np.allclose([one.probability for one in answer.n_best],
                           [row["probability"] for row in n_best], atol=1e-5)
        assert answer.probability in [one.probability for one in answer.n_best]


def without_answers(path, to):
    """The file at `path` without its answers, as a test file is handed out."""
    file = read_json(path)
    for article in file["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [{key: row[key] for key in ("id", "question")}
                                for row in paragraph["qas"]]
    write_json(str(to), file)
    return str(to)


def test_a_file_without_answers_is_answered(learned, data, tiny_dir, tmp_path):
    """With the run's checkpoint, whose run.json knows how contexts are cut, but no threshold."""
    flags = {"predict_file": without_answers(data["predict_file"], tmp_path / "test.json"),
             "pack": None, "init_checkpoint": initial_values.best_or_latest(learned[0]),
             "null_score_diff_threshold": 0.5}
    out = tmp_path / "out"
    assert from_pack(learned, out, tiny_dir, data, **flags) == {}
    assert content(out) == content(learned[0]) and not (out / "eval_results.txt").exists()
    with pytest.raises(InputError, match=r"test\.json: has no answers to be scored against"):
        from_pack(learned, tmp_path / "eval", tiny_dir, data, **flags, do_eval=True)


def test_every_question_answered(learned, data, tiny_dir, tmp_path):
    """Version 1.1, in a folder in which version 2.0 was run before."""
    from_pack(learned, tmp_path, tiny_dir, data)
    assert (tmp_path / "null_odds.json").exists()
    path = write_squad(tmp_path / "dev.json", 8, 2)
    metrics = from_pack(learned, tmp_path, tiny_dir, data, predict_file=path,
                        version_2_with_negative=False, max_answer_length=1)
    assert not (tmp_path / "null_odds.json").exists()
    predictions, n_best = content(tmp_path, FILES[:2])
    assert all(predictions.values())
    assert not any(" " in row["text"] for rows in n_best.values() for row in rows)
    scores = squad_scores(kinds.read_squad(path), predictions)
    assert set(scores) == {"exact_match", "f1"}
    assert {f"eval_{name}": value for name, value in scores.items()}.items() <= metrics.items()


def test_an_interrupted_run_ends_as_if_it_was_not(data, tiny_dir, tmp_path):
    """With the pooler, which answers do not read, in its pack."""
    out = str(tmp_path / "out")
    flags = {**data, "train_file": write_squad(tmp_path / "train.json", 24), "bert_dir": tiny_dir,
             "do_train": True, "save_checkpoints_steps": 2, "output_dir": out,
             "tuning": "adapters_pooler"}
    metrics = go_squad(**flags, do_eval=True)
    last = initial_values.latest(out)
    assert metrics["global_step"] == initial_values.global_step(last) > 4
    assert not os.path.exists(f"{out}/predictions.json")   # which --do_predict writes
    assert "bert/pooler/dense/kernel" in store.read(f"{out}/pack").weights
    wanted = values(last)
    os.remove(f"{last}.index")
    for name in ("doc_stride", "max_query_length"):
        with pytest.raises(InputError, match=f"--{name}: . then, 3 now"):
            go_squad(**{**flags, name: 3})
    go_squad(**flags)
    assert same(values(last), wanted)
    write_squad(flags["train_file"], 25)
    with pytest.raises(InputError, match="other training data"):
        go_squad(**flags)


def test_everything_may_be_tuned(data, tiny_dir, tmp_path):
    metrics = go_squad(**data, bert_dir=tiny_dir, output_dir=str(tmp_path), do_train=True,
                       do_eval=True, tuning="full", max_train_examples=20, num_train_epochs=0.5)
    assert metrics["global_step"] >= 1 and not (tmp_path / "pack").exists()
    counts = read_json(str(tmp_path / "results.json"))["counts"]["variables"]
    assert counts["head"]["trained"] and "frozen" not in counts


# Bad input.

def spoiled(change):
    """A function of flags that changes the first article of --train_file."""
    def spoil(flags):
        file = read_json(flags["train_file"])
        change(file["data"][0])
        write_json(flags["train_file"], file)
    return spoil


def question_of(article):
    return article["paragraphs"][0]["qas"][0]


def move_answers(article):
    """One answer beside its place, and one more that is right; another question has a bad one."""
    first, second = (paragraph["qas"][0] for paragraph in article["paragraphs"][:2])
    bad = {"text": "very good", "answer_start": 1}
    first["answers"].append(bad)
    second["answers"] = [bad]


@pytest.fixture(name="flags")
def fixture_flags(tmp_path, tiny_dir):
    """Flags of a run that works, on files that a test may break."""
    return {"train_file": write_squad(tmp_path / "train.json", 8),
            "predict_file": write_squad(tmp_path / "dev.json", 4, 1), "bert_dir": tiny_dir,
            "output_dir": str(tmp_path / "out"), "do_train": True, "do_predict": True,
            "train_batch_size": 4, "num_train_epochs": 1.0}


@pytest.mark.parametrize("spoil, changes, message", [
    (lambda f: write(f["train_file"], ['{"data": [']), {}, r"train.json: not readable as JSON"),
    (lambda f: os.remove(f["predict_file"]), {}, r"dev.json: no such file"),
    (spoiled(move_answers), {}, r"article 1, paragraph 1, question 'q0': found .* at 1, expected "
     r"the answer 'very good'; mend it, or leave such out with --bad_answers=skip"),
    (spoiled(lambda a: a["paragraphs"][1].update(context=" ")), {}, r"paragraph 2: the context is"),
    (spoiled(lambda a: question_of(a).update(answers=[], is_impossible=True)), {},
     r"train.json: 1 of 8 questions are marked is_impossible; give --version_2_with_negative"),
    (spoiled(lambda a: question_of(a).update(question="film " * 30)), {"max_query_length": 17},
     r"train.json, question 'q0': its 17 word pieces leave no room for the context in "
     r"--max_seq_length=20"),
    (spoiled(lambda a: question_of(a).pop("answers")), {}, r"question 'q0': lacks answers"),
    (None, {"train_file": None}, r"--train_file is missing"),
    (None, {"predict_file": None}, r"--predict_file is missing"),
    (None, {"predict_file": None, "do_predict": False, "keep_best": True}, r"--predict_file is"),
    (None, {"predict_file": "~/dev.json"}, r"--predict_file=~/dev.json: the shell left"),
    (None, {"doc_stride": 0}, r"--doc_stride=0: must be at least 1"),
    (None, {"max_query_length": -1}, r"--max_query_length=-1: must be at least 0"),
    (None, {"bad_answers": "mend"}, r"--bad_answers=mend: not one of refuse, skip"),
    (None, {"null_score_diff_threshold": float("inf")}, r"--null_score_diff_threshold=inf"),
    (None, {"max_seq_length": 384}, r"--max_seq_length=384: this BERT has 24 positions"),
    (None, {"do_train": False}, r"no checkpoint of a trained task")])
def test_bad_input_is_one_line(flags, spoil, changes, message):
    if spoil:
        spoil(flags)
    with pytest.raises(InputError, match=message) as caught:
        go_squad(**{**flags, **changes})
    assert "\n" not in str(caught.value)
    assert not glob.glob(f"{flags['output_dir']}/predictions.json")


def test_bad_answers_are_skipped_and_counted(learned, flags, data, tiny_dir, tmp_path, caplog):
    """One of eight questions is left with none."""
    spoiled(move_answers)(flags)
    with caplog.at_level("INFO", logger="absl"):
        from_pack(learned, tmp_path / "dev", tiny_dir, data, predict_file=flags["train_file"],
                  bad_answers="skip")
    assert ("2 answers that are not at their offset left out, and 1 of 8 questions with them"
            in caplog.text)
    predictions, = content(tmp_path / "dev", FILES[:1])
    assert list(predictions) == [f"q{number}" for number in range(8) if number != 1]


def test_a_pack_of_another_kind_is_refused(learned, data, tiny_dir, tmp_path):
    store.write(str(tmp_path / "pack"), tiny_pack(base=base_of(tiny_dir), pair=True))
    with pytest.raises(InputError, match="for classification, and SQuAD is a task of spans"):
        from_pack(learned, tmp_path / "out", tiny_dir, data, pack=str(tmp_path / "pack"))


def test_entries_of_predict(tiny_dir):
    pack = tiny_pack(base=base_of(tiny_dir), head="spans", labels=(), pair=True, spans=SPANS)
    with adapter_bert.load(tiny_dir, pack) as task:
        answer, = task.predict([("the film", "caf\u00e9 \u00adfilms ")])
        assert answer.text == "caf\u00e9 \u00adfilms "[answer.start:answer.end] != ""
        for entry, message in (("film", "text 1: 'film' is no pair of question and context"),
                               (("film", 3), "text 1: .*neither a text nor a pair"),
                               (("film", "\u00ad"), "question '1': its context has no word")):
            with pytest.raises(InputError, match=message):
                task.predict([("film", "film"), entry])


def test_other_forms_of_a_pack(tiny_dir, tmp_path):
    pack = tiny_pack(base=base_of(tiny_dir), head="spans", labels=(), pair=True, spans=SPANS,
                     tuning="adapters_only")
    shown = "\n".join(lines(store.write(str(tmp_path / "pack"), pack)))
    assert "parts of the second text" in shown and "always an answer" in shown
    assert average({"a": pack, "b": pack}).manifest.spans == SPANS
    with pytest.raises(InputError, match="a head for spans, which is not written in AdapterHub's"):
        adapterhub.write(pack, str(tmp_path / "hub"), "answers")


def test_help_has_every_flag_of_bert():
    done = subprocess.run([sys.executable, "run_squad.py", "--help"], capture_output=True,
                          text=True, check=False)
    for flag in ("bert_config_file", "vocab_file", "output_dir", "train_file", "predict_file",
                 "init_checkpoint", "do_lower_case", "max_seq_length", "doc_stride",
                 "max_query_length", "do_train", "do_predict", "train_batch_size",
                 "predict_batch_size", "learning_rate", "num_train_epochs", "warmup_proportion",
                 "save_checkpoints_steps", "iterations_per_loop", "n_best_size",
                 "max_answer_length", "use_tpu", "tpu_name", "tpu_zone", "gcp_project", "master",
                 "num_tpu_cores", "verbose_logging", "version_2_with_negative",
                 "null_score_diff_threshold"):
        assert f"--{flag}" in done.stdout or f"--[no]{flag}" in done.stdout, flag
    assert "(default: '384')" in done.stdout
