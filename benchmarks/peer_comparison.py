"""Dev scores against the library `adapters`: is every kind of head learned as well here?

    python benchmarks/peer_comparison.py --bert_dir=DIR --glue_dir=DIR --ner_dir=DIR --squad_dir=DIR
    python benchmarks/peer_comparison.py --verdict

Our side is the plain command with default flags. The library trains on the very tokens that our
side reads, for as many epochs in batches of the same size, the pooler where ours trains it, at
each of two learning rates; our scorer scores both. Each run is kept in docs/results/peers.json as
soon as it ends, and is not done again unless --rerun forgets it.
"""
import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import peer_record
from peer_record import OURS, RATES, THEIRS, Task
from sides import PEER_PYTHON, ROOT, commit

from adapter_bert import files

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")   # of the functions that import TensorFlow
DEFAULT_BATCH = 32
# Of a trial run, which shows that both sides work.
SMOKE_FLAGS = {"max_train_examples": 64, "num_train_epochs": 4, "guard": "off"}
FOLDERS = ("bert_dir", "glue_dir", "ner_dir", "squad_dir")


class Record:
    """The file of all runs; read again before each change, since other tasks may run beside.

    Args:
      path: of the file.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def entry(self, task: Task) -> dict[str, Any]:
        """What the file has of a task; {} without any run."""
        return peer_record.read(self._path).get(task.name, {})

    def runs(self, task: Task, side: str) -> list[dict[str, Any]]:
        """The runs of a task on one side."""
        return self.entry(task).get(side, [])

    def forget(self, tasks: list[Task], side: str) -> None:
        """Removes the runs of tasks on one side."""
        record = peer_record.read(self._path)
        for task in tasks:
            record.get(task.name, {}).pop(side, None)
        files.write_json(self._path, record)

    def add(self, task: Task, side: str, run: dict[str, Any], **facts: Any) -> None:
        """Keeps a run, and what is true of all runs of its task.

        Where our runs got other settings, the library's are removed: they are to be the same.
        """
        with self._lock:
            record = peer_record.read(self._path)
            entry = record.setdefault(task.name, {"metric": task.metric})
            if "settings" in facts and facts["settings"] != entry.get("settings"):
                entry.pop(THEIRS, None)
            entry.update(facts)
            entry[side] = sorted([*entry.get(side, []), run],
                                 key=lambda run: (-run["learning_rate"], run["seed"]))
            files.write_json(self._path, record)
        print(f"{task.name:<6} {side:<8} seed {run['seed']} at {run['learning_rate']:g}: "
              f"{run['score']:.4f} in {run['train_seconds']} s", flush=True)


def flags_of(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """The flags of a task, folders still as variables."""
    return {**task.flags, **(SMOKE_FLAGS if options.smoke else {})}


def filled(flags: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Flags with the folders of the options instead of variables."""
    def value_of(value):
        for name in FOLDERS if isinstance(value, str) else ():
            value = value.replace(f"${name.upper()}", getattr(options, name) or "")
        return value
    return {name: value_of(value) for name, value in flags.items()}


def our_command(task: Task, flags: Mapping[str, Any], seed: int) -> list[str]:
    """Our command; base and output folder are variables unless `flags` has them."""
    flags = {"bert_dir": "$BERT_DIR", "output_dir": "$OUTPUT_DIR", **flags}
    return ["python", task.program, *(f"--{name}={value}" for name, value in flags.items()),
            "--do_train", "--do_eval", f"--seed={seed}"]


