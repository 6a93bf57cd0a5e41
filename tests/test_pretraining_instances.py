"""Documents to instances for pre-training: each against the text that it was made of.

In these tests no word piece is in a text twice, so that an id says where it stood.
"""
import collections
import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from adapter_bert.data.pretraining import instances, masking, pairs
from adapter_bert.data.pretraining.creation_settings import PretrainingSettings

CLS, SEP, MASK, FIRST = 1, 2, 3, 10
DOCUMENTS = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**32)


def documents_of(lengths):
    """Documents of sentences of these lengths; their ids count from FIRST."""
    sentences = list(itertools.chain.from_iterable(lengths))
    return pairs.Documents(np.arange(FIRST, FIRST + sum(sentences), dtype=np.int32),
                           np.cumsum([0, *sentences]),
                           np.cumsum([0, *map(len, lengths)]))


def document_of(documents, place):
    """The number of the document in which a place of the text is."""
    sentence = np.searchsorted(documents.starts, place, side="right") - 1
    return np.searchsorted(documents.first, sentence, side="right") - 1


class Pinned:
    """A random generator that draws one number only."""

    def __init__(self, number):
        self._number = number

    def random(self, shape):
        return np.full(shape, self._number)

    def integers(self, low, high, shape):
        return np.full(shape, low)

    def binomial(self, count, share):
        return (count * self._number).astype(int)


@pytest.mark.parametrize("number,wanted", [
    # a takes all sentences but one, b the last; the second document has one alone, and the other's
    # last sentence drawn for it
    (0.99, [(0, 5, 5, 4, False), (9, 2, 5, 4, True)]),
    # short: one sentence suffices, and the other document begins at its start
    (0.0, [(0, 2, 9, 2, True), (2, 3, 9, 2, True), (5, 4, 9, 2, True), (9, 2, 0, 2, True)]),
    # a takes one sentence, and the others go into the next pairs; 4 pieces are wanted with the 2 of
    # the last a, and the sentence drawn has 2, the one after it 3
    (0.3, [(0, 2, 9, 2, True), (2, 3, 9, 2, True), (5, 4, 9, 2, True), (9, 2, 0, 5, True)])])
def test_packing_by_hand(number, wanted):
    found = pairs.pack(documents_of([[2, 3, 4], [2]]), 6, 0.1, Pinned(number))
    assert sorted(zip(*(column.tolist() for column in found), strict=True)) == wanted


def test_truncation_by_hand():
    """Of 9 and 4 pieces 8 are wanted: a keeps 4; at 0.4 two of its five go in front."""
    one = pairs.Pairs(*(np.array([number]) for number in (100, 9, 200, 4)), np.array([False]))
    found = pairs.truncate(one, 8, Pinned(0.4))
    assert [int(column[0]) for column in found] == [102, 4, 200, 4, 0]


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(2, 20), SEEDS)
def test_packing_loses_nothing(lengths, limit, seed):
    """What is from a document itself, put together in order, is the document, each piece once;
    what is not, is whole sentences of another."""
    documents = documents_of(lengths)
    found = pairs.pack(documents, limit, 0.3, np.random.default_rng(seed))
    spans = collections.defaultdict(list)
    for a, a_length, b, b_length, is_random in zip(*found, strict=True):
        own = document_of(documents, a)
        spans[own].append((a, a + a_length))
        assert {a, a + a_length, b, b + b_length} <= set(documents.starts.tolist())
        assert b_length > 0 and document_of(documents, b) == document_of(
            documents, b + b_length - 1)
        assert is_random == (document_of(documents, b) != own)
        if not is_random:
            assert b == a + a_length
            spans[own].append((b, b + b_length))
    places = documents.starts[documents.first]
    for number, (start, end) in enumerate(itertools.pairwise(places)):
        ends = [start, *(stop for _, stop in sorted(spans[number]))]
        assert [begin for begin, _ in sorted(spans[number])] == ends[:-1] and ends[-1] == end


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=9),
       st.integers(2, 20), SEEDS)
def test_truncation_cuts_at_the_ends(lengths, limit, seed):
    a, b = np.array(lengths).T
    whole = pairs.Pairs(np.zeros_like(a), a, np.zeros_like(b), b, a > b)
    cut = pairs.truncate(whole, limit, np.random.default_rng(seed))
    for start, length, most in ((cut.a_start, cut.a_length, a), (cut.b_start, cut.b_length, b)):
        assert (start >= 0).all() and (start + length <= most).all() and (length > 0).all()
    assert (cut.a_length + cut.b_length == np.minimum(a + b, limit)).all()


