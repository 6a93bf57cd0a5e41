"""MRPC and SST-2 as TFRecord files: on all cores against the plain tokenizer in one process.

    python benchmarks/tokenize_speed.py --bert_dir=DIR --glue_dir=DIR [--smoke]

Both start from the examples in memory and end with a file that holds the same records.
"""
import argparse
import os
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sides
import tensorflow.compat.v1 as tf

from adapter_bert import kinds
from adapter_bert.bert import tokenization
from adapter_bert.data import features, records

TASKS, FLOOR, REPETITIONS, MAX_LENGTH = ("MRPC", "SST-2"), 10.0, 5, 128
LABELS = {"0": 0, "1": 1}
SPEC = features.feature_spec("classification", labelled=True)


def serialize_with_messages(row):
    """A record built with TensorFlow's own message classes."""
    columns = {name: tf.train.Feature(int64_list=tf.train.Int64List(
        value=row[name] if isinstance(row[name], list) else [row[name]])) for name in row}
    return tf.train.Example(features=tf.train.Features(feature=columns)).SerializeToString()


def join(first, second, cls, sep):
    """The ids and segment ids of one text, or of a pair; `second` is None for one text."""
    while len(first) + len(second or ()) > MAX_LENGTH - 2 - (second is not None):
        (second if second is not None and len(second) >= len(first) else first).pop()
    row = {"input_ids": [cls, *first, sep], "segment_ids": [0] * (len(first) + 2)}
    if second is not None:
        row["input_ids"] += [*second, sep]
        row["segment_ids"] += [1] * (len(second) + 1)
    return row


def plain(examples, tokenizer, path):
    """Text by text with FullTokenizer.tokenize, in this process."""
    cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])

    def ids(text):
        return None if text is None else tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    with tf.io.TFRecordWriter(path) as writer:
        for index, example in enumerate(examples):
            row = join(ids(example.text_a), ids(example.text_b), cls, sep)
            writer.write(serialize_with_messages(
                {**row, "index": index, "label_ids": LABELS[example.label]}))


def ours(examples, tokenizer, path):
    """As a run does it."""
    def rows_between(start, stop):
        return features.featurize(examples[start:stop], tokenizer, MAX_LENGTH, LABELS, start)
    records.write_parts(path, rows_between, len(examples), SPEC)


def content(path):
    """The records of a file as dicts."""
    return [{name: list(column.int64_list.value) for name, column in
             tf.train.Example.FromString(record).features.feature.items()}
            for record in tf.compat.v1.io.tf_record_iterator(path)]


def measure(examples, vocab_file, repetitions):
    """[(seconds of ours, seconds of plain)], each with a new tokenizer; checks that files agree."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repetitions):
            pair = []
            for way in (ours, plain):
                tokenizer = tokenization.FullTokenizer(vocab_file)
                start = time.perf_counter()
                for name, rows in examples.items():
                    way(rows, tokenizer, os.path.join(folder, f"{way.__name__}-{name}"))
                pair.append(time.perf_counter() - start)
            times.append(pair)
        for name in examples:
            one, other = (content(os.path.join(folder, f"{way}-{name}"))
                          for way in ("ours", "plain"))
            assert one == other, f"{name}: the two files differ"
    return times


def main():
    """Prints and writes the ratio; exits with 1 below the floor."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--glue_dir", required=True)
    parser.add_argument("--smoke", action="store_true", help="200 examples, once")
    options = parser.parse_args()
    examples = {name: kinds.read_examples(kinds.get_task(name), os.path.join(
        options.glue_dir, name), "train")[:200 if options.smoke else None] for name in TASKS}
    times = measure(examples, os.path.join(options.bert_dir, "vocab.txt"),
                    1 if options.smoke else REPETITIONS)
    ratios = [plain_seconds / our_seconds for our_seconds, plain_seconds in times]
    count = sum(map(len, examples.values()))
    ratio = statistics.median(ratios)
    print(f"{count:,} examples: ours {statistics.median(t[0] for t in times):.2f} s, plain "
          f"{statistics.median(t[1] for t in times):.2f} s; {ratio:.1f} times "
          f"({min(ratios):.1f} to {max(ratios):.1f}), floor {FLOOR:.0f}")
    if not options.smoke:
        sides.write("tokenize", {"examples": count, "seconds_ours_and_plain": times}, [
            ("tokenize and write MRPC and SST-2: times as fast as the plain tokenizer, one process",
             ratio, FLOOR)])
    sys.exit(not options.smoke and ratio < FLOOR)


if __name__ == "__main__":
    main()
