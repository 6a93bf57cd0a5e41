"""README.md's Python blocks and shell blocks run as they stand; how-to pages have known flags."""
import csv
import doctest
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from runs import go, sentence

from adapter_bert.cli.main import make_parser

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MESSAGES = {
    "refund": ("i want my {} money back", "please refund the {} order", "return my payment for {}"),
    "delivery": ("where is my {} parcel", "the {} package is late", "track the {} shipment"),
    "password": ("i forgot my {} password", "cannot log in to {}", "reset my {} login please"),
    "thanks": ("thank you for the {} help", "great {} service, thanks", "you solved the {} issue")}
THINGS = ("blue", "first", "winter", "office", "family", "second", "garden", "travel", "kitchen")


def shell_lines(text):
    """The commands of the indented blocks that begin with adapter-bert, make or source."""
    joined = re.sub(r"\\\n +", "", text)
    return re.findall(r"^    ((?:adapter-bert|make|source) .*)$", joined, re.MULTILINE)


def section(title):
    return re.search(rf"^## {title}\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)[1]


def write_reviews(folder, count=200):
    source, folder = random.Random(0), pathlib.Path(folder)
    folder.mkdir()
    for split in ("train", "dev"):
        rows = [f"{sentence(source, i % 2)}\t{('negative', 'positive')[i % 2]}"
                for i in range(count)]
        (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return str(folder)


def write_messages(path, count=300, seed=0):
    """Support messages of four intents."""
    source, intents = random.Random(seed), list(MESSAGES)
    rows = [(source.choice(MESSAGES[intent]).format(source.choice(THINGS)), intent)
            for intent in (intents[i % 4] for i in range(count))]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "intent"), *rows])


def test_python_in_the_readme(tiny_dir, tmp_path):
    metrics = go(task_name="custom", text_column="text", label_column="label",
                 data_dir=write_reviews(tmp_path / "reviews"), bert_dir=tiny_dir, do_train=True,
                 do_eval=True, output_dir=str(tmp_path / "run"), tuning="top_layers=2",
                 learning_rate=3e-3, num_train_epochs=20.0, bias_correction=True)
    assert metrics["eval_accuracy"] > 0.95
    names = {"bert_dir": tiny_dir, "pack": str(tmp_path / "run" / "pack")}
    found = doctest.testfile(str(ROOT / "README.md"), module_relative=False, globs=names)
    assert found.attempted >= 5 and not found.failed


# Pages with commands, and how many each has at least.
PAGES = {"README.md": 5, **dict.fromkeys(
    (f"docs/how-to/{name}.md" for name in ("ner", "question-answering", "train", "tune")), 1)}


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_only_known_flags(page):
    """Every line in a block that begins with adapter-bert is parsed; make targets exist."""
    lines = shell_lines((ROOT / page).read_text(encoding="utf-8"))
    make_targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(lines) >= PAGES[page]
    for line in lines:
        command, *words = shlex.split(line)
        if command == "make":
            assert re.search(rf"^{words[0]}:", make_targets, re.MULTILINE), line
        elif command == "adapter-bert":
            make_parser().parse_args(words)


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*?[^\\])\n", (ROOT / "Makefile").read_text(
        encoding="utf-8"), re.MULTILINE | re.DOTALL)[1].replace("\\\n", " ").split()
    assert sorted(listed) == sorted(name for name in phony if not name.startswith("$("))


@pytest.mark.slow
def test_own_texts_as_the_readme_has_it(tmp_path, minilm_dir):
    """The block "Train on your own texts" as typed, with 300 messages of 4 intents."""
    write_messages(tmp_path / "messages.csv")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "adapter-bert").write_text(f'#!/bin/sh\nexec {sys.executable} -m adapter_bert "$@"\n')
    (tools / "adapter-bert").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for line in shell_lines(section("Train on your own texts")):
        subprocess.run(["bash", "-euc", line], cwd=tmp_path, env=environment, check=True)
    with open(tmp_path / "predicted.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    assert sum(row["label"] == row["intent"] for row in rows) >= 0.9 * 300


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_messages_are_learned_with_default_flags(tmp_path, minilm_dir, seed):
    """300 messages of 4 intents; 200 that it has not seen are at least 90 % right."""
    write_messages(tmp_path / "messages.csv")
    write_messages(tmp_path / "new.csv", 200, seed=1)
    run_adapter_bert(tmp_path, "train", "--data_file=messages.csv", f"--seed={seed}",
                     "--text_column=text", "--label_column=intent", "--bert_dir=demo",
                     "--output_dir=out")
    run_adapter_bert(tmp_path, "predict", "out", "--bert_dir=demo", "new.csv",
                     "--output=predicted.csv")
    with open(tmp_path / "predicted.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    assert sum(row["label"] == row["intent"] for row in rows) >= 0.9 * 200


def run_adapter_bert(folder, *words):
    subprocess.run([sys.executable, "-m", "adapter_bert", *words], cwd=folder, check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.long
def test_quick_start_in_a_fresh_clone(tmp_path):
    """`git clone`, then the block "Quick start" line by line in one shell."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), "clone"], cwd=tmp_path, check=True)
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ["bash", "-euc", "\n".join(shell_lines(section("Quick start")))], cwd=tmp_path / "clone",
        env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(",A film to remember.")
