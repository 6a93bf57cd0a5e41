"""Words with tags: CoNLL files, word pieces, names and scores, runs, packs and predictions."""
import itertools
import os
import random
import tempfile

import hypothesis
import numpy as np
import pytest
import seqeval.metrics
import tensorflow.compat.v1 as tf
from hypothesis import strategies as st
from packs import tiny_pack
from runs import go, write

import adapter_bert
from adapter_bert import kinds, network
from adapter_bert.bert import tokenization
from adapter_bert.data import features
from adapter_bert.errors import InputError
from adapter_bert.files import read_json
from adapter_bert.kinds import heads, words
from adapter_bert.kinds.conll import Sentence
from adapter_bert.kinds.entities import Span, entities, entity_scores
from adapter_bert.packs import store
from adapter_bert.packs.average import average
from adapter_bert.packs.bases import base_of

NER = kinds.get_task("NER")
IOB = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
COLUMNS = """\ufeff-DOCSTART- -X- -X- O

EU\tNNP  B-NP \tB-ORG
rejects VBZ B-VP O\r
\u00a0 X Y O

  \t
Peter NNP B-NP B-PER
-DOCSTART- -X- -X- O
1996-08-22 CD I-NP O"""


@pytest.fixture(name="tokenizer", scope="module")
def fixture_tokenizer(tiny_dir):
    return tokenization.FullTokenizer(os.path.join(tiny_dir, "vocab.txt"))


def read(folder, text, split="train", task=NER):
    name = "valid" if split == "dev" else split
    (folder / f"{name}.txt").write_bytes(text.encode("utf-8"))
    return kinds.read_sentences(task, str(folder), split)


# Files.

def test_columns(tmp_path):
    found = read(tmp_path, COLUMNS)
    assert found == [
        Sentence(("EU", "rejects", "\u00a0"), ("B-ORG", "O", "O")),
        Sentence(("Peter",), ("B-PER",)), Sentence(("1996-08-22",), ("O",))]
    assert kinds.with_labels(NER, found).labels == ("O", "B-ORG", "B-PER")


def test_columns_of_a_custom_task(tmp_path):
    task = kinds.generic_task("1", None, "2", kind="tokens")
    found = read(tmp_path, "1 Er PRON x\n2 da ADV x\n", task=task)
    assert found == [Sentence(("Er", "da"), ("PRON", "ADV"))]
    assert kinds.with_labels(task, found).labels == ("ADV", "PRON")
    assert read(tmp_path, "1 Er\n", "test", task) == [Sentence(("Er",), None)]
    with pytest.raises(InputError, match="'word'.*have no names"):
        kinds.generic_task("word", None, "-1", kind="tokens")
    with pytest.raises(InputError, match="--text_b_column=2: tokens have one column"):
        kinds.generic_task(0, 2, 1, kind="tokens")


@pytest.mark.parametrize("text, tags", [
    ("a\nb\n", None), ("a x O\nb x B-PER\n", ("O", "B-PER"))])
def test_a_test_split_may_have_tags(tmp_path, text, tags):
    assert read(tmp_path, text, "test") == [Sentence(("a", "b"), tags)]


@pytest.mark.parametrize("text, split, message", [
    ("", "train", r"train.txt: the file has no words; NER needs train examples"),
    ("\n-DOCSTART- O\n \n", "dev", "valid.txt: the file has no words"),
    ("a O\n\nb x O\n", "train", r"train.txt, line 3: 3 columns, expected 2 as in line 1"),
    ("\na x O\nb\n", "test", r"test.txt, line 3: 1 column, expected 3 as in line 2"),
    ("\nword\n", "dev", r"valid.txt, line 2: 1 column, and words are read in column 0"),
    ("a O\nb B-DAT\n", "dev", r"valid.txt, line 2: found label 'B-DAT', expected 'O' or 'B-LOC'"),
    ("a O\nb NN\n", "test", r"test.txt, line 2: found label 'NN', expected 'O' or 'B-LOC'"),
    ("a O\nb\0 O\n", "train", r"train.txt, line 2: found a NUL"),
    ("a O\n\udcff O\n", "train", r"train.txt, line 2: found byte 0xff")])
