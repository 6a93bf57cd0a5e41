"""Runs the command behind every claim and writes docs/acceptance.json and docs/acceptance.md.

A claim is a pytest selection, whose tests record their numbers, or a command of its own, whose last
line is the number.

    python benchmarks/acceptance.py [--only=parity,xla]
"""
import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

from sides import commit

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD, TABLE = ROOT / "docs" / "acceptance.json", ROOT / "docs" / "acceptance.md"


class Row(NamedTuple):
    """A claim, and the pytest arguments or the command that shows it."""

    name: str
    claim: str
    command: str


ROWS = (
    Row("parity", "hidden states and pooled output of MiniLM equal the recorded ones to 1e-4",
        "pytest tests/test_modeling.py -k hidden_states"),
    Row("parity-training", "ten training steps equal the reference's: logits 1e-4, losses 1e-3, "
        "values 5e-3, 605,954 trained parameters", "pytest tests/test_modeling.py -k ten_training"),
    Row("checkpoints", "checkpoints of BERT and of the reference load in every tuning mode",
        "pytest tests/test_training.py -k reference_checkpoint"),
    Row("rows", "a batch whose rows carry their own weights equals single runs to 1e-5",
        "pytest tests/test_modeling.py -k rows_with_their_own"),
    Row("sites", "a method attaches at each named site",
        "pytest tests/test_modeling.py -k attaches_at_each_site"),
    Row("xla", "train, evaluation and prediction graphs compile with XLA, same numbers",
        "pytest tests/test_xla.py"),
    Row("near-zero", "near-zero adapters equal plain BERT to 1e-5, zero ones exactly",
        "pytest tests/test_adapter_layers.py -k near_zero"),
    Row("frozen", "frozen variables are bit-identical to the base after training",
        "pytest tests/test_training.py -k bit_identical"),
    Row("size", "a run's checkpoint is below 15 % of the base's bytes",
        "pytest tests/test_training.py -k share_of_the_base"),
    Row("repeatable", "one seed gives identical losses and weights; so does an interrupted run",
        "pytest tests/test_training.py -k 'one_seed or interrupted'"),
    Row("faults", "a run that is killed at random moments, on a full disk, with damaged files and "
        "jumping clocks ends with the weights of one left alone; nothing broken is trusted",
        "pytest tests/test_faults.py tests/test_checkpoints.py tests/test_paths.py"),
    Row("observation", "metrics.jsonl counts what was read; a profile opens",
        "pytest tests/test_observation.py"),
    Row("bad-input", "bad input gives one line and exit code 1, nothing half-written",
        "pytest tests/test_run_classifier.py tests/test_tasks.py tests/test_pipeline.py"),
    Row("tokenization", "bulk ids equal the reference's on any Unicode",
        "pytest tests/test_tokenization.py"),
    Row("steps", "the reference's MRPC command takes 573 steps",
        "pytest tests/test_training.py -k mrpc_steps"),
    Row("quality", "dev scores of six tasks; what bfloat16 loses on MRPC, median of 3 seeds",
        f"{sys.executable} benchmarks/quality.py --report --verdict"),
    Row("peers", "MRPC, STS-B, CoLA, NER and SQuAD with default flags, 3 seeds: at least the "
        "library adapters at the better of two rates, less one standard error",
        f"{sys.executable} benchmarks/peer_comparison.py --verdict"),
    Row("squad", "questions are learned and answered from windows, files and scores in SQuAD's "
        "forms; a pack answers as its run; bad input is one line",
        "pytest tests/test_run_squad.py"),
    Row("kernels", "each compiled kernel equals its plain formula, value and gradient, odd shapes, "
        "extreme inputs", "pytest tests/test_kernels.py"),
    Row("bfloat16", "logits of the recorded cases in bfloat16 within 0.05 of float32's",
        "pytest tests/test_modeling.py -k near_the_recorded"),
    Row("tpu-graph", "nothing compiled for this CPU is in a graph for a TPU",
        "pytest tests/test_engine.py -k tpu_graph"),
    Row("pretraining", "the head of masked words equals the formula, value and gradient of the "
        "tied table; streams go on anywhere; an interrupted run ends with the same weights; a task "
        "starts from a domain's pack", "pytest tests/test_masked_lm.py tests/test_masked_files.py "
        "tests/test_pretraining.py"),
    Row("experiments", "a sweep killed ten times ends as one left alone; one process a run; every "
        "cell follows from its files; the bound of a difference holds as often as it says",
        "pytest tests/test_experiment.py tests/test_paper_claims.py tests/test_paper_config.py "
        "tests/test_paper_report.py tests/test_paper_statistics.py"),
    Row("benchmarks", "the benchmarks start", "pytest tests/test_benchmarks.py"),
    *(Row(f"speed-{name}", f"the floors of speed and memory, as `make bench` and `make profile` "
          f"measured them on {cpu}; what is short and why: docs/performance.md",
          f"{sys.executable} benchmarks/floors.py " + " ".join(
              f"{cpu}/{what}" for what in ("train-*", "predict-*", "memory-*", "profile-*",
                                           "tokenize", "time-to-accuracy")))
      for name, cpu in (("tiles", "intel-xeon"), ("vectors", "amd-epyc"))),
    Row("adapterhub", "recorded AdapterHub adapters load, logits within 1e-4; with the adapters' "
        "weights zeroed they differ; nothing in a .bin is run",
        "pytest tests/test_adapterhub.py tests/bert/test_torch_file.py"),
    Row("interop", "a pack in the library adapters, its logits for all of MRPC dev within 1e-4, "
        "and back bit-identical", "make --no-print-directory interop"),
    Row("pack-size", "a pack for BERT-base's shape, width 64: 2.3 % of the base's bytes, 1.2 % "
        "in bfloat16", "pytest tests/test_packs.py -k size_for_bert_base"),
    Row("pack-runs", "base and pack predict what the run predicted, to 1e-6; tasks do not touch "
        "each other or the base", "pytest tests/test_pack_runs.py"),
    Row("packs-speed", "500 packs listed and searched in 1 s each; a pack put into a built graph "
        "in 50 ms", "make --no-print-directory bench-packs"),
    Row("packs-broken", "no damaged, forged, misnamed or escaping pack or hub loads, crashes or "
        "writes outside its folder", "pytest tests/test_packs.py tests/test_hub.py"),
    Row("packs-python", "adapter_bert.load predicts; what README.md shows in Python runs",
        "pytest tests/test_predictor.py tests/test_readme.py tests/test_pack_command.py"),
    Row("many-tasks", "every kind of pack, and 100 tasks, in one batch equal single runs to 1e-5; "
        "packs come and go", "pytest tests/test_bank.py"),
    Row("export", "an exported model's probabilities equal ours to 1e-5 without this project, for "
        "all of MRPC dev and odd texts; its operations are TensorFlow Serving's",
        "pytest tests/test_export.py tests/test_export_many.py"),
    Row("graph-tokens", "word pieces cut in the graph are those of tokenization.py for any string, "
        "and their places", "pytest tests/test_serving_text.py"),
    Row("export-answers", "names in texts and answers from contexts of many windows, exported: the "
        "same texts and places as ours, for all of SQuAD's dev file and for any logits",
        "pytest tests/test_serving_answers.py"),
    Row("server", "TensorFlow Serving's REST forms; bad requests and a fuzz run give no 5xx; packs "
        "added and removed under load", "pytest tests/test_server.py"),
    Row("page", "the page in headless Chromium, at 375 pixels too, without a console error",
        "pytest tests/test_page.py"),
    Row("beam", "files through an exported model on Beam: every row once, as ours to 1e-5",
        "pytest tests/cli/test_bulk_predict.py"),
    Row("serving-speed", "32 tasks in a batch, 1,000 packs, the library adapters, overload: the "
        "bounds that `make bench-serving` has", "make --no-print-directory bench-serving"),
    Row("pretraining-data", "instances true to their text, BERT's shares and records, whole words; "
        "the same bytes on any workers; whole files or none",
        "pytest tests/test_create_pretraining_data.py tests/test_pretraining_instances.py "
        "tests/test_pretraining_corpus.py"),
    Row("pretraining-speed", "a million sentences, 8 times as fast as one process with the "
        "pure-Python tokenizer", "make --no-print-directory bench-pretraining"),
    Row("pretraining-demo", "make pretrain-demo: held-out masked words are guessed better after it",
        "make --no-print-directory pretrain-demo"),
    Row("meta-formula", "a FOMAML step equals the one worked out by hand; tasks side by side equal "
        "those one after the other to 1e-5; intervals hold as often as they say",
        "pytest tests/test_learner.py tests/test_adaptation.py tests/test_comparison.py "
        "tests/test_statistics.py tests/test_plots.py"),
    Row("meta-commands", "meta-training that was cut off goes on to the same weights; a pack of a "
        "few MB; few shots, low and high resource; bad data is one line",
        "pytest tests/test_meta_training.py tests/test_finetuning.py tests/test_domains.py"),
    Row("meta-speed", "an outer step side by side, 3 times as fast as one task after the other "
        "and 8 times as full tuning, as `make bench-meta` measured it",
        f"{sys.executable} benchmarks/floors.py */meta"),
    Row("meta-quality", "zero-shot accuracy above 75 % and 5.7 points above plain, a gain at 8 "
        "shots, 2.2 points from one domain",
        f"{sys.executable} benchmarks/meta_quality.py --verdict"),
    Row("meta-demo", "make demo-meta: a new domain from a few examples, in 8 minutes",
        f"{sys.executable} benchmarks/demo_time.py demo-meta"),
    Row("methods", "each method starts at the base's output, trains only what it says, is saved, "
        "loaded, exported and served", "pytest tests/test_methods.py"),
    Row("drop-speed", "AdapterDrop of 3 of 6 layers trains 1.5 times as fast, as "
        "`make bench-drop` measured it", f"{sys.executable} benchmarks/floors.py */adapter-drop"),
    *(Row(name, f"{what} lose less than a point of full tuning in the mean of four tasks, with "
          f"95 % confidence, as experiments/{grid}.json measured it",
          f"{sys.executable} benchmarks/paper_claim.py {arguments}")
      for name, what, grid, arguments in (
          ("paper", "adapters", "paper_small", "'adapters 64'"),
          ("paper-seeds", "adapters, by more seeds,", "seeds", "'adapters 64' seeds"),
          ("paper-pooler", "adapters with a trained pooler", "pooler",
           "'adapters and pooler 64' pooler"))),
    Row("workers", "two and three workers train what one process trains, with parameter servers "
        "and without; after ten deaths too",
        "pytest tests/test_distribution.py tests/test_preemption.py"),
    Row("recipe", "flags that are not given are chosen from task, method and base, printed, "
        "recorded and kept on resume; an untrained pooler is detected and trained",
        "pytest tests/train/test_recipe.py tests/train/test_pooler.py"),
    Row("guard", "a run that learns nothing starts again, at most twice; then exit code 3, a "
        "marked pack", "pytest tests/train/test_guard.py"),
    Row("defaults", "with default flags, ten seeds of each of seven data sets: every run learns, "
        "at most three restarts, medians within a point of the paper grids' best, as `make "
        "quality-defaults` measured it",
        f"{sys.executable} benchmarks/default_quality.py --verdict"),
    Row("methods-quality", "with default flags, three seeds of four tasks: every run of every "
        "method learns, and docs/methods.md has the scores, as `make quality-methods` measured "
        "them", "pytest tests/test_benchmarks.py -k table_of_methods"),
    Row("messages", "README's own-data commands as typed; 300 messages of 4 intents, 3 seeds: "
        "at least 0.90 of new ones", "pytest tests/test_readme.py -k messages"),
    Row("command-line", "adapter-bert train, evaluate, predict: any file, no label column, a line "
        "per mistake; commands that need no model do not import TensorFlow",
        "pytest tests/cli/test_main.py tests/cli/test_train.py tests/cli/test_predict.py"),
    Row("tune", "a search that is killed, shared, resumed proposes the same trials and ends with "
        "the same best one", "pytest tests/research tests/cli/test_tune.py"),
    Row("tune-quality", "tune with default flags reaches the full grid's best score less one "
        "standard error with at most 40 % of its compute, as it was "
        "measured",
        f"{sys.executable} benchmarks/tune_quality.py --verdict"),
    Row("peers", "entity F1 with default flags: at least that of the library `adapters` less one "
        "standard error, as `make quality-peer` measured it",
        f"{sys.executable} benchmarks/peer_comparison.py --verdict --only=NER"),
    Row("data-files", "one file with a split, five formats, all bad rows in a message, GLUE by "
        "column name, tagging schemes as seqeval counts them",
        "pytest tests/data tests/tasks tests/test_tasks.py tests/test_tokens.py"),
    Row("report", "report.md with pictures, baselines and mistakes for each kind of head",
        "pytest tests/train/test_report.py tests/train/test_report_runs.py "
        "tests/train/test_terminal.py"),
    Row("bases", "Hub names, Hugging Face folders as they are published, old checkpoints, other "
        "tasks' heads as a base", "pytest tests/bert"),
    Row("startup", "from the command to the end of the first training step: at most 0.6 of the "
        "seconds of commit acc17d8, measured in turn", f"{sys.executable} benchmarks/startup.py "
        "--against=acc17d8 --most=0.6"),
    Row("hostile-requests", "what a request costs is bounded by its bytes; slow, silent, many and "
        "cross-site clients do not hold the server", "pytest tests/test_hostile_requests.py "
        "tests/test_connections.py tests/test_origin.py"),
    Row("attacks", "ten minutes of attacks on a server with default flags: each at most 2 s of CPU "
        "and 64 MiB per MiB of body, /healthz within 0.2 s, others served, memory at most 1.2 "
        "times", "pytest tests/test_attacks.py"),
    Row("request-speed", "ordinary requests take at most 1.03 of the seconds of commit e9a0e51, "
        "measured in turn", f"{sys.executable} benchmarks/request_speed.py --against=e9a0e51"),
    Row("hostile-packs", "10,000 hostile manifests are refused in one printable line each, and the "
        "good packs beside them served", "pytest tests/test_hostile_packs.py "
        "tests/test_plain_text.py tests/test_packs.py"),
    Row("hostile-hubs", "slow, endless, lying and redirecting hubs; files of other users",
        "pytest tests/test_hub.py tests/test_cache.py tests/test_files.py"),
    Row("demo", "make demo: 83 % on held-out reviews, in 6 minutes from a filled pip cache",
        f"{sys.executable} benchmarks/demo_time.py"),
)


