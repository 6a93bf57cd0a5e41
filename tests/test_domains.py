"""Domains: what is read, refused, left out; what is drawn."""
import collections
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_bert.errors import InputError
from adapter_bert.research.meta import domains

LABELS = ("negative", "positive")


def row(text, label="positive", domain="books"):
    return {"text": text, "label": label, "domain": domain}


def rows_of(domain, count, positive=0.5):
    return [row(f"{domain} {n}", LABELS[n < positive * count], domain) for n in range(count)]


def write(folder, rows):
    path = folder / "dataset.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


@pytest.fixture(name="dataset")
def fixture_dataset(tmp_path):
    return domains.read_dataset(write(tmp_path, [
        *rows_of("books", 40, 0.25), *rows_of("music", 20), *rows_of("toys", 10)]))


def test_labels_are_in_one_order_whatever_comes_first(tmp_path):
    rows = [row("a", "positive"), row("b", "negative"), row("c", "mixed", "music")]
    for given_rows in (rows, rows[::-1]):
        found = domains.read_dataset(write(tmp_path, given_rows))
        assert found.labels == ("mixed", "negative", "positive")
    assert [example.text_a for example in found.domains["books"]] == ["b", "a"]


def test_a_text_is_there_once_and_not_at_all_with_two_labels(tmp_path):
    found = domains.read_dataset(write(tmp_path, [
        row("Good  film"), row("good film "), row("good film", domain="music"),
        row("so so"), row("So so", "negative"), row("bad", "negative", "music")]))
    assert {name: [example.text_a for example in examples]
            for name, examples in found.domains.items()} == {
                "books": ["Good  film"], "music": ["bad"]}
    assert found.duplicates == {"books": 1, "music": 1} and found.conflicts == {"books": 2}
    assert "2 whose text stands before" in domains.removed_line(found)


def test_nothing_left_out_is_not_worth_a_line(dataset):
    assert domains.removed_line(dataset) == ""


@pytest.mark.parametrize("content, message", [
    ("[", "not readable as JSON"),
    ('{"text": "a"}', "holds no list of examples"),
    ("[]", "holds no list of examples"),
    ('[["a", "b"]]', "example 1: found \"['a', 'b']\", expected an object"),
    ('[{"text": "a", "label": "x"}]', "example 1: lacks 'domain'"),
    (json.dumps([row("a"), row(" ")]), "example 2: found text ' '"),
    (json.dumps([row("a", 1)]), "example 1: found label '1', expected a string"),
    (json.dumps([row("a\ud800")]), "example 1: found text"),
    (json.dumps([row("a", domain="a,b")]), "expected no comma"),
    (json.dumps([row("a"), row("b")]), "the only label is 'positive'")])
def test_what_is_no_data_set_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "dataset.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        domains.read_dataset(str(path))
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(path))


def test_what_no_list_names_is_for_training(dataset):
    assert domains.split(dataset, "toys", " books, ") == (("music",), ("toys",), ("books",))
    assert domains.split(dataset) == (("books", "music", "toys"), (), ())


@pytest.mark.parametrize("validation, test, message", [
    ("", "cars", "--test_domains: .* has no domain 'cars'; it has books, music, toys"),
    ("cars", "", "--validation_domains: .* no domain 'cars'"),
    ("", "toys,toys", "--test_domains: names toys twice"),
    ("toys", "books,toys", "both name toys"),
    ("toys", "books,music", "name all 3 domains")])
def test_lists_that_do_not_fit(dataset, validation, test, message):
    with pytest.raises(InputError, match=message):
        domains.split(dataset, validation, test)


def test_too_few_examples_and_one_label(dataset, tmp_path):
    domains.check(dataset, dataset.domains, 8, 2)
    with pytest.raises(InputError, match="domain toys has 10 different texts, expected 11"):
        domains.check(dataset, dataset.domains, 8, 3)
    one = domains.read_dataset(write(tmp_path, rows_of("books", 9) + rows_of("music", 9, 1.0)))
    domains.check(one, ["books"], 5, 4)
    with pytest.raises(InputError, match="domain music has the label positive only"):
        domains.check(one, one.domains, 5, 4)


def test_a_label_that_one_domain_alone_has(tmp_path):
    odd = domains.read_dataset(write(tmp_path, [
        *rows_of("books", 9), *rows_of("music", 9), row("so so", "postive", "music")]))
    with pytest.raises(InputError, match="label 'postive' is found in domain music alone .1 of"):
        domains.check(odd, ["books"], 5, 4)


def test_labels_are_checked_against_a_models(dataset):
    domains.check_labels(dataset, ["negative", "positive"], "the pack")
    for labels in (["positive", "negative"], ["negative"], ["bad", "good"]):
        with pytest.raises(InputError, match="those of the pack are"):
            domains.check_labels(dataset, labels, "the pack")


def test_so_many_names_are_chosen():
    names = ("a", "b", "c", "d")
    assert domains.choose(names, 100, np.random.default_rng(0)) == names
    found = collections.Counter(
        domains.choose(names, 2, np.random.default_rng(seed)) for seed in range(200))
    assert len(found) == 6 and all(len(set(pair)) == 2 for pair in found)


def test_training_draws_domains_by_their_size(dataset):
    random = np.random.default_rng(0)
    episodes = [domains.draw_training(dataset, ("books", "music"), 6, 4, random)
                for _ in range(600)]
    share = np.mean([episode.domain == "books" for episode in episodes])
    assert abs(share - 2 / 3) < 0.06
    for episode in episodes:
        assert len(episode.support) == 6 and len(episode.query) == 4
        together = episode.support + episode.query
        assert len(set(together)) == 10
        assert set(together) <= set(dataset.domains[episode.domain])


def test_the_seed_decides_what_is_drawn(dataset):
    def drawn(seed):
        random = np.random.default_rng(seed)
        return (domains.draw_training(dataset, ("books", "music"), 6, 4, random),
                domains.draw_test(dataset, "books", 6, 4, random))

    assert drawn(0) == drawn(0) != drawn(1)


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(0, 30), st.integers(1, 10))
def test_a_support_has_its_labels_by_turns_and_no_text_of_the_query(seed, shots, num_query):
    dataset = domains.make_dataset("made", domains.checked("made", rows_of("books", 40, 0.25)))
    episode, larger = (domains.draw_test(dataset, "books", count, num_query,
                                         np.random.default_rng(seed)) for count in (shots, 30))
    assert len(episode.support) == shots and len(set(episode.query)) == num_query
    assert not set(episode.support) & set(episode.query)
    assert larger.query == episode.query and larger.support[:shots] == episode.support
    counts = collections.Counter(example.label for example in episode.support)
    rare = 10 - sum(example.label == "positive" for example in episode.query)
    expected = {shots // 2, -(-shots // 2)} if shots <= 2 * rare else {rare}
    assert counts["positive"] in expected


def test_a_query_is_drawn_as_the_domain_is(dataset):
    random = np.random.default_rng(0)
    share = np.mean([example.label == "positive" for _ in range(300)
                     for example in domains.draw_test(dataset, "books", 4, 8, random).query])
    assert abs(share - 0.25) < 0.03


def test_labels_and_domains_that_look_the_same_are_the_same(tmp_path):
    found = domains.read_dataset(write(tmp_path, [
        row("a", "good"), row("b", "good "), row("c", "caf\u00e9", "books "),
        row("d", "cafe\u0301", " books")]))
    assert found.labels == ("caf\u00e9", "good") and list(found.domains) == ["books"]
