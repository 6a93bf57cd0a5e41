"""Names in texts and answers to questions, in a graph: what packs.answers says of them."""
import functools
import pathlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY_VOCAB
from hypothesis import given, settings
from hypothesis import strategies as st
from packs import tiny_pack
from test_export import (
    assert_operations_are_tensorflows,
    assert_warm_up_runs,
    fixture_ask,  # noqa: F401
    fixture_exported,  # noqa: F401
    fixture_on,  # noqa: F401
)

import adapter_bert
from adapter_bert import kinds
from adapter_bert.bert import tokenization
from adapter_bert.data import padding
from adapter_bert.errors import InputError
from adapter_bert.export import graph_tokenizer
from adapter_bert.export.savedmodel import export
from adapter_bert.export.savedmodel_single import KINDS
from adapter_bert.packs import store
from adapter_bert.packs.answers import ANSWERS, names_in
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import Spans

SQUAD = pathlib.Path(__file__).parents[1] / "../shared/data/squad/dev.json"
IOB = ("O", "B-PER", "I-PER", "B-LOC")
TAGS = {"head": "tokens", "labels": IOB, "task": "NER"}
# Of pieces of a question and of a context 5 and 8 stay in a window, and windows overlap.
QA = {"head": "spans", "labels": (), "pair": True, "task": "QA", "spans": Spans(5, 3, 20, 6, None)}
MAYBE = {**QA, "spans": Spans(5, 3, 4, 6, -0.65)}
TEXTS = ["The FILM was good, a fine film", "\u00c9a \u4f60\u597d \U0001f642 very bad", "", "\u00ad",
         "a dull story ! " * 30, "not\u0301 \u039f\u0394\u039f\u03a3.b \uac00"]
CONTEXT = "The film was good. A st\u00f3ry\u0301 was \u4f60\u597d dull \U0001f642 very bad! "
PAIRS = [("the film", "It was a fine film."), ("good ?", CONTEXT), ("a " * 9, CONTEXT * 5),
         ("", "\u00ad plot"), ("film", "good " * 60), ("was it", "not\u0301 \ud55c\uae00 word7")]


def test_names_of_an_export(tiny_dir, exported, ask):
    """Each word's tag makes the names of load().predict; then there is padding."""
    pack, version = exported(**TAGS)
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        wanted = task.predict(TEXTS)
    found, = ask(version, [("serving_default", {"text_a": TEXTS})])
    counts = [8, 6, 0, 0, 120, 5]
    assert len(found["words"][0]) == max(counts) and sum(map(len, wanted)) > 15
    for row, (one, count, names) in enumerate(zip(TEXTS, counts, wanted, strict=True)):
        words, labels, starts, ends, probabilities = (
            found[name][row] for name in ("words", "label", "start", "end", "probability"))
        assert words[:count] == [one[start:end] for start, end in zip(
            starts[:count], ends[:count], strict=True)]
        assert [words[count:], labels[count:], starts[count:]] == [
            [value] * (max(counts) - count) for value in ("", "", -1)]
        assert all(labels[:min(count, 14)]) and not any(labels[14:])   # max_seq_length is 16
        same = names_in(one, np.stack([starts, ends], axis=1), [tag or "O" for tag in labels],
                        np.array(probabilities), IOB)
        assert [name[:4] for name in same] == [name[:4] for name in names]
        assert np.allclose([name.probability for name in same],
                           [name.probability for name in names], atol=1e-5)


@pytest.mark.parametrize("changes", [QA, MAYBE])
def test_answers_of_an_export(tiny_dir, exported, ask, changes):
    """The answer of load().predict; none, which it refuses, for a context without a word."""
    pack, version = exported(**changes)
    with adapter_bert.load(tiny_dir, pack, precision="float32") as task:
        wanted = task.predict(PAIRS)
        with pytest.raises(InputError, match="its context has no word"):
            task.predict([("film", "\u00ad")])
    questions, contexts = map(list, zip(*PAIRS, ("film", "\u00ad"), strict=True))
    found, none = ask(version, [
        ("serving_default", {"text_a": questions, "text_b": contexts}),
        ("serving_pairs", {"text_a": ["film"] * 2, "text_b": ["", " "]})])
    assert_answers(found, [*wanted, ("", None, None, 0.0)])
    assert_answers(none, [("", None, None, 0.0)] * 2)
    if changes is QA:
        assert all(found["answer"][:-1]) and found["start"][2] > len(CONTEXT)
    else:
        assert 0 < sum(map(bool, found["answer"])) < len(PAIRS)


