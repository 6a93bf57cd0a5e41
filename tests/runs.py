"""Runs of the classifier on the tiny BERT, and the small data they learn."""
import os
import random

import run_classifier
from adapter_bert.training.run import run
from adapter_bert.training.settings import Settings

GOOD, BAD = ("good", "fine", "very good"), ("bad", "dull", "not good")


def sentence(source, label):
    noun = source.choice(("film", "story", "plot"))
    return f"the {noun} was {source.choice(GOOD if label else BAD)} " + "a " * source.randrange(9)


def write_sst2(folder, train=96, dev=21, seed=0):
    """SST-2's files of made sentences; test.tsv has 5 rows."""
    source = random.Random(seed)
    os.makedirs(folder, exist_ok=True)
    for name, count in (("train", train), ("dev", dev)):
        rows = [f"{sentence(source, i % 2)}\t{i % 2}" for i in range(count)]
        write(os.path.join(folder, f"{name}.tsv"), ["sentence\tlabel", *rows])
    write(os.path.join(folder, "test.tsv"), ["index\tsentence"] + [
        f"{i}\t{sentence(source, i % 2)}" for i in range(5)])
    return str(folder)


def write(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def go(**flags):
    """Runs the classifier with these flags on top of small ones; returns the metrics."""
    flags = {"task_name": "SST-2", "max_seq_length": 16, "train_batch_size": 8,
             "learning_rate": 0.01, "adapter_size": 4, **flags}
    settings = Settings(**flags)
    return run(settings, frozenset(flags), run_classifier.task_of(settings))