def test_truncation_cuts_on_both_sides_alike():
    whole = pairs.Pairs(*(np.full(4000, number) for number in (0, 60, 0, 50)), np.zeros(4000, bool))
    cut = pairs.truncate(whole, 40, np.random.default_rng(0))
    assert cut.a_start.mean() == pytest.approx(20, abs=0.5) and cut.a_start.std() > 2
    assert cut.b_start.mean() == pytest.approx(15, abs=0.5)


def settings_of(**changes):
    return PretrainingSettings(**{"max_seq_length": 16, "max_predictions_per_seq": 4, **changes})


def pieces_of(documents, continues=()):
    count = FIRST + len(documents.pieces)
    return masking.Pieces(count, CLS, SEP, MASK, np.isin(np.arange(count), continues))


def rows_of(documents, options, seed, continues=()):
    """Each instance as {feature: array}."""
    made = instances.make(documents, options, pieces_of(documents, continues),
                          np.random.default_rng(seed))
    for rows, _ in made:
        for number in range(len(rows.lengths)):
            yield {name: column[number] for name, column in rows.columns.items()}


def original(row):
    """The ids as they were before the masking."""
    ids = row["input_ids"].copy()
    there = row["masked_lm_weights"]
    ids[row["masked_lm_positions"][there]] = row["masked_lm_ids"][there]
    return ids


def check_row(row, documents, options):
    """That an instance is what its label says, and masked as asked for."""
    length = int(row["input_mask"].sum())
    ids, width = original(row), options.max_seq_length
    middle, last = np.flatnonzero(ids == SEP)
    assert (ids[0], last, length) == (CLS, length - 1, last + 1)
    assert row["input_mask"].tolist() == [1] * length + [0] * (width - length)
    assert not row["input_ids"][length:].any()
    assert row["segment_ids"].tolist() == [0] * (middle + 1) + [1] * (last - middle) + [0] * (
        width - length)
    a, b = ids[1:middle] - FIRST, ids[middle + 1:last] - FIRST
    assert (np.diff(a) == 1).all() and (np.diff(b) == 1).all() and len(a) and len(b)
    of_a, of_b = (set(document_of(documents, side).tolist()) for side in (a, b))
    assert len(of_a) == len(of_b) == 1
    assert row["next_sentence_labels"] == (of_a != of_b)
    assert row["next_sentence_labels"] or b[0] > a[-1]
    check_predictions(row, ids, length, options)


def check_predictions(row, ids, length, options):
    places, there = row["masked_lm_positions"], row["masked_lm_weights"]
    count, wanted = int(there.sum()), max(1, round(length * options.masked_lm_prob))
    assert there.tolist() == [1] * count + [0] * (options.max_predictions_per_seq - count)
    assert not places[count:].any() and not row["masked_lm_ids"][count:].any()
    assert (np.diff(places[:count]) > 0).all()
    assert not np.isin(ids[places[:count]], [CLS, SEP]).any() and (places[:count] < length).all()
    assert count <= min(wanted, options.max_predictions_per_seq)
    if not options.do_whole_word_mask:
        assert count == min(wanted, options.max_predictions_per_seq, length - 3)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(5, 20), st.sampled_from([0.0, 0.15, 0.6, 1.0]), SEEDS)
def test_instances_are_true_to_the_text(lengths, width, share, seed):
    documents = documents_of(lengths)
    options = settings_of(max_seq_length=width, max_predictions_per_seq=min(4, width - 3),
                          masked_lm_prob=share, short_seq_prob=0.3)
    for row in rows_of(documents, options, seed):
        check_row(row, documents, options)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.sampled_from([1, 3, 8]), SEEDS, st.data())
def test_whole_words(lengths, most, seed, data):
    """Of a word as it stands in an instance all pieces are predicted or none."""
    documents = documents_of(lengths)
    continues = data.draw(st.sets(st.sampled_from(documents.pieces.tolist())))
    options = settings_of(max_predictions_per_seq=most, masked_lm_prob=0.4, do_whole_word_mask=True)
    for row in rows_of(documents, options, seed, list(continues)):
        check_row(row, documents, options)
        ids, words = original(row), []
        for place in range(int(row["input_mask"].sum())):
            if ids[place] not in (CLS, SEP):
                joins = ids[place] in continues and ids[place - 1] not in (CLS, SEP)
                words[-1].append(place) if joins else words.append([place])
        chosen = set(row["masked_lm_positions"][row["masked_lm_weights"]].tolist())
        assert all(chosen.issuperset(word) or chosen.isdisjoint(word) for word in words)
        room = min(most, max(1, round(0.4 * row["input_mask"].sum()))) - len(chosen)
        assert all(len(word) > room for word in words if chosen.isdisjoint(word))


