"""Plain against meta-trained starts on new domains; a part of docs/results.md is made of it.

Meta-training is chosen by its own accuracy on the validation domains, and on these a learning rate
for each start and number of shots out of the same ones; the test domains are asked once, with what
was chosen. A run whose result file is there, of the same command and data, is not done again;
meta-training that was cut off goes on.

    python benchmarks/meta_quality.py --bert_dir=DIR --data=dataset.json [--only=adapters]
"""
import argparse
import collections
import operator
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
from typing import NamedTuple

import meta_report
import quality
from sides import commit

from adapter_bert import files
from adapter_bert.errors import InputError, exit_on_input_error
from adapter_bert.research.meta.start_comparison import KEYS, mean_of

PLAIN, META, TRAINED = meta_report.STARTS
# What a rate is chosen for: a part of the config, the rates in it, their flag.
CHOICES = {"shots": ("few_shot_choice", "rates", "inner_update_lr"),
           "domains": ("fine_tuning_choice", "fine_tuning_rates", "learning_rate")}


class Place(NamedTuple):
    """Where an experiment reads and writes.

    config: dict of its file.
    work_dir: folder of what meta-training leaves.
    results: folder of the result files.
    """

    config: dict
    bert_dir: str
    data: str
    work_dir: str
    results: pathlib.Path


def flags_of(place, tested, *parts, **more):
    """The flags of a run: what all have in common, the domains by their part in it, and more."""
    config = place.config
    other = "validation_domains" if tested == "test_domains" else "test_domains"
    merged = {"data": place.data, "bert_dir": place.bert_dir, **config["common"],
              "test_domains": ",".join(config[tested]),
              "validation_domains": ",".join(config[other])}
    for part in parts:
        merged |= config[part]
    return {**merged, **more}


def command(script, flags):
    """The words of a command."""
    return [script, *(f"--{name}={value}" for name, value in flags.items())]


def shown(place, script, flags):
    """A command as the docs show it, without paths of this machine."""
    words = shlex.join(["python", *command(script, flags)])
    for path, name in ((place.data, "$DATA"), (place.bert_dir, "$BERT_DIR"),
                       (place.work_dir, "$WORK")):
        words = words.replace(path, name)
    return words


def fine_tuned(place, name, flags):
    """The result of a run of run_finetuning.py, from its file where that is of these flags."""
    path, told = place.results / f"{name}.json", shown(place, "run_finetuning.py", flags)
    if not (is_of(path, told) and files.read_json(path)["data"] == files.sha256(place.data)):
        with tempfile.TemporaryDirectory() as output_dir:
            call(command("run_finetuning.py", {**flags, "output_dir": output_dir}))
            result = files.read_json(os.path.join(output_dir, "results.json"))
        del result["settings"]
        files.write_json(path, {"command": told, "commit": commit(), **result})
    return files.read_json(path)


def is_of(path, told):
    """Whether a result file is there and was made by the command `told`."""
    return path.exists() and files.read_json(path)["command"] == told


def meta_trained(place, tuning):
    """Prefix of the checkpoint that is best on the validation domains, of all rates tried."""
    found = {}
    for inner, outer in place.config["tunings"][tuning]["meta_rates"]:
        name = f"meta-{tuning}-{inner:g}-{outer:g}"
        best = meta_training(place, name, tuning, inner, outer)
        prefix = os.path.join(place.work_dir, name, best["checkpoint"])
        found[prefix] = best["validation_accuracy"]
    prefix = max(found, key=found.__getitem__)
    if not os.path.exists(f"{prefix}.index"):
        raise InputError(f"{prefix}: is there no more; remove the results of its meta-training in "
                         f"{place.results} to do it again")
    return prefix


def meta_training(place, name, tuning, inner, outer):
    """What a run of run_meta_training.py with these learning rates says of its best checkpoint."""
    path, folder = place.results / f"{name}.json", os.path.join(place.work_dir, name)
    flags = flags_of(place, "test_domains", "meta_training", tuning=tuning, inner_update_lr=inner,
                     outer_update_lr=outer, output_dir=folder)
    told = shown(place, "run_meta_training.py", flags)
    if not is_of(path, told):
        forget(place, name)
        call(command("run_meta_training.py", flags))
        files.write_json(path, {
            "command": told, "commit": commit(),
            **{part: files.read_json(os.path.join(folder, f"{part}.json"))
               for part in ("best", "history")}})
    return files.read_json(path)["best"]


def forget(place, name):
    """Removes the results of runs that started from what meta-training of that name left."""
    for path in place.results.glob("*.json"):
        if f"$WORK/{name}/" in files.read_json(path).get("command", ""):
            path.unlink()