def output_of(command: list[str], codes: Iterable[int] = (0,)) -> str:
    """The standard output of a command that ends with one of these codes.

    Raises:
      RuntimeError: it ends with another one; with the last lines of what it printed.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT),
                   "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True,
                          check=False)
    if done.returncode not in codes:
        raise RuntimeError(f"{shlex.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def train_ours(task: Task, seed: int, options: argparse.Namespace, record: Record) -> None:
    """One run of ours; 3, the exit code of a run that learned nothing, is a result too."""
    flags = flags_of(task, options)
    with tempfile.TemporaryDirectory() as folder:
        known = {**filled(flags, options), "bert_dir": options.bert_dir, "output_dir": folder}
        output_of([sys.executable, *our_command(task, known, seed)[1:]], (0, 3))
        results = files.read_json(os.path.join(folder, "results.json"))
    chosen = {**results["recipe"]["choices"], **flags}
    record.add(task, OURS, {
        "seed": seed, "learning_rate": chosen["learning_rate"],
        "score": round(results["metrics"][task.metric], 4),
        "restarts": len(results["guard"]["failed_attempts"]),
        "learned": results["guard"]["learned"],
        "train_seconds": round(results["train_seconds"]), "commit": commit(),
        "chosen": results["recipe"]["choices"],
    }, command=shlex.join(our_command(task, flags, 0)).replace("'", ""), settings={
        "epochs": chosen["num_train_epochs"],
        "batch_size": chosen.get("train_batch_size", DEFAULT_BATCH),
        "train_pooler": chosen.get("tuning", "").endswith("_pooler")})


def train_peer(task: Task, features: Any, seed: int, rate: float, hugging_face: str,
               record: Record) -> None:
    """One run of the library, on the files of peer_features.Features and as our runs were set."""
    settings = record.entry(task)["settings"]
    kind = features.run.task.kind
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "predictions.npz")
        printed = output_of([
            str(PEER_PYTHON), "benchmarks/peer_training.py", f"--base={hugging_face}",
            f"--kind={kind}", f"--labels={features.labels}", f"--train={features.train}",
            f"--dev={features.dev}", f"--output={output}", f"--learning_rate={rate}",
            f"--epochs={settings['epochs']}", f"--batch_size={settings['batch_size']}",
            f"--seed={seed}", *(["--train_pooler"] if settings["train_pooler"] else [])])
        with np.load(output) as predicted:
            scores = features.score(dict(predicted))
    run = json.loads(printed.splitlines()[-1])
    versions = run.pop("versions")
    record.add(task, THEIRS, {"seed": seed, "learning_rate": rate, "score": scores[task.metric],
                              **run}, versions=versions)


def in_threads(jobs: list[Callable[[], None]], workers: int) -> None:
    """Does jobs in so many threads, each with its own cores, which its processes inherit.

    The first job that fails stops those that have not begun.
    """
    cores: queue.SimpleQueue = queue.SimpleQueue()
    available = sorted(os.sched_getaffinity(0))
    for place in range(workers):
        cores.put(available[place::workers])
    with concurrent.futures.ThreadPoolExecutor(
            workers, initializer=lambda: os.sched_setaffinity(0, cores.get())) as pool:
        try:
            for done in concurrent.futures.as_completed([pool.submit(job) for job in jobs]):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def our_jobs(options: argparse.Namespace, record: Record) -> list[Callable[[], None]]:
    """What is missing of our side, seed after seed."""
    return [functools.partial(train_ours, task, seed, options, record)
            for seed in range(1 if options.smoke else peer_record.SEEDS) for task in options.tasks
            if seed not in {run["seed"] for run in record.runs(task, OURS)}]


def peer_jobs(options: argparse.Namespace, record: Record) -> list[Callable[[], None]]:
    """What is missing of the library's side, seed after seed; writes what it learns from.

    Raises:
      ValueError: a task has no run of ours yet, which says for how many epochs to train.
    """
    seeds, rates = (1, RATES[:1]) if options.smoke else (peer_record.SEEDS, RATES)
    wanted = [(task, seed, rate) for seed in range(seeds) for task in options.tasks
              for rate in rates if (seed, rate) not in {
                  (run["seed"], run["learning_rate"]) for run in record.runs(task, THEIRS)}]
    if not wanted:
        return []
    if early := [task.name for task, *_ in wanted if not record.runs(task, OURS)]:
        raise ValueError(f"{early[0]}: no run of ours yet; run --side={OURS} first")
    hugging_face = converted(options)
    features = {name: written(task, options) for name, task in {
        task.name: task for task, *_ in wanted}.items()}
    return [functools.partial(train_peer, task, features[task.name], seed, rate, hugging_face,
                              record) for task, seed, rate in wanted]


def converted(options: argparse.Namespace) -> str:
    """The base in Hugging Face's form, in the work folder."""
    from adapter_bert.bert import conversion  # TensorFlow, which --verdict does without
    folder = str(options.work_dir / "huggingface")
    print(conversion.convert(options.bert_dir, folder, to="huggingface"), flush=True)
    return folder


