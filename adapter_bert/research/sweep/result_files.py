"""A folder of results: one JSON file a run, and what all of them have in common.

    experiment.json         fingerprints of base and data
    dev/MRPC.json           the labels of the dev splits, which predictions are held against
    runs/MRPC-adapters-64-seed0-0123456789ab.json
    failures/ claims/       what went wrong; who does what just now
"""
import contextlib
import functools
import os
import pathlib
import subprocess

from adapter_bert import files, network
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.research.sweep import queue
from adapter_bert.research.sweep.experiment_config import file_name

FILE, RUNS, DEV, FAILURES, CLAIMS = "experiment.json", "runs", "dev", "failures", "claims"
PARTS = (RUNS, DEV, FAILURES, CLAIMS, "logs", "work")
MEND = "remove it, and the same command makes it anew"
KINDS = {"task": str, "flags": dict, "point": dict, "seed": int, "metrics": dict,
         "predictions": dict, "trained_parameters": int, "encoder_parameters": int,
         "seconds": (int, float), "versions": dict, "commit": (str, type(None))}


def path_of(folder, kind, name):
    """Path of a file of a results folder."""
    return os.path.join(folder, kind, f"{file_name(name)}.json")


def is_done(folder, name):
    """Whether a run has its result."""
    return os.path.exists(path_of(folder, RUNS, name))


def is_failed(folder, name):
    """Whether a run went wrong the last time, and no machine has done it since."""
    return os.path.exists(path_of(folder, FAILURES, name)) and not is_done(folder, name)


def read(folder, name):
    """The result of a run, a dict with the keys of KINDS; InputError where it is not one."""
    path = path_of(folder, RUNS, name)
    result = read_whole(path, *KINDS)
    wrong = [key for key, kind in KINDS.items()
             if not isinstance(result[key], kind) or isinstance(result[key], bool)]
    wrong += ["encoder_parameters"] * (result["encoder_parameters"] == 0)
    wrong += [key for value, key in ((result["predictions"], "dev"), (result["flags"], "precision"),
                                     (result["versions"], "tensorflow"))
              if isinstance(value, dict) and key not in value]
    if wrong:
        raise damaged(path, f"{', '.join(wrong)} cannot be")
    return result


def read_dev(folder, task):
    """{split: list of targets} of a task's dev splits, and under "kind" that of its head."""
    path = path_of(folder, DEV, task)
    mend = f"remove it and a result of {task}, and the same command makes both anew"
    found = read_whole(path, "kind", "dev", mend=mend)
    if not all(isinstance(value, str if key == "kind" else list) for key, value in found.items()):
        raise damaged(path, "it holds no lists of targets", mend)
    return found


def read_whole(path, *keys, mend=MEND):
    """The object in a file of a results folder; what is wrong with it comes with what to do."""
    try:
        return files.read_object(path, *keys)
    except InputError as error:
        raise InputError(f"{error}; {mend}") from error


def damaged(path, what, mend=MEND):
    """The InputError of a file of a results folder."""
    return InputError(f"{path}: {what}; it is damaged or another's: {mend}")


def write(folder, name, result, targets):
    """Leaves a result, and the targets of its task where they are not there yet.

    Raises:
      InputError: earlier runs of the task had other targets.
    """
    path = path_of(folder, DEV, result["task"])
    if not os.path.exists(path):
        files.write_text(path, files.one_line_a_key(targets))
    elif read_whole(path) != targets:
        raise InputError(f"{path}: earlier runs of {result['task']} had other labels, as where "
                         "another column was read; give the task another name")
    files.write_text(path_of(folder, RUNS, name), files.one_line_a_key(result))
    forgive(folder, name)


def write_failure(folder, name, reason):
    """Records that a run went wrong, unless another machine did it meanwhile."""
    if not is_done(folder, name):
        files.write_json(path_of(folder, FAILURES, name), {"run": name, "reason": reason})


def failures(folder, names):
    """{name: reason} of those of these runs that went wrong."""
    return {name: str(read_whole(path_of(folder, FAILURES, name), "reason")["reason"])
            for name in names if is_failed(folder, name)}


def in_words(folder, failed):
    """What a person is told of runs that went wrong, as `failures` returns them."""
    return (f"{len(failed)} runs went wrong: {', '.join(failed)}; see {folder}/{FAILURES}, and try "
            "again with --retry_failed")


def forgive(folder, name):
    """Forgets that a run went wrong."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path_of(folder, FAILURES, name))


def bind(folder, facts):
    """Makes a folder one of this base and data, or refuses it.

    Args:
      folder: path; made where it is missing.
      facts: what `facts_of` returns.

    Raises:
      InputError: it holds results of another base or other data, or something else.
    """
    for path in (folder, *(os.path.join(folder, part) for part in PARTS)):
        if os.path.exists(path) and not os.path.isdir(path):
            raise InputError(f"{path}: is no folder; name another --results")
    if not os.path.exists(os.path.join(folder, FILE)) and os.path.isdir(os.path.join(folder, RUNS)):
        raise InputError(f"{folder}: holds runs but no {FILE}; name another --results")
    with queue.alone(os.path.join(folder, CLAIMS)):
        _bind(folder, facts)


def _bind(folder, facts):
    """`bind` while no other process does."""
    path = os.path.join(folder, FILE)
    before = read_facts(folder) if os.path.exists(path) else facts
    differing = ["the base"] * any(before["base"].get(key, value) != value
                                   for key, value in facts["base"].items() if key != "name")
    differing += [f"the data of {task}" for task, found in facts["data"].items()
                  if before["data"].get(task, found) != found]
    if differing:
        raise InputError(f"{folder}: made by an experiment in which {' and '.join(differing)} "
                         "differed; name another --results")
    together = {"base": {**facts["base"], **before["base"]},
                "data": {**facts["data"], **before["data"]}}
    if together != before or before is facts:
        files.write_json(path, together)


def read_facts(folder):
    """What `facts_of` returned of a results folder; InputError where the file is damaged."""
    path = os.path.join(folder, FILE)
    mend = "bring it back, or name another --results"
    facts = read_whole(path, "base", "data", mend=mend)
    if not all(isinstance(value, dict) for value in facts.values()) or not all(
            isinstance(facts["base"].get(key), str) for key in ("name", "fingerprint")):
        raise damaged(path, "it does not say which base and data the results are of", mend)
    return facts


def facts_of(base_dir, data):
    """What all results of a folder have in common.

    Args:
      base_dir: folder of the base.
      data: {task: {split: path}}.
    """
    located = checkpoint_io.locate(base_dir)
    return {"base": {"name": checkpoint_io.name_of(located.init_checkpoint),
                     "fingerprint": checkpoint_io.fingerprint(located.init_checkpoint),
                     "config": network.read_config(located.bert_config_file).to_dict(),
                     "vocab": files.sha256(located.vocab_file)},
            "data": {task: {split: files.sha256_of_all(path) for split, path in paths.items()}
                     for task, paths in data.items()}}


@functools.cache
def commit():
    """The commit of this code, marked where its files differ from it; None where there is none.

    As it is when a process asks first.
    """
    root = str(pathlib.Path(__file__).parents[3])
    git = ["git", "-C", root]
    try:
        for command in (
            ["ls-files", "--error-unmatch", "adapter_bert/research/sweep/result_files.py"],
            ["rev-parse", "--short=12", "HEAD"],
        ):
            said = subprocess.run([*git, *command], check=True, text=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!docs"], check=False)
    return said.stdout.strip() + "-dirty" * bool(differs.returncode)