def test_what_is_refused(tmp_path, text, split, message):
    path = tmp_path / f"{'valid' if split == 'dev' else split}.txt"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    task = NER if split == "train" else kinds.with_labels(NER, [Sentence(("a",), IOB)])
    with pytest.raises(InputError, match=message) as caught:
        kinds.read_sentences(task, str(tmp_path), split)
    assert "\n" not in str(caught.value)


def test_names_of_files(tmp_path):
    with pytest.raises(InputError, match="dev.txt or dev.conll or dev.conllu or valid.txt .*: no "):
        kinds.read_sentences(NER, str(tmp_path), "dev")
    write(tmp_path / "dev.conll", ["a O"])
    assert kinds.read_sentences(NER, str(tmp_path), "dev")
    with pytest.raises(InputError, match="contains dev.conll and valid.txt; leave only one"):
        read(tmp_path, "a O\n", "dev")


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.lists(st.lists(st.tuples(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r \ufeff"),
            min_size=1).filter(lambda word: word != "-DOCSTART-"),
    st.sampled_from(IOB)), min_size=1), min_size=1))
def test_what_is_written_is_read(sentences):
    text = "\n".join("".join(f"{word} {tag}\n" for word, tag in rows) for rows in sentences)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/train.txt", "w", encoding="utf-8", newline="") as file:
            file.write(text)
        found = kinds.read_sentences(NER, folder, "train")
    assert [list(zip(*sentence, strict=True)) for sentence in found] == sentences


# Word pieces.

# Words of one piece and of several, unknown ones, with white space inside, and without a piece.
WORDS = st.sampled_from(["film", "films", "filmss!", "the", "The", "x", "a b", "\u00ad", "\u0301",
                         "", "good.", "\u00e9", "very"])
SENTENCES = st.lists(st.lists(st.tuples(WORDS, st.sampled_from(IOB)), max_size=12), min_size=1,
                     max_size=5)


def by_hand(tokenizer, sentence, most):
    """(word pieces, (place, tag) of each mark, which words have one, how many are cut)."""
    pieces, marks, has_mark, cut = ["[CLS]"], [], [], 0
    for word, tag in sentence:
        own = tokenizer.tokenize(word)
        has_mark.append(bool(own) and len(pieces) < most - 1)
        cut += bool(own) and not has_mark[-1]
        if has_mark[-1]:
            marks.append((len(pieces), tag))
        pieces += own
    return [*pieces[:most - 1], "[SEP]"], marks, has_mark, cut


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(SENTENCES, st.integers(3, 16))
def test_first_pieces_and_their_tags(tokenizer, sentences, most):
    index = {tag: number for number, tag in enumerate(IOB)}
    given = [Sentence(*map(tuple, zip(*rows, strict=True))) if rows else Sentence((), ())
             for rows in sentences]
    rows, = words.featurize(given, tokenizer, most, index, first=7)
    encoded = words.encode([sentence.words for sentence in given], tokenizer, most)
    assert rows.columns["index"].tolist() == list(range(7, 7 + len(given)))
    all_ids, all_starts, all_labels = (
        np.split(rows.columns[name], np.cumsum(rows.lengths)[:-1])
        for name in ("input_ids", "word_starts", "label_ids"))
    places, all_cut = iter(encoded.places.tolist()), 0
    for sentence, ids, starts, labels in zip(sentences, all_ids, all_starts, all_labels,
                                             strict=True):
        pieces, marks, has_mark, cut = by_hand(tokenizer, sentence, most)
        all_cut += cut
        assert tokenizer.convert_ids_to_tokens(ids.tolist()) == pieces
        assert np.flatnonzero(starts).tolist() == [place for place, _ in marks]
        assert [IOB[label] for label in labels[starts == 1]] == [tag for _, tag in marks]
        assert not labels[starts == 0].any()
        found = list(itertools.islice(places, len(sentence)))
        assert [place for place in found if place] == [place for place, _ in marks]
        assert [place > 0 for place in found] == has_mark
    assert encoded.cut == all_cut and not rows.columns["segment_ids"].any()