def run(row):
    """{"passed", "number", "commit"} of a row, run now."""
    print(f"{row.name}: {row.command}", flush=True)
    words = shlex.split(row.command)
    if words[0] != "pytest":
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        number = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report.xml")
            done = subprocess.run(
                [sys.executable, "-m", *words, "-p", "no:cacheprovider", f"--junitxml={report}"],
                cwd=ROOT, capture_output=True, text=True, check=False)
            number = pytest_number(report)
    passed = done.returncode == 0 and "not run" not in number
    print(f"  {'holds' if passed else 'FAILS'}: {number}", flush=True)
    return {"passed": passed, "number": number, "commit": commit()}


def pytest_number(report):
    """Counts of tests and the numbers that they recorded, from pytest's XML report.

    A skipped test shows nothing: it is said to be not run.
    """
    suite = ElementTree.parse(report).getroot().find("testsuite")
    counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    recorded = {}
    for entry in suite.iter("property"):
        if entry.get("name").startswith("hypothesis"):   # that library's own statistics
            continue
        recorded.setdefault(entry.get("name"), []).append(float(entry.get("value")))
    numbers = [f"{name} {max(values):.3g}" for name, values in recorded.items()]
    failed = [f"FAILED {case.get('name')}" for case in suite.iter("testcase")
              if case.find("failure") is not None or case.find("error") is not None]
    skipped = [f"{counts['skipped']} not run"] if counts["skipped"] or not passed else []
    return "; ".join([f"{passed} passed", *failed, *skipped, *numbers])


def table(found):
    """The text of docs/acceptance.md."""
    lines = ["# Claims and what shows them", "",
             "Written by `make acceptance`; edit nothing here.", "",
             "| claim | command | holds | last number | commit |", "|---|---|---|---|---|"]
    for row in ROWS:
        if row.name in found:
            result = found[row.name]
            command = row.command.replace(sys.executable, "python")
            lines.append(f"| {row.claim} | `{command}` | {'yes' if result['passed'] else 'NO'} | "
                         f"{result['number']} | {result['commit']} |")
    return "\n".join(lines) + "\n"


def main():
    """Runs the wanted rows; exits with 1 where one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="comma-separated names of rows")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [row.name for row in ROWS]
    found = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for row in ROWS:
        if row.name in wanted:
            found[row.name] = run(row)
            RECORD.write_text(json.dumps(found, indent=1) + "\n")
            TABLE.write_text(table(found))
    sys.exit(any(not found[name]["passed"] for name in wanted))


if __name__ == "__main__":
    main()
