"""The command: TFRecord files that BERT reads, whole or not there, the same on any workers."""
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

pytest.importorskip("apache_beam")
pytest.importorskip("google_crc32c")

from apache_beam.io.filesystem import FileMetadata  # noqa: E402
from apache_beam.io.localfilesystem import LocalFileSystem  # noqa: E402

from adapter_bert import errors, files  # noqa: E402
from adapter_bert.data import tfrecord  # noqa: E402
from adapter_bert.data.pretraining import corpus, create, parts  # noqa: E402
from adapter_bert.data.pretraining.creation_settings import PretrainingSettings  # noqa: E402
from adapter_bert.errors import InputError  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{number}" for number in range(300)]
WIDTH, MOST = 32, 5


@pytest.fixture(name="vocab", scope="module")
def fixture_vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *WORDS, "##s", "."]) + "\n")
    return str(path)


def text_of(documents, seed=0):
    """So many documents of sentences of words drawn at random."""
    source = random.Random(seed)
    return "\n".join("".join(
        " ".join(source.choices(WORDS, k=source.randrange(3, 12))) + ".\n"
        for _ in range(source.randrange(1, 8))) for _ in range(documents))


@pytest.fixture(name="place")
def fixture_place(tmp_path, monkeypatch):
    """The current folder, with a small corpus in two files."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("in").mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        pathlib.Path(f"in/{name}.txt").write_text(text_of(40, seed))
    return tmp_path


@pytest.fixture(name="go")
def fixture_go(vocab, place):
    """Function (flags of Beam, settings) -> what `create` returns."""
    def go(*beam_flags, **changes):
        return create.create(PretrainingSettings(**{
            "input_file": "in/*.txt", "output_file": "out/x.tfrecord", "vocab_file": vocab,
            "max_seq_length": WIDTH, "max_predictions_per_seq": MOST, **changes}), beam_flags)
    return go


def command(vocab, *flags):
    """The command's process."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "create_pretraining_data.py"), f"--vocab_file={vocab}",
         "--input_file=in/*.txt", "--output_file=out/x.tfrecord", f"--max_seq_length={WIDTH}",
         f"--max_predictions_per_seq={MOST}", *flags], stderr=subprocess.PIPE, text=True)


def records_of(path):
    return list(tf.io.tf_record_iterator(str(path)))


def test_records_are_those_that_bert_reads(go, vocab):
    """Parsed with the features of BERT's run_pretraining.py."""
    made = go()
    spec = {name: tf.io.FixedLenFeature([length], kind) for name, length, kind in (
        ("input_ids", WIDTH, tf.int64), ("input_mask", WIDTH, tf.int64),
        ("segment_ids", WIDTH, tf.int64), ("masked_lm_positions", MOST, tf.int64),
        ("masked_lm_ids", MOST, tf.int64), ("masked_lm_weights", MOST, tf.float32),
        ("next_sentence_labels", 1, tf.int64))}
    serialized = tf.placeholder(tf.string, [])
    parsed = tf.io.parse_single_example(serialized, spec)
    with tf.Session() as session:
        rows = [session.run(parsed, {serialized: record})
                for record in records_of("out/x.tfrecord")[:200]]
    tokens = pathlib.Path(vocab).read_text().split()
    sentences = {line[:-1] for name in "ab"
                 for line in pathlib.Path(f"in/{name}.txt").read_text().split("\n")}
    whole = 0
    for row in rows:
        ids, there = row["input_ids"].copy(), row["masked_lm_weights"] == 1
        ids[row["masked_lm_positions"][there]] = row["masked_lm_ids"][there]
        text = " ".join(tokens[index] for index in ids)
        a, b, padding = text.split(" [SEP]")
        assert a.startswith("[CLS] ") and set(padding.split()) <= {"[PAD]"}
        inner = [part.strip() for side in (a[6:], b) for part in side.split(".")[1:-1]]
        whole += len(inner)
        assert sentences.issuperset(inner)
    assert whole > 50 and made["instances"] > 200