def test_order_is_kept_over_chunks(tokenizer, monkeypatch):
    monkeypatch.setattr(features, "TEXTS_AT_ONCE", 2)
    given = [Sentence(("films",) * count, None) for count in (1, 2, 3)]
    parts = list(words.featurize(given, tokenizer, 16, {}))
    assert [part.columns["index"].tolist() for part in parts] == [[0, 1], [2]]
    assert [part.columns["word_starts"].sum() for part in parts] == [3, 3]
    assert "label_ids" not in parts[0].columns


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(st.lists(st.sampled_from([
    "film", "s", "\u00c9", "\u0301", "\u00ad", "\u4f60", "z", ".", "'", " ", "\t", "\u00a0"])).map(
        "".join)))
def test_words_of_texts(tokenizer, texts):
    for text, spans in zip(texts, words.spans_of(texts, tokenizer), strict=True):
        found = [tokenizer.basic_tokenizer.tokenize(text[start:end]) for start, end in spans]
        assert all(len(word) == 1 for word in found)
        assert [word for word, in found] == tokenizer.basic_tokenizer.tokenize(text)


# The head.

class Sequence:
    """A BERT that gives these vectors, [B, T, D]."""

    def __init__(self, values):
        self.values = values

    def get_sequence_output(self):
        return tf.constant(self.values, tf.float32)


def test_loss_is_the_mean_over_words():
    source = np.random.default_rng(0)
    x, weights, bias = (source.normal(size=shape) for shape in ([2, 3, 4], [5, 4], [5]))
    starts, labels = np.array([[0, 1, 1], [1, 0, 0]]), np.array([[0, 3, 1], [2, 0, 4]])
    output = heads.HEADS["tokens"].build(
        Sequence(x), {"word_starts": tf.constant(starts), "label_ids": tf.constant(labels)}, 5,
        network.undropped)
    with tf.Session() as session:
        network.load(session, zip(tf.global_variables(), (weights, bias), strict=True))
        loss, found = session.run([heads.batch_loss(output), output.predictions])
    logits = x @ weights.T + bias
    wanted = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)          # [2, 3, 5]
    of_labels = np.take_along_axis(wanted, labels[..., np.newaxis], axis=-1)[..., 0]
    assert loss == pytest.approx(-np.log(of_labels)[starts == 1].mean(), abs=1e-5)
    assert (found["label_ids"] == wanted.argmax(axis=-1)).all()
    assert np.allclose(found["probabilities"], wanted.max(axis=-1), atol=1e-6)


# Names and scores.