def test_every_piece_comes_up():
    """Over fifty duplicates, in an instance and as a prediction."""
    documents = documents_of([[3, 5, 2, 4], [1], [6, 6], [2, 2, 2, 2, 2]])
    seen, predicted = set(), set()
    for seed in range(50):
        for row in rows_of(documents, settings_of(), seed):
            seen |= set(original(row).tolist())
            predicted |= set(row["masked_lm_ids"].tolist())
    assert seen >= set(documents.pieces.tolist()) and predicted >= set(documents.pieces.tolist())


@pytest.fixture(name="many", scope="module")
def fixture_many():
    """Instances of 300 documents of 30 sentences of 4 pieces, with BERT's defaults."""
    documents = documents_of([[4] * 30] * 300)
    options = PretrainingSettings()
    made = [some for seed in range(16) for some in instances.make(
        documents, options, pieces_of(documents), np.random.default_rng(seed))]
    columns = {name: np.concatenate([rows.columns[name] for rows, _ in made])
               for name in made[0][0].columns}
    return columns, np.concatenate([rows.lengths for rows, _ in made]), [some for _, some in made]


def test_shares(many):
    """15 % are predicted, of which 80, 10, 10 % are [MASK], kept, another; the counts say so."""
    columns, lengths, counts = many
    there = columns["masked_lm_weights"]
    now = np.take_along_axis(columns["input_ids"], columns["masked_lm_positions"], 1)[there]
    was = columns["masked_lm_ids"][there]
    assert len(was) > 100_000
    assert len(was) / lengths.sum() == pytest.approx(0.15, abs=0.002)
    assert (now == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert (now == was).mean() == pytest.approx(0.1, abs=0.01)
    other = now[(now != MASK) & (now != was)]
    assert len(other) / len(was) == pytest.approx(0.1, abs=0.01)
    assert np.quantile(other, [0.25, 0.5, 0.75]) == pytest.approx(
        np.array([0.25, 0.5, 0.75]) * (FIRST + 36_000), rel=0.1)
    total = {name: sum(some[name] for some in counts) for name in counts[0]}
    assert total["instances"] == len(lengths) and total["predictions"] == len(was)
    assert total["lengths"] @ np.arange(129) == lengths.sum()
    for name, count in (("masked", (now == MASK).sum()), ("kept", (now == was).sum())):
        assert total[name] == pytest.approx(count, abs=20)   # any piece can be that piece
    assert total["random_next"] == columns["next_sentence_labels"].sum()


def test_random_next_sentences_and_short_instances():
    """Half of the pairs that are not a sentence alone; a tenth of the documents, of any length."""
    found = pairs.pack(documents_of([[1] * 100] * 4000), 60, 0.1, np.random.default_rng(0))
    first = found.rows(found.a_start % 100 == 0)
    assert first.is_random_next.mean() == pytest.approx(0.5, abs=0.03)
    lengths = (first.a_length + first.b_length)[~first.is_random_next]
    assert (lengths < 60).mean() == pytest.approx(0.1, abs=0.02)
    assert lengths[lengths < 60].mean() == pytest.approx(30.5, abs=4) and lengths.max() == 60


def test_any_place_is_predicted_alike(many):
    columns, lengths, _ = many
    full = lengths == 128
    places = columns["masked_lm_positions"][full][columns["masked_lm_weights"][full]]
    share = np.bincount(places, minlength=128) / full.sum()
    is_text = share > 0
    assert not share[0] and not share[127] and is_text.sum() > 120
    assert share[2:60] == pytest.approx(19 / 125, abs=0.05)
    assert share[2:60].mean() == pytest.approx(19 / 125, abs=0.01)


def test_choosing_is_fair():
    """Two of four places: each of the six pairs as often, though the third place is no text."""
    is_text = np.tile([True, True, False, True, True], (6000, 1))
    found = masking.choose(is_text, np.full((6000, 1), 2), 3, np.random.default_rng(0))
    assert (found[:, 2] == 5).all()
    counts = collections.Counter(map(tuple, found[:, :2].tolist()))
    assert set(counts) == set(itertools.combinations([0, 1, 3, 4], 2))
    assert min(counts.values()) > 900 and max(counts.values()) < 1100


def test_random_next_is_any_other_document():
    found = pairs.pack(documents_of([[2]] * 5), 8, 0.0, np.random.default_rng(0))
    assert (found.is_random_next).all() and (found.b_start != found.a_start).all()
    many = [pairs.pack(documents_of([[2]] * 3), 8, 0.0, np.random.default_rng(seed)).b_start[0]
            for seed in range(200)]
    assert 70 < many.count(2) < 130 and set(many) == {2, 4}