def test_the_statistics_are_those_of_the_files(go):
    made = go(output_file="out/x,out/y,z", dupe_factor=3)
    assert made == files.read_json("out/x.json")
    rows = {path: records_of(path) for path in ("out/x", "out/y", "z")}
    assert made["files"] == {path: len(records) for path, records in rows.items()}
    assert made["instances"] == sum(made["files"].values()) and min(made["files"].values()) > 50
    examples = [{name: np.array(feature.int64_list.value or feature.float_list.value)
                 for name, feature in tf.train.Example.FromString(record).features.feature.items()}
                for record in sum(rows.values(), [])]
    lengths = [int(example["input_mask"].sum()) for example in examples]
    predictions = sum(example["masked_lm_weights"].sum() for example in examples)
    masked = sum((example["input_ids"] == SPECIAL.index("[MASK]")).sum() for example in examples)
    assert made["length"] == {"mean": pytest.approx(np.mean(lengths)), "shortest": min(lengths),
                              "median": sorted(lengths)[(len(lengths) - 1) // 2],
                              "longest": max(lengths)}
    assert made["predictions"] == predictions
    assert made["predicted_share"] == pytest.approx(predictions / sum(lengths))
    assert made["of_predictions"]["mask"] == pytest.approx(masked / predictions, abs=0.001)
    assert sum(made["of_predictions"].values()) == pytest.approx(1)
    assert made["random_next_share"] == pytest.approx(
        np.mean([example["next_sentence_labels"][0] for example in examples]))
    text = "\n\n".join(pathlib.Path(f"in/{name}.txt").read_text() for name in "ab")
    assert made["documents"] == 80 == len([part for part in text.split("\n\n") if part.strip()])
    assert made["sentences"] == text.count(".") and made["settings"]["dupe_factor"] == 3


@pytest.fixture(name="cut_small")
def fixture_cut_small(monkeypatch):
    monkeypatch.setattr(corpus, "CHUNK_BYTES", 2000)


def test_a_file_that_is_named_twice_is_read_once(go):
    assert go(input_file="in/a.txt, in/*.txt,")["documents"] == 80


def test_workers_do_not_matter(go, vocab, cut_small):
    """Two processes write the bytes that one does, in the chunks of one file or of several."""
    go("--direct_num_workers=1", output_file="one")
    go(output_file="two")
    assert pathlib.Path("one").read_bytes() == pathlib.Path("two").read_bytes()
    go("--direct_num_workers=1", output_file="other", random_seed=1)
    assert pathlib.Path("one").read_bytes() != pathlib.Path("other").read_bytes()
    go("--direct_num_workers=1", output_file="p,q,r")
    apart = sum(map(records_of, "pqr"), [])
    assert sorted(apart) == sorted(records_of("one"))


def test_each_duplicate_is_another(go):
    """Of the same pairs other places are masked, and a file holds one duplicate after the other."""
    go(dupe_factor=1, output_file="one")
    go(dupe_factor=2, output_file="two")
    one, two = records_of("one"), records_of("two")
    assert two[:len(one)] == one and not set(two[len(one):]) & set(one)


def test_each_chunk_is_another(go, monkeypatch):
    """The same text in two chunks does not make the same instances."""
    text = text_of(40) + "\n" + text_of(9, seed=3).replace("\n\n", "\n") + "\n"
    monkeypatch.setattr(corpus, "CHUNK_BYTES", len(text) - 500)   # in the last document
    pathlib.Path("twice").write_text(text * 2)
    first, second = (chunk[0] for chunk in corpus.chunks(["twice"]))
    assert first.end == second.start == len(text)
    made = go("--direct_num_workers=1", input_file="twice", dupe_factor=1)
    found = records_of("out/x.tfrecord")
    assert made["documents"] == 82 and len(set(found)) == len(found)


def test_framed_records_are_tensorflows_own(tmp_path):
    records = [b"", b"a", bytes(300), os.urandom(70_000)]
    with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
        for record in records:
            writer.write(record)
    assert b"".join(tfrecord.framed(records)) == (tmp_path / "x").read_bytes()


def test_the_command(vocab, place):
    process = command(vocab, "--do_whole_word_mask", "--dupe_factor=2")
    said = process.communicate()[1].splitlines()
    assert process.returncode == 0
    assert len(said) == 2 and said[0] == "in/*.txt: files 2, chunks 1"
    assert said[1].startswith("out/x.tfrecord: ") and "instances of 80 documents" in said[1]
    assert sorted(os.listdir("out")) == ["x.tfrecord", "x.tfrecord.json"]
    process = command(vocab, "in/b.txt")
    assert process.communicate()[1].startswith("error: 'in/b.txt' belongs to no flag")
    assert process.returncode == 1


@pytest.fixture(name="begun")
def fixture_begun(vocab, place):
    """The command's process in the middle of its work, and the ids of the workers."""
    pathlib.Path("in/c.txt").write_text(text_of(2000) * 20)
    pathlib.Path("out").mkdir()
    pathlib.Path("out/x.tfrecord").write_text("before")
    process = command(vocab, "--dupe_factor=1000")
    while not list(pathlib.Path("out").glob(".x.tfrecord.work/*/*")):
        assert process.poll() is None
        time.sleep(0.05)
    workers = [int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
               if parent_of(path.parent) == process.pid]
    assert len(workers) == min(2, len(os.sched_getaffinity(0)))
    return process, workers


@pytest.mark.parametrize("number,code,line", [
    (signal.SIGKILL, -9, []), (signal.SIGINT, 130, ["interrupted"])])
def test_an_end_in_the_middle_leaves_no_file(go, begun, number, code, line):
    """What was there stays, the workers end, and the next run cleans up."""
    process, workers = begun
    process.send_signal(number)
    assert process.communicate()[1].splitlines()[1:] == line and process.returncode == code
    assert pathlib.Path("out/x.tfrecord").read_text() == "before"
    assert not pathlib.Path("out/x.tfrecord.json").exists()
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        time.sleep(0.05)
    pathlib.Path("in/c.txt").unlink()
    go()
    assert sorted(os.listdir("out")) == ["x.tfrecord", "x.tfrecord.json"]


def test_a_worker_that_is_killed(begun):
    """As the system does where memory is short; Beam would wait for it for ever."""
    process, workers = begun
    os.kill(workers[0], signal.SIGKILL)
    _, line = process.communicate()[1].splitlines()
    assert line.startswith("error: Worker subprocess exited with return code -9; where memory")
    assert process.returncode == 1 and os.listdir("out") == ["x.tfrecord"]


def parent_of(process):
    try:
        return int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None


def test_a_full_disk(go, place, monkeypatch):
    """One line, what was there stays, and no more is left than before."""
    pathlib.Path("out").mkdir()
    pathlib.Path("out/x.tfrecord").write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written \(File too large\); make room"):
            go("--direct_num_workers=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir("out") == ["x.tfrecord"]
    assert pathlib.Path("out/x.tfrecord").read_text() == "before"


def test_mistakes_in_the_corpus(go, place, cut_small, monkeypatch):
    """Found by workers: told in one line, and no other chunk is begun after it."""
    pathlib.Path("in/b.txt").write_bytes(text_of(40).encode() + b"film\xff\n")
    with pytest.raises(InputError, match=r"in/b.txt, line \d+: is not UTF-8"):
        go()
    written = []
    monkeypatch.setattr(parts, "write_counts", lambda *given: written.append(given))
    pathlib.Path("in/a.txt").write_bytes(b"\xff\n\n" + text_of(100).encode())
    with pytest.raises(InputError, match="in/a.txt, line 1: is not UTF-8"):
        go("--direct_num_workers=1")
    chunks = corpus.chunks(["in/a.txt", "in/b.txt"])
    assert len(written) < len(chunks) - 2 and not os.listdir("out")


def test_a_file_that_vanishes(go, monkeypatch):
    made = create.Maker.process
    monkeypatch.setattr(create.Maker, "process",
                        lambda *given: (os.remove("in/b.txt"), made(*given))[1])
    with pytest.raises(InputError, match="in/b.txt: is not there any more"):
        go("--direct_num_workers=1")
    assert not os.listdir("out")


def test_one_at_a_time(go):
    with files.locked("out/.x.tfrecord.work"), pytest.raises(InputError, match="another run is at"):
        go()


@pytest.mark.parametrize("changes,wanted", [
    ({"input_file": None}, "--input_file is missing"),
    ({"output_file": ""}, "--output_file is missing"),
    ({"vocab_file": None}, "--vocab_file is missing"),
    ({"input_file": "in/*.txt,no*"}, "--input_file=no*: no such file"),
    ({"input_file": "in"}, "--input_file=in: no such file; of a folder name the files"),
    ({"input_file": ","}, "--input_file=,: names no file"),
    ({"input_file": "in/*.txt,empty"}, "empty: no text in it"),
    ({"input_file": "one"}, "one: one document only"),
    ({"input_file": "marks"}, "marks, from byte 0: 0 documents with words"),
    ({"vocab_file": "no"}, "no: cannot be read"),
    ({"vocab_file": "vocab"}, "vocab: lacks [MASK]"),
    ({"vocab_file": "empty"}, "empty: is empty"),
    ({"max_seq_length": 4}, "--max_seq_length=4: must be at least 5"),
    ({"max_predictions_per_seq": 0}, "--max_predictions_per_seq=0: must be at least 1"),
    ({"max_predictions_per_seq": 30}, "--max_predictions_per_seq=30: an instance of"),
    ({"dupe_factor": 0}, "--dupe_factor=0: must be at least 1"),
    ({"random_seed": -1}, "--random_seed=-1: must be at least 0"),
    ({"masked_lm_prob": 1.5}, "--masked_lm_prob=1.5: must be from 0 to 1"),
    ({"short_seq_prob": float("nan")}, "--short_seq_prob=nan"),
    ({"output_file": "x,"}, "--output_file: '' would be written, and is no file"),
    ({"output_file": "in"}, "--output_file: 'in' would be written, and is no file"),
    ({"output_file": "in/../in/a.txt"}, "in/../in/a.txt would be written, and is read"),
    ({"output_file": "x", "input_file": "in/*.txt,x.*"}, "x.json would be written, and is read"),
    ({"output_file": "x,./x"}, "x would be written twice"),
    ({"output_file": "y,y.json"}, "y.json would be written twice"),
    ({"output_file": "in/d"}, "'in/d.json' would be written, and is no file"),
    ({"output_file": "one/x"}, "cannot be written (Not a directory)")])
def test_mistakes(go, place, changes, wanted):
    pathlib.Path("vocab").write_text("\n".join(SPECIAL[:4]))
    for name, text in (("empty", ""), ("one", "w1 w2\nw3\n"), ("marks", "\u200b\n\n\u200b\n"),
                       ("x.json", "w1\n\nw2\n")):
        pathlib.Path(name).write_text(text)
    pathlib.Path("in/d.json").mkdir()
    before = sorted(os.listdir())
    with pytest.raises(InputError) as error:
        go(**changes)
    assert wanted in str(error.value) and "\n" not in str(error.value)
    assert sorted(os.listdir()) in (before, sorted([*before, "out"]))


class Elsewhere(LocalFileSystem):
    """A file system of another scheme, elsewhere://, which is the current folder."""

    @classmethod
    def scheme(cls):
        return "elsewhere"

    def _path_open(self, path, *options):
        return super()._path_open(local(path), *options)

    def _list(self, folder):
        for found in super()._list(local(folder)):
            yield FileMetadata(f"elsewhere://{found.path}", found.size_in_bytes)

    def exists(self, path):
        return super().exists(local(path))

    def metadata(self, path):
        return FileMetadata(path, os.path.getsize(local(path)))

    def mkdirs(self, path):
        super().mkdirs(local(path))

    def delete(self, paths):
        super().delete(list(map(local, paths)))

    def rename(self, sources, destinations):
        super().rename(list(map(local, sources)), list(map(local, destinations)))


def local(path):
    return path.removeprefix("elsewhere://")


def test_files_elsewhere(go):
    """From and to a file system that Beam knows; what was there is replaced."""
    go(output_file="here,there")
    pathlib.Path(".x.work").mkdir()
    pathlib.Path(".x.work/left").touch()
    pathlib.Path("y").write_text("before")
    go("--direct_num_workers=1", input_file="elsewhere://in/*.txt",
       output_file="elsewhere://x,elsewhere://y")
    for one, other in (("here", "x"), ("there", "y")):
        assert pathlib.Path(one).read_bytes() == pathlib.Path(other).read_bytes()
    assert not list(pathlib.Path().glob(".*.work")) and pathlib.Path("x.json").exists()
    with pytest.raises(InputError, match="nowhere://x: "):
        go(input_file="nowhere://x")


def test_what_is_not_installed():
    with pytest.raises(InputError, match=r"apache-beam is not installed.*apache-beam==.*\[beam"):
        errors.require("beam", os="os", no_such_module="apache-beam")


def test_options_of_beam(go):
    with pytest.raises(InputError, match="--no_such=1: no option of Beam's"):
        go("--no_such=1")
    with pytest.raises(InputError, match="Nobody"):
        go("--runner=Nobody")
    made = go("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    assert made["instances"] == len(records_of("out/x.tfrecord"))
    assert json.loads(pathlib.Path("out/x.tfrecord.json").read_text()) == made


def test_capitals_and_a_vocabulary_without(go, place, caplog):
    text = "Anna Lives In Berlin\nShe Works\n\nBen Lives In Rome\nHe Works Too\n" * 3
    pathlib.Path("capitals").write_text(text)
    with pytest.raises(InputError, match="no token of .*vocab.txt has a capital letter"):
        go(input_file="capitals", do_lower_case=False)
    folder = pathlib.Path("uncased_L-2_H-128_A-2")
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, "A", "a"]))
    with pytest.raises(InputError, match="uncased_L-2_H-128_A-2 was trained on lower-cased text"):
        go(input_file="capitals", do_lower_case=False, vocab_file=str(folder / "vocab.txt"))
    assert not os.path.exists("out")
    made = go("--direct_num_workers=1")
    assert made["unknown_pieces"] == 0 and "[UNK]" not in caplog.text
    made = go("--direct_num_workers=1", input_file="capitals")
    assert made["unknown_pieces"] == made["word_pieces"] > 20
    assert "capitals: 100 % of the word pieces are [UNK]" in caplog.text