def call(words):
    """Runs a command of the project; InputError where it fails."""
    done = subprocess.run([sys.executable, *words], cwd=quality.ROOT, check=False)
    if done.returncode:
        raise InputError(f"{shlex.join(words)}: ended with exit code {done.returncode}, see above; "
                         "a learning rate that diverges goes out of the config, and a changed "
                         "meta-training wants another --work_dir")


def chosen(place, what, name, tuning, start):
    """The learning rate that is best on the validation domains, for each number of shots.

    Args:
      place: Place.
      what: key of CHOICES.
      name: of the start.
      tuning: tuning mode.
      start: flags that name the start.

    Returns:
      {shots: rate}; of whole domains, whose shots are None, likewise.
    """
    part, listed, flag = CHOICES[what]
    found = collections.defaultdict(dict)
    for rate in place.config["tunings"][tuning][listed]:
        flags = flags_of(place, "validation_domains", part, tuning=tuning, **{flag: rate}, **start)
        for point in fine_tuned(place, f"choose-{what}-{name}-{tuning}-{rate:g}", flags)["points"]:
            found[point["shots"]][rate] = mean_of(point["draws"]).mean
    return {shots: max(means, key=means.__getitem__) for shots, means in found.items()}


def few_shots(place, name, tuning, start, rates):
    """Leaves the curve of a start on the test domains, a run for each rate of `rates`.

    Args:
      place, name, tuning, start: as for `chosen`.
      rates: {shots: rate}; no shots, where nothing is learned, go with the fewest of these.
    """
    wanted = collections.defaultdict(list)
    for count in place.config["few_shot"]["shots"].split(","):
        wanted[rates[int(count) or min(rates)]].append(count)
    parts = [fine_tuned(place, f"few-{name}-{tuning}-{rate:g}", {
        **flags_of(place, "test_domains", "few_shot", tuning=tuning, inner_update_lr=rate, **start),
        "shots": ",".join(counts)}) for rate, counts in wanted.items()]
    files.write_json(place.results / f"shots-{name}-{tuning}.json", {
        **{key: parts[0][key] for key in KEYS},
        "points": sorted((point for part in parts for point in part["points"]),
                         key=operator.itemgetter("shots"))})


def measure(place, tuning):
    """Everything of one tuning mode."""
    starts = {PLAIN: {}, META: {"bert_model": meta_trained(place, tuning)}}
    learning = {name: chosen(place, "domains", name, tuning, start)[None]
                for name, start in starts.items()}
    for name, start in starts.items():
        for count in place.config["num_domains"]:
            fine_tuned(place, f"domains{count}-{name}-{tuning}", flags_of(
                place, "test_domains", "fine_tuning", tuning=tuning, num_domain=count,
                learning_rate=learning[name], **start))
    fine_tuned(place, f"zero-{META}-{tuning}", flags_of(
        place, "test_domains", tuning=tuning, zero_shot=True, **starts[META]))
    starts[TRAINED] = {"learning_rate": learning[PLAIN],
                       "epochs": place.config["fine_tuning"]["epochs"],
                       "num_domain": max(place.config["num_domains"])}
    for name, start in starts.items():
        few_shots(place, name, tuning, start, chosen(place, "shots", name, tuning, start))


@exit_on_input_error
def main():
    """Runs what has no result, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", help="base in Google's form")
    parser.add_argument("--data", help="dataset.json in Meta-BERT's form")
    parser.add_argument("--config", default=str(quality.ROOT / "experiments" / "meta.json"))
    parser.add_argument("--only", help="comma-separated tuning modes, as in adapters,full")
    parser.add_argument("--work_dir", default="experiments/work", help="keeps checkpoints")
    parser.add_argument("--results", help="folder of the results (docs/results/meta); the report "
                                          "is written for that one only")
    parser.add_argument("--report", action="store_true", help="only write the report")
    parser.add_argument("--verdict", action="store_true",
                        help="only say which claims the results miss")
    options = parser.parse_args()
    config = files.read_json(options.config)
    results = pathlib.Path(options.results or meta_report.RESULTS)
    if options.verdict:
        missed = meta_report.verdict(results)
        print("; ".join(missed) or "all claims hold")
        sys.exit(bool(missed))
    results.mkdir(parents=True, exist_ok=True)
    place = Place(config, *map(os.path.abspath, (
        options.bert_dir or ".", options.data or ".", options.work_dir)), results)
    wanted = options.only.split(",") if options.only else list(config["tunings"])
    for tuning in wanted:
        if not options.report:
            measure(place, tuning)
    print("\n".join(meta_report.lines(results)))
    meta_report.draw(results)
    if not options.results:
        quality.REPORT.write_text(quality.report())


if __name__ == "__main__":
    main()