def assert_answers(found, wanted):
    """An answer of the graph and (text, start, end, probability)s."""
    assert found["answer"] == [one[0] for one in wanted]
    for name, place in (("start", 1), ("end", 2)):
        assert found[name] == [-1 if one[place] is None else one[place] for one in wanted]
    assert np.allclose(found["probability"], [one[3] for one in wanted], atol=1e-5)


def test_ids(tiny_dir, exported, ask):
    """What is said of tokens: of a word that is one piece what is said of the word."""
    rows = {"input_ids": [[2, 5, 7, 3], [2, 3, 0, 0]], "input_mask": [[1] * 4, [1, 1, 0, 0]],
            "segment_ids": [[0] * 4] * 2}
    version = exported(**TAGS)[1]
    found, of_text = ask(version, [("ids", rows), ("serving_default", {"text_a": ["good film"]})])
    assert found["labels"] == [list(IOB)] * 2 and np.shape(found["probabilities"]) == (2, 4, 4)
    of_words = np.array(found["probabilities"][0][1:3])
    assert [IOB[number] for number in of_words.argmax(axis=1)] == of_text["label"][0]
    assert np.allclose(of_words.max(axis=1), of_text["probability"][0], atol=1e-6)
    found, = ask(exported(**QA, ids_only=True)[1], [("serving_default", rows)])
    assert found.keys() == {"start_logits", "end_logits"}
    assert np.shape(found["start_logits"]) == (2, 4)


@pytest.mark.parametrize("changes,ways", [(TAGS, 2), (QA, 3), (MAYBE, 3)])
def test_what_an_export_is_made_of(exported, tmp_path, changes, ways):
    version = exported(**changes)[1]
    assert_operations_are_tensorflows(version, tmp_path, False)
    assert_warm_up_runs(version, ["predict_log"] * 2 * ways)
    names = pathlib.Path(version, "assets/labels.txt").read_text().split()
    assert names == list(changes["labels"])


def test_they_are_exported_alone(tiny_dir, on, tmp_path):
    paths = [str(tmp_path / f"{name}.zip") for name in "ab"]
    for changes, message in ((TAGS, "NER: a head for tokens is exported alone"),
                             (QA, "QA: a head for spans is exported alone")):
        for path, values in zip(paths, ({}, changes), strict=True):
            store.write(path, tiny_pack(base=on, **values))
        with pytest.raises(InputError, match=message):
            export(tiny_dir, paths, str(tmp_path / "model"))


class Graph:
    """A kind of head's steps in a graph, without a model between them.

    Args:
      manifest: manifest.Manifest.
      outputs: {name: type} of the predictions that are fed.
    """

    def __init__(self, tiny_dir, manifest, outputs):
        self.manifest, kind = manifest, KINDS[manifest.head]
        self.python = tokenization.FullTokenizer(f"{tiny_dir}/vocab.txt")
        with tf.Graph().as_default():
            self._texts = [tf.placeholder(tf.string, [None]) for _ in range(2)]
            self._columns, asked = kind.features(
                manifest,
                graph_tokenizer.GraphTokenizer(self.python.vocab, True),
                *self._texts,
                None,
            )
            self._fed = {name: tf.placeholder(tf.float32, shape)
                         for name, shape in outputs.items()}
            self._answers = kind.answers(manifest, asked, self._fed)
            self._session = tf.Session()

    def _feed(self, given):
        pairs = [one if isinstance(one, tuple) else (one, "") for one in given]
        return {place: list(column) for place, column in zip(
            self._texts, zip(*pairs, strict=True), strict=True)}

    def check_rows(self, given):
        """The rows and what was asked, which packs.answers and the graph have alike."""
        (rows, asked), = ANSWERS[self.manifest.head].rows(self.manifest, self.python, given)
        found = self._session.run(self._columns, self._feed(given))
        wanted = padding.padded(rows)
        assert found.keys() == wanted.keys()
        for name, column in wanted.items():
            assert np.array_equal(found[name], column), (name, given)
        return asked, wanted["input_ids"].shape

    def answers(self, given, predictions):
        """{name: list} of texts or pairs, and of predictions that are fed."""
        found = self._session.run(self._answers, {**self._feed(given), **{
            self._fed[name]: value for name, value in predictions.items()}})
        return {name: value.tolist() for name, value in found.items()}


@functools.lru_cache
def graph_of(tiny_dir, *spans):
    """The Graph of tokens, or of spans with these Spans and windows of 12 pieces."""
    changes = {**QA, "spans": Spans(*spans), "max_seq_length": 12} if spans else TAGS
    outputs = dict.fromkeys(("start_logits", "end_logits"), [None, None]) if spans else {
        "logits": [None, None, len(IOB)]}
    return Graph(tiny_dir, tiny_pack(**changes).manifest, outputs)


