"""Pre-training data of a million sentences: the command against the plain way in one process.

    python benchmarks/pretraining_data_speed.py --bert_dir=DIR --reviews=dataset.json [--smoke]

The corpus is the sentences of product reviews, a review a document, again and again in another
order. The command is timed from the start of its process to its end, with BERT's default flags. The
plain way takes a sample of the corpus, sentence by sentence and instance by instance in Python,
with `FullTokenizer.tokenize` and TensorFlow's messages. A third number stands between them: our way
of making instances, in one process, with the plain tokenizer.
"""
import argparse
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import sides
import tensorflow.compat.v1 as tf

from adapter_bert.bert import tokenization
from adapter_bert.data import example_codec, tfrecord
from adapter_bert.data.pretraining import instances, masking, pairs
from adapter_bert.data.pretraining.creation_settings import PretrainingSettings

SENTENCES, SAMPLE, REPETITIONS, FLOOR = 1_000_000, 20_000, 3, 8.0
FLAGS = PretrainingSettings()
PAGE = os.sysconf("SC_PAGE_SIZE")


def write_corpus(reviews, path, count):
    """Writes `count` sentences, reviews in a new order each time that all were there."""
    documents = [re.split(r"(?<=[.!?])\s+", " ".join(review["text"].split()))
                 for review in json.loads(pathlib.Path(reviews).read_text())]
    documents = [document for document in documents if any(document)]
    source, left = random.Random(0), count
    with open(path, "w", encoding="utf-8") as file:
        while left:
            source.shuffle(documents)
            for document in documents:
                some = [sentence for sentence in document if sentence][:left]
                left -= len(some)
                file.write("".join(f"{sentence}\n" for sentence in some) + "\n")


def command(corpus, output, vocab_file):
    """Seconds and most bytes in memory of the command, all its processes together."""
    start = time.perf_counter()
    process = subprocess.Popen([
        sys.executable, str(sides.ROOT / "create_pretraining_data.py"), f"--input_file={corpus}",
        f"--output_file={output}", f"--vocab_file={vocab_file}"])
    peak, over = [0], threading.Event()

    def watch():
        while not over.wait(0.2):
            peak[0] = max(peak[0], resident(process.pid))
    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    assert code == 0
    return seconds, peak[0]


def resident(process):
    """Bytes in memory of a process and of all that it started, shared ones in each."""
    try:
        threads = pathlib.Path(f"/proc/{process}/task").glob("*/children")
        children = [int(child) for found in threads for child in found.read_text().split()]
        own = int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):   # it has ended
        return 0
    return own + sum(map(resident, children))


def read_documents(corpus, tokenizer, count):
    """The first `count` sentences as documents of sentences of ids, by the plain tokenizer."""
    documents = [[]]
    with open(corpus, encoding="utf-8") as file:
        for line in file:
            if not line.strip():
                documents.append([])
                continue
            ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(line.strip()))
            documents[-1] += [ids] if ids else []
            count -= 1
            if not count:
                break
    return [document for document in documents if document]


def plain(corpus, tokenizer, count, path):
    """The plain way, from text to file."""
    documents, source = read_documents(corpus, tokenizer, count), random.Random(FLAGS.random_seed)
    made = [instance for _ in range(FLAGS.dupe_factor) for number in range(len(documents))
            for instance in plain_instances(documents, number, tokenizer.vocab, source)]
    source.shuffle(made)
    with tf.io.TFRecordWriter(path) as writer:
        for instance in made:
            writer.write(message(instance))
    return len(made)


def plain_instances(documents, number, vocab, source):
    """Instances of a document, sentence by sentence."""
    document, limit, at = documents[number], FLAGS.max_seq_length - 3, 0
    target = source.randint(2, limit) if source.random() < FLAGS.short_seq_prob else limit
    while at < len(document):
        end, length = at, 0
        while end < len(document) and length < target:
            length += len(document[end])
            end += 1
        middle = source.randint(at + 1, end - 1) if end - at > 1 else end
        first, second = sum(document[at:middle], []), sum(document[middle:end], [])
        is_random = end - at == 1 or source.random() < 0.5
        if is_random:
            second, end = plain_random_next(documents, number, target - len(first), source), middle
        while len(first) + len(second) > limit:
            longer = first if len(first) > len(second) else second
            longer.pop(0 if source.random() < 0.5 else -1)
        yield plain_masked(first, second, is_random, vocab, source)
        at = end


def plain_random_next(documents, number, wanted, source):
    """Sentences of another document."""
    other = number
    while other == number:
        other = source.randrange(len(documents))
    ids = []
    for sentence in documents[other][source.randrange(len(documents[other])):]:
        ids = ids + sentence
        if len(ids) >= wanted:
            break
    return ids


