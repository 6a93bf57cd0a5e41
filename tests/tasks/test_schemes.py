"""Schemes of tags: what is recognised, what is reported, and seqeval's scores."""
import collections
import random
from types import SimpleNamespace

import pytest
import seqeval.metrics

from adapter_bert.errors import InputError
from adapter_bert.kinds import get_task, read_sentences
from adapter_bert.kinds.entities import entities, entity_scores
from adapter_bert.kinds.tag_schemes import describe, odd_tags, scheme_of

# The letters of a scheme for an entity of one word, and for one of several: first, middle, last.
LETTERS = {"IOB": "BBII", "IOBES": "SBIE", "BILOU": "UBIL", "BMES": "SBME", "BMEWO": "WBME"}


def tags_in(scheme, source, words=12):
    """The tags of a random sentence in a scheme, and the same in IOBES."""
    own, iobes = [], []
    while len(own) < words:
        kind, length = source.choice(("PER", "LOC", None)), source.randrange(1, 4)
        for letters, tags in ((LETTERS[scheme], own), (LETTERS["IOBES"], iobes)):
            one, first, middle, last = letters
            shape = one if length == 1 else first + middle * (length - 2) + last
            tags += ["O"] if kind is None else [f"{letter}-{kind}" for letter in shape]
    return own, iobes


@pytest.mark.parametrize("scheme", LETTERS)
def test_scores_are_seqevals(scheme):
    source = random.Random(0)
    gold, gold_iobes = zip(*(tags_in(scheme, source) for _ in range(20)), strict=True)
    labels = sorted({tag for tags in gold for tag in tags})
    assert scheme_of(labels) == scheme
    same = dict(zip(sum(gold, []), sum(gold_iobes, []), strict=True))
    predicted = [[source.choice(labels) if source.random() < 0.2 else tag for tag in tags]
                 for tags in gold]
    scores = entity_scores(list(gold), predicted, labels)
    if scheme == "IOB":
        theirs = (list(gold), predicted)
    else:
        theirs = (list(gold_iobes), [[same[tag] for tag in tags] for tags in predicted])
    assert scores["f1"] == pytest.approx(seqeval.metrics.f1_score(*theirs))
    assert 0 < scores["f1"] < 1
    assert entity_scores(list(gold), list(gold), labels)["f1"] == 1.0


def test_an_entity_of_three_words_is_one_in_every_scheme():
    for scheme, (one, first, middle, last) in LETTERS.items():
        labels = [f"{letter}-X" for letter in (one, first, middle, last)] + ["O"]
        tags = [f"{first}-X", f"{middle}-X", f"{last}-X", "O", f"{one}-X"]
        assert [span[1:] for span in entities(tags, labels)] == [(0, 3), (4, 5)], scheme


@pytest.mark.parametrize("labels, scheme", [
    ("O B-PER I-PER", "IOB"), ("O I-PER", "IOB"), ("O I-PER E-PER", "IOE"),
    ("B_PER I_PER O", "IOB"),
    ("B I O", "IOB"), ("B M E S", "BMES"), ("B I E S O", "IOBES"), ("I O", "IOB"),
    ("O B-A I-A L-A U-A", "BILOU"), ("O B-A M-A E-A W-A", "BMEWO"),
    ("S L", None), ("S L B I N", None), ("S L O", None), ("B", None), ("NN VB", None),
    ("B-cell T-cell O", None), ("O PER LOC", None), ("B-A I-A S-A U-A", None),
    ("B-A I_A O", None), ("O", None)])
def test_recognised_schemes(labels, scheme):
    assert scheme_of(labels.split()) == scheme


def test_plain_letters_are_scored_word_by_word():
    labels = ["L", "S"]
    assert entity_scores([["S", "L", "S"]], [["L", "S", "L"]], labels)["f1"] == 0.0


@pytest.mark.parametrize("tags, odd", [
    ("O B-PER I-PER B-LOC 0", {"0": "is it 'O'"}),
    ("O B-PER I-PER B-LOC B_LOC", {"B_LOC": "is it 'B-LOC'"}),
    ("O B-PER I-PER b-per", {"b-per": "is it 'B-PER'"}),
    ("O B-PER I-PER B-LOC PER", {"PER": "does not fit"}),
    ("O B-PER I-PER E-PER S-PER U-PER", {"U-PER": "does not fit the other tags (IOBES"}),
    ("O b-per i-per", {"b-per": "in lower case", "i-per": "in lower case"}),
    ("O B-PER I-PER", {}), ("NN VB S-X", {}), ("B-cell T-cell O", {}), ("S L B I N", {}),
    ("e-mail s-bahn O", {})])
def test_odd_tags_are_reported(tags, odd):
    problems = odd_tags(collections.Counter(tags.split()))
    assert problems.keys() == odd.keys()
    assert all(part in problems[tag] for tag, part in odd.items())


@pytest.mark.parametrize("tags, said", [
    ("B-A I-A B-A O", "scheme IOB2"), ("I-A I-A B-A O I-A", "scheme IOB1"),
    ("B-A I-A O I-A", "scheme IOB, B- and I- mixed"), ("NN VB", "plain"),
    ("B-A M-A E-A S-A", "scheme BMES")])
def test_the_scheme_is_described(tags, said):
    assert describe(tags.split(), [SimpleNamespace(tags=tags.split())]).startswith(said)


STRAY = "bert B-PER\nbrook I-PER\nsits O\n\nin O\nrome B-LOC\ntoday 0\n\nann B-PER\nsits O\n"


def test_one_stray_tag_is_a_bad_row(tmp_path):
    (tmp_path / "train.txt").write_text(STRAY)
    with pytest.raises(InputError, match=r"train.txt, line 7: tag '0' does not fit .* is it 'O'"):
        read_sentences(get_task("NER"), str(tmp_path), "train")
    kept = read_sentences(get_task("NER"), str(tmp_path), "train", "skip")
    assert [sentence.words[0] for sentence in kept] == ["bert", "ann"]
