"""Runs on the tiny BERT, and the small data they learn."""
import os
import random

import numpy as np

from adapter_bert import files
from adapter_bert.bert import checkpoint_io
from adapter_bert.train.named_task import squad_task, text_task
from adapter_bert.train.run import run
from adapter_bert.train.settings import Settings, SquadSettings

# What a run does that leaves nothing to the recipe and the guard.
REFERENCE = {"recipe": "reference", "guard": "off"}
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


def write_domains(path, names=("books", "music", "toys", "games"), count=60, seed=0):
    """A data set of made sentences in so many domains."""
    source = random.Random(seed)
    files.write_json(str(path), [
        {"text": f"{sentence(source, n % 2)} word{place} word{n % 10} word{n // 10}",
         "label": ("negative", "positive")[n % 2], "domain": name}
        for place, name in enumerate(names) for n in range(count)])
    return str(path)


def write(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def go(**flags):
    """Runs the classifier with these flags on top of small ones; returns the metrics."""
    flags = {"task_name": "SST-2", "max_seq_length": 16, "train_batch_size": 8,
             "learning_rate": 0.01, "adapter_size": 4, **REFERENCE, **flags}
    settings = Settings(**flags)
    return run(settings, frozenset(flags), text_task(settings))


FILLERS = ("a", "the", "film", "story", "plot", "was", "it", ".", "!")


def squad_paragraph(source, name, is_impossible, words=34):
    """A paragraph of one question, whose answer is the only part of it that judges."""
    context = source.choices(FILLERS, k=source.randrange(4, words))
    question = {"id": name, "question": source.choice(("the film", "a plot", "it")), "answers": [],
                "is_impossible": is_impossible}
    if not is_impossible:
        answer = f"very {source.choice(('good', 'bad', 'dull', 'fine'))}"
        place = source.randrange(len(context))
        context.insert(place, answer)
        question["answers"] = [{"text": answer, "answer_start": len(
            " ".join([*context[:place], ""]))}]
    return {"context": " ".join(context), "qas": [question]}


def write_squad(path, count, seed=0, impossible=0.0, words=34):
    """A file in SQuAD's form of made questions, so many of them without an answer."""
    source = random.Random(seed)
    paragraphs = [squad_paragraph(source, f"q{i}", source.random() < impossible, words)
                  for i in range(count)]
    files.write_json(str(path), {"version": "made", "data": [
        {"title": "", "paragraphs": paragraphs}]})
    return str(path)


def go_squad(**flags):
    """Runs run_squad.py with these flags on top of small ones; returns the metrics."""
    return go_squad_with({
        "max_seq_length": 20, "doc_stride": 6, "max_query_length": 4, "train_batch_size": 16,
        "learning_rate": 0.01, "adapter_size": 4, **REFERENCE, **flags})


def go_squad_with(flags):
    """Runs run_squad.py with these flags and no others."""
    settings = SquadSettings(**flags)
    return run(settings, frozenset(flags), squad_task(settings))


def values(prefix):
    """{name: array} of a checkpoint."""
    checkpoint = checkpoint_io.Checkpoint(prefix)
    return {name: checkpoint[name] for name in checkpoint}


def same(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first)