def written(task: Task, options: argparse.Namespace) -> Any:
    """peer_features.Features of a task, in the work folder."""
    import peer_features  # TensorFlow, which --verdict does without
    flags = {**filled(flags_of(task, options), options), "bert_dir": options.bert_dir}
    features = peer_features.write(task.program, flags, options.work_dir / task.name)
    gold = peer_features.check_gold(features, task.metric, task.highest)
    print(f"{task.name:<6} written to {features.train.parent}; its own labels score {gold}",
          flush=True)
    return features


def parse() -> argparse.Namespace:
    """The flags; those that a task needs and that are missing are errors."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", help="the base, in Google's form")
    parser.add_argument("--glue_dir", help="folder of the folders MRPC, STS-B and CoLA")
    parser.add_argument("--ner_dir", help="folder of train.txt and dev.txt, words and tags")
    parser.add_argument("--squad_dir", help="folder of train.json and dev.json in SQuAD's form")
    parser.add_argument("--only", help="comma-separated tasks, as in NER,SQuAD")
    parser.add_argument("--side", choices=(OURS, THEIRS), help="default: both")
    parser.add_argument("--rerun", action="store_true",
                        help="forget the recorded runs of these tasks, of --side or of both")
    parser.add_argument("--workers", type=int, default=2,
                        help="runs at once, each on own cores: two of one thread finish sooner "
                             "than one after the other of two threads")
    parser.add_argument("--work_dir", type=pathlib.Path, default=ROOT / "demo" / "work" / "peers",
                        help="for what both sides read")
    parser.add_argument("--smoke", action="store_true",
                        help="one short run per side and task, kept in the work folder only")
    parser.add_argument("--verdict", action="store_true", help="only say how the sides compare")
    options = parser.parse_args()
    names = [task.name for task in peer_record.TASKS]
    options.tasks = options.only.split(",") if options.only else names
    if unknown := set(options.tasks) - set(names):
        parser.error(f"--only={options.only}: {', '.join(sorted(unknown))} is not one of "
                     f"{', '.join(names)}")
    options.tasks = [task for task in peer_record.TASKS if task.name in options.tasks]
    flags = "$BERT_DIR" + str([task.flags for task in options.tasks])
    for name in FOLDERS:
        if f"${name.upper()}" in flags and not (getattr(options, name) or options.verdict):
            parser.error(f"--{name} is missing; it names data or base of a task, see --only")
    return options


def main() -> None:
    """Does the runs that are not recorded yet; or compares, and exits with 1 if a task fails."""
    options = parse()
    if options.verdict:
        found = peer_record.problems(peer_record.read(peer_record.RECORD), options.tasks)
        print(*found, sep="\n", end="\n" * bool(found))
        sys.exit(bool(found))
    options.work_dir.mkdir(parents=True, exist_ok=True)
    record = Record(options.work_dir / "smoke.json" if options.smoke else peer_record.RECORD)
    for side, jobs in ((OURS, our_jobs), (THEIRS, peer_jobs)):
        if options.side in (None, side):
            if options.rerun:
                record.forget(options.tasks, side)
            in_threads(jobs(options, record), options.workers)


if __name__ == "__main__":
    main()