@pytest.mark.parametrize("tags, labels, wanted", [
    ("B-PER I-PER O B-LOC B-LOC", IOB, [("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5)]),
    ("I-PER I-PER B-PER O I-LOC I-PER", IOB, [
        ("PER", 0, 2), ("PER", 2, 3), ("LOC", 4, 5), ("PER", 5, 6)]),       # IOB1
    ("B-A E-A S-A O", ("O", "B-A", "E-A", "S-A"), [("A", 0, 2), ("A", 2, 3)]),
    ("B-A L-A U-A U-A", ("B-A", "L-A", "U-A"), [("A", 0, 2), ("A", 2, 3), ("A", 3, 4)]),
    ("B I O", ("O", "B", "I"), [("_", 0, 2)]),
    ("NN NN B O", ("NN", "B", "O"), [("NN", 0, 1), ("NN", 1, 2), ("B", 2, 3)]),
    ("", IOB, [])])
def test_names_in_tags(tags, labels, wanted):
    assert entities(tags.split(), labels) == [Span(*span) for span in wanted]


TAGS = st.lists(st.tuples(st.sampled_from(IOB), st.sampled_from(IOB)), min_size=1, max_size=8)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.lists(TAGS, min_size=1, max_size=4))
def test_scores_count_names(pairs):
    gold, predicted = ([[pair[side] for pair in rows] for rows in pairs] for side in (0, 1))
    scores = entity_scores(gold, predicted, IOB)
    wanted, found = ({(number, *span) for number, tags in enumerate(side)
                      for span in entities(tags, IOB)} for side in (gold, predicted))
    right = len(wanted & found)
    assert np.allclose([scores["precision"], scores["recall"], scores["f1"]], [
        right / max(1, len(found)), right / max(1, len(wanted)),
        2 * right / max(1, len(found) + len(wanted))])
    assert scores["accuracy"] == np.mean([one == other for rows in pairs for one, other in rows])


def test_scores_of_parts_of_speech_are_those_of_words():
    scores = entity_scores([["NN", "VB", "NN"]], [["NN", "NN", "NN"]], ("NN", "VB"))
    assert scores == pytest.approx(dict.fromkeys(("accuracy", "f1", "precision", "recall"), 2 / 3))


# Runs. Each word has a tag of its own: whoever reads the right word piece learns it.
LEXICON = {"film": "B-PER", "films": "B-PER", "story": "I-PER", "plot": "B-LOC", "the": "O",
           "was": "O", "very": "O", "it": "O"}


def write_sentences(folder, name, count, seed, tags=True, longest=9):
    source = random.Random(seed)
    rows = [source.choices(list(LEXICON), k=source.randint(1, longest)) for _ in range(count)]
    write(os.path.join(folder, name), ["\n".join(
        f"{word} x {LEXICON[word]}" if tags else word for word in row) + "\n" for row in rows])


def columns_of(path):
    """Words and tags of each sentence of a file, its last column being the tags."""
    blocks = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    rows = [[line.split(" ") for line in block.split("\n")] for block in blocks]
    return [[row[0] for row in block] for block in rows], [[row[-1] for row in block]
                                                           for block in rows]


@pytest.fixture(name="learned", scope="module")
def fixture_learned(tiny_dir, tmp_path_factory):
    """Folder of data and of a trained run, and its metrics; the test file is the dev file."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "data").mkdir()
    for name, seed, count in (("train", 0, 1200), ("dev", 1, 40), ("test", 1, 40)):
        write_sentences(folder / "data", f"{name}.txt", count, seed)
    metrics = go(task_name="NER", data_dir=str(folder / "data"), output_dir=str(folder / "run"),
                 bert_dir=tiny_dir, do_train=True, do_eval=True, do_predict=True, keep_best=True,
                 num_train_epochs=2.0, learning_rate=0.005, bias_correction=True,
                 tuning="top_layers=2")
    return folder, metrics


def from_pack(folder, out, tiny_dir, **flags):
    """The metrics of a run that starts from the pack of `learned`."""
    return go(**{"task_name": "NER", "data_dir": str(folder / "data"), "output_dir": str(out),
                 "bert_dir": tiny_dir, "pack": str(folder / "run" / "pack"), "do_predict": True,
                 **flags})


def test_it_learns_names(learned):
    folder, metrics = learned
    assert metrics["eval_f1"] > 0.9 and metrics["eval_accuracy"] > 0.9
    history = read_json(str(folder / "run" / "eval_history.json"))
    best = max(history, key=lambda row: row["eval_f1"])
    assert len(history) == 2 and best["global_step"] == metrics["global_step"]


def test_scores_are_those_of_the_written_file(learned):
    """Dev is the test file, so its F1 is seqeval's on what was written."""
    folder, metrics = learned
    sentences, gold = columns_of(folder / "data" / "test.txt")
    same_sentences, found = columns_of(folder / "run" / "test_results.txt")
    assert sentences == same_sentences
    f1 = seqeval.metrics.f1_score(gold, found)
    assert f1 == metrics["eval_f1"] == metrics["test_f1"]
    assert seqeval.metrics.f1_score(gold, [tags[::-1] for tags in found]) < f1
    results = read_json(str(folder / "run" / "results.json"))["metrics"]
    assert results["eval_f1"] == results["test_f1"] == f1
    assert "test_f1" not in store.read(str(folder / "run" / "pack")).manifest.metrics


def test_a_pack_predicts_as_its_run(learned, tiny_dir, tmp_path):
    folder, metrics = learned
    assert from_pack(folder, tmp_path, tiny_dir, do_eval=True)["eval_f1"] == metrics["eval_f1"]
    written = (folder / "run" / "test_results.txt").read_text()
    assert (tmp_path / "test_results.txt").read_text() == written
    sentences, tags = columns_of(folder / "run" / "test_results.txt")
    with adapter_bert.load(tiny_dir, str(folder / "run" / "pack")) as task:
        labels = task.manifest.labels
        of_lists, of_texts = task.predict(sentences), task.predict(list(map(" ".join, sentences)))
    assert labels == ("O", "B-LOC", "B-PER", "I-PER")
    for sentence, wanted, in_list, in_text in zip(sentences, tags, of_lists, of_texts,
                                                  strict=True):
        text, wanted = " ".join(sentence), entities(wanted, labels)
        assert [(one.label, one.start, one.end) for one in in_list] == wanted
        assert [one[::4] + one[1:2] for one in in_text] == [
            one[::4] + one[1:2] for one in in_list]
        assert all(text[one.start:one.end] == one.text for one in in_text)
        assert all(0.25 < one.probability <= 1.0 for one in in_text)


def test_words_beyond_the_cut(learned, tiny_dir, tmp_path, caplog):
    """Of 20 films 6 stand between [CLS] and [SEP]; the second word has no piece at all."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "test.txt", ["film", "\u00ad"] + ["film"] * 19 + ["", "plot"])
    with caplog.at_level("INFO", logger="absl"):
        metrics = from_pack(learned[0], tmp_path / "out", tiny_dir,
                            data_dir=str(tmp_path / "data"), max_seq_length=8)
    assert metrics == {} and "14 of 22 words lie beyond --max_seq_length=8" in caplog.text
    _, tags = columns_of(tmp_path / "out" / "test_results.txt")
    is_name = [[tag != "O" for tag in sentence] for sentence in tags]
    assert is_name == [[True, False] + [True] * 5 + [False] * 14, [True]]


def test_another_kind_of_task_is_refused(learned, tiny_dir, tmp_path):
    with pytest.raises(InputError, match="for tokens, and custom is a task of classification"):
        from_pack(learned[0], tmp_path, tiny_dir, task_name="custom", text_column="0",
                  label_column="1")


# Packs.

def tokens_pack(on=None, **changes):
    return tiny_pack(base=on, **{"task": "NER", "head": "tokens", "labels": IOB, **changes})


def test_entries_of_predict(tiny_dir):
    with adapter_bert.load(tiny_dir, tokens_pack(base_of(tiny_dir))) as task:
        assert task.predict([]) == [] and task.predict(["", [], "\u00ad"]) == [[], [], []]
        for entry in (3, b"film", ["film", 3], None):
            with pytest.raises(InputError, match="text 1: .*neither a text nor a list of words"):
                task.predict(["film", entry])


def test_a_tag_without_prefix_is_one_a_word(tiny_dir):
    pack = tokens_pack(base_of(tiny_dir), labels=("NOUN", "VERB"))
    with adapter_bert.load(tiny_dir, pack) as task:
        found, cut = task.predict(["Caf\u00e9s,  \u00adfilms", ["\u00ad"] + ["film"] * 20])
    assert [(one.text, one.start, one.end) for one in found] == [
        ("Caf\u00e9s", 0, 5), (",", 5, 6), ("films", 9, 14)]
    assert {one.label for one in found} <= {"NOUN", "VERB"}
    assert [(one.start, one.end) for one in cut] == [(word, word + 1) for word in range(1, 15)]


def test_average(tmp_path):
    one, other = tokens_pack(), tokens_pack(labels=("O", "B-X"))
    assert average({"a": one, "b": tokens_pack()}).manifest.head == "tokens"
    with pytest.raises(InputError, match="heads of other tasks or labels"):
        average({"a": one, "b": other})
    with pytest.raises(InputError, match="heads of other tasks or labels"):
        average({"a": one, "b": tokens_pack(head="classification")})


def test_labels_are_needed():
    with pytest.raises(ValueError, match="a head for tokens with 0 labels"):
        store.to_bytes("x", tokens_pack(labels=()), "float32")