PARTS = st.sampled_from([*TINY_VOCAB[5:9], "##s", " ", " ", "\u00ad", "\u0301", "\u00c9", "\u4f60",
                         "\U0001f642", "\uac00", ".", "\u03a3", "\ufdd0"])
ANY_TEXTS = st.lists(PARTS, max_size=20).map("".join)
SEEDS = st.integers(0, 999)


@settings(deadline=None, max_examples=60)
@given(st.lists(ANY_TEXTS, min_size=1, max_size=3), SEEDS)
def test_any_names(tiny_dir, given, seed):
    graph = graph_of(tiny_dir)
    asked, shape = graph.check_rows(given)
    logits = np.random.default_rng(seed).normal(0, 2, [*shape, len(IOB)]).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    wanted = ANSWERS["tokens"].answers(graph.manifest, asked, [
        {"label_ids": one.argmax(axis=-1), "probabilities": one.max(axis=-1)} for one in shares])
    found = graph.answers(given, {"logits": logits})
    for row, (one, own, names) in enumerate(zip(given, asked, wanted, strict=True)):
        count = len(own.spans)
        spans = np.stack([found["start"][row], found["end"][row]], axis=1)[:count]
        assert np.array_equal(spans, own.spans)
        tags = [tag.decode() or "O" for tag in found["label"][row][:count]]
        same = names_in(one, spans, tags, np.array(found["probability"][row]), IOB)
        assert [name[:4] for name in same] == [name[:4] for name in names]
        assert np.allclose([name[4] for name in same], [name[4] for name in names], atol=1e-5)


# Logits of few values, so that many are equal: then the order decides.
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(ANY_TEXTS, ANY_TEXTS.map("film {}".format)), min_size=1, max_size=3),
       SEEDS, st.booleans(), st.sampled_from([(4, 3, 20, 4, None), (3, 2, 1, 9, None),
                                              (4, 3, 3, 4, 0.5), (4, 9, 20, 30, -1.0)]))
def test_any_answers(tiny_dir, given, seed, is_coarse, spans):
    graph = graph_of(tiny_dir, *spans)
    asked, shape = graph.check_rows(given)
    random = np.random.default_rng(seed)
    fed = {name: random.normal(0, 3, shape).round(0 if is_coarse else 9).astype(np.float32)
           for name in ("start_logits", "end_logits")}
    outputs = [{name: values[row] for name, values in fed.items()} for row in range(shape[0])]
    wanted = ANSWERS["spans"].answers(graph.manifest, asked, outputs)
    found = graph.answers(given, fed)
    found["answer"] = list(map(bytes.decode, found["answer"]))
    assert_answers(found, wanted)


@pytest.mark.long
@pytest.mark.skipif(not SQUAD.is_file(), reason="SQuAD's files are not in ../shared/data/squad")
def test_all_of_squad_dev(minilm_dir, tmp_path, ask):
    """A real base, real contexts and their windows: all answers, the largest difference."""
    examples = kinds.read_squad(str(SQUAD))
    pairs = [(example.question, example.context) for example in examples]
    pairs += [(question, " ".join(dict.fromkeys(context for _, context in pairs[start:start + 40])))
              for start, (question, _) in enumerate(pairs[:5])]
    path = str(tmp_path / "p.zip")
    store.write(path, tiny_pack(base=base_of(minilm_dir), **{
        **QA, "max_seq_length": 384, "spans": Spans(64, 128, 20, 30, None)}))
    # Random adapters make hidden states so large that fused kernels differ by 1e-4.
    with adapter_bert.load(minilm_dir, path, precision="float32", kernels="plain") as task:
        wanted = task.predict(pairs)
    version = export(minilm_dir, [path], str(tmp_path / "squad"))
    questions, contexts = map(list, zip(*pairs, strict=True))
    found = ask(version, [("serving_default", {
        "text_a": questions[start:start + 8], "text_b": contexts[start:start + 8]})
                          for start in range(0, len(pairs), 8)])
    found = {name: [one for part in found for one in part[name]] for name in found[0]}
    shares = np.abs(np.array(found["probability"]) - [one.probability for one in wanted])
    print(f"largest difference {shares.max():.2e} of {len(wanted)} answers")
    assert_answers(found, wanted)
    assert len(wanted) > 150 and len(set(found["answer"])) > 50