def plain_masked(first, second, is_random, vocab, source):
    """An instance as {feature: list}."""
    ids = [vocab["[CLS]"], *first, vocab["[SEP]"], *second, vocab["[SEP]"]]
    places = [place for place in range(1, len(ids) - 1) if place != len(first) + 1]
    source.shuffle(places)
    wanted = min(FLAGS.max_predictions_per_seq, max(1, round(len(ids) * FLAGS.masked_lm_prob)))
    places = sorted(places[:wanted])
    labels = [ids[place] for place in places]
    for place in places:
        if source.random() < 0.8:
            ids[place] = vocab["[MASK]"]
        elif source.random() < 0.5:
            ids[place] = source.randrange(len(vocab))
    left, fewer = FLAGS.max_seq_length - len(ids), FLAGS.max_predictions_per_seq - len(places)
    return {"input_ids": ids + [0] * left, "input_mask": [1] * len(ids) + [0] * left,
            "segment_ids": [0] * (len(first) + 2) + [1] * (len(second) + 1) + [0] * left,
            "masked_lm_positions": places + [0] * fewer, "masked_lm_ids": labels + [0] * fewer,
            "masked_lm_weights": [1.0] * len(places) + [0.0] * fewer,
            "next_sentence_labels": [int(is_random)]}


def message(instance):
    """An instance as TensorFlow's own message."""
    columns = {name: tf.train.Feature(float_list=tf.train.FloatList(value=values))
               if name == "masked_lm_weights"
               else tf.train.Feature(int64_list=tf.train.Int64List(value=values))
               for name, values in instance.items()}
    return tf.train.Example(features=tf.train.Features(feature=columns)).SerializeToString()


def between(corpus, tokenizer, count, path):
    """The plain tokenizer, and our instances, in this process."""
    read = read_documents(corpus, tokenizer, count)
    sentences = [sentence for document in read for sentence in document]
    documents = pairs.Documents(
        np.array([index for sentence in sentences for index in sentence], np.int32),
        np.cumsum([0, *map(len, sentences)]), np.cumsum([0, *map(len, read)]))
    spec = instances.feature_spec(FLAGS.max_seq_length, FLAGS.max_predictions_per_seq)
    pieces, made = masking.pieces_of(tokenizer.vocab), 0
    with open(path, "wb") as file:
        for dupe in range(FLAGS.dupe_factor):
            for rows, counts in instances.make(
                    documents, FLAGS, pieces, np.random.default_rng(dupe)):
                file.writelines(tfrecord.framed(example_codec.serialize(spec, rows)))
                made += counts["instances"]
    return made


def seconds_of(way, *arguments):
    """Seconds that a way takes, and how many instances it made."""
    start = time.perf_counter()
    made = way(*arguments)
    return time.perf_counter() - start, made


def measure(folder, reviews, vocab_file, sentences, sample, repetitions):
    """What was measured, a dict."""
    tokenizer = tokenization.FullTokenizer(vocab_file)
    paths = {count: os.path.join(folder, str(count)) for count in (sentences, sentences // 4)}
    for count, path in paths.items():
        write_corpus(reviews, path, count)
    output, found = os.path.join(folder, "made"), {"plain": [], "between": [], "command": []}
    for _ in range(repetitions):
        for name, way in (("plain", plain), ("between", between)):
            seconds, made = seconds_of(way, paths[sentences], tokenizer, sample, output)
            found[name].append({"sentences_per_second": sample / seconds,
                                "instances_per_sentence": made / sample})
        seconds, peak = command(paths[sentences], output, vocab_file)
        made = json.loads(pathlib.Path(f"{output}.json").read_text())["instances"]
        found["command"].append({"sentences_per_second": sentences / seconds, "seconds": seconds,
                                 "peak_bytes": peak, "instances_per_sentence": made / sentences,
                                 "output_bytes": os.path.getsize(output)})
    return {**found, "quarter_peak_bytes": command(paths[sentences // 4], output, vocab_file)[1]}


def main():
    """Prints and writes the rates; exits with 1 below the floor."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--reviews", required=True, help="Meta-BERT's dataset.json")
    parser.add_argument("--smoke", action="store_true", help="a few sentences, once")
    options = parser.parse_args()
    sizes = (4000, 400, 1) if options.smoke else (SENTENCES, SAMPLE, REPETITIONS)
    with tempfile.TemporaryDirectory() as folder:
        vocab_file = os.path.join(options.bert_dir, "vocab.txt")
        found = measure(folder, options.reviews, vocab_file, *sizes)
    rates = {name: [one["sentences_per_second"] for one in found[name]]
             for name in ("command", "plain", "between")}
    ratios = [ours / theirs for ours, theirs in zip(rates["command"], rates["plain"], strict=True)]
    peak = statistics.median(one["peak_bytes"] for one in found["command"])
    claims = [("sentences a second", statistics.median(rates["command"]), None),
              ("times as fast as ours with the plain tokenizer, one process", statistics.median(
                  ours / theirs for ours, theirs in zip(
                      rates["command"], rates["between"], strict=True)), None),
              ("bytes in memory, all processes", peak, None),
              ("bytes in memory, times those for a quarter of the corpus",
               peak / found["quarter_peak_bytes"], None),
              ("times as fast as the plain way, one process", statistics.median(ratios), FLOOR)]
    for what, number, floor in claims:
        print(f"{what:<62} {number:>14,.1f}{f', floor {floor:.0f}' if floor else ''}")
    if not options.smoke:
        sides.write("pretraining-data", {"sentences": sizes[0], **found}, [
            (f"pre-training data: {what}", number, floor) for what, number, floor in claims])
    sys.exit(not options.smoke and statistics.median(ratios) < FLOOR)


if __name__ == "__main__":
    main()
