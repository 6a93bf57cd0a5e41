"""report.md of a run: what was trained, how good it is, and what it gets wrong.

A reader who knows no metric understands its first lines; pictures are in OUTPUT_DIR/report, the
worst mistakes in OUTPUT_DIR/errors.csv, and the same numbers in results.json under "details".
"""
import json
import os
from logging import ERROR, getLogger
from types import ModuleType
from typing import NamedTuple

from absl import logging

from adapter_bert import files, paths
from adapter_bert.bert import checkpoint_io
from adapter_bert.train import (
    answer_report,
    class_report,
    history,
    initial_values,
    number_report,
    observation,
    results,
    tag_report,
)
from adapter_bert.train.findings import (
    Baseline,
    Findings,
    Picture,
    Table,
    counted,
    csv_text,
    escaped,
    markdown_table,
)
from adapter_bert.train.hooks import duration
from adapter_bert.train.kind_runs import KINDS

REPORT_FILE, FOLDER = "report.md", "report"
MISTAKES_SHOWN = 5
MOST_LABELS = 8   # that a sentence can list
# What differs by kind of head: `findings`, `baseline`, MEANINGS, WORK, UNIT and DIGITS.
REPORTERS: dict[str, ModuleType] = {
    "classification": class_report, "regression": number_report, "tokens": tag_report,
    "spans": answer_report}


class Evaluated(NamedTuple):
    """A split with labels, its scores and what was found out about the predictions.

    suffix: what the names of its files end in: "" for the first dev split, "_mm", "_test".
    """

    split: str
    suffix: str
    examples: int
    scores: dict[str, float]
    baseline: Baseline | None
    findings: Findings


def baseline_scores(run, targets) -> Baseline | None:
    """What a model scores on a split that has learned nothing.

    The baseline is the best answer that is the same for every example: the most frequent class, the
    mean score, the tag O, or no answer.

    Args:
      run: resolve.Run.
      targets: `targets` of the data.Split, with labels.

    Returns:
      Baseline with scores named as the metrics of the kind of head; None where there is none: each
      question of a SQuAD 1.1 file has an answer of its own.
    """
    return REPORTERS[run.task.kind].baseline(run, targets)


def baselines_of_splits(run, splits, names) -> dict[str, tuple[str, float]]:
    """The baselines of those of the named splits that have labels.

    Args:
      run: resolve.Run.
      splits: {name: data.Split}.
      names: of evaluated splits.

    Returns:
      {key of the metrics, as eval_accuracy: (name of the baseline, score)}.
    """
    return {key: (baseline.name, baseline.scores[metric])
            for name in names if is_labelled(splits[name])
            for baseline in [baseline_scores(run, splits[name].targets)] if baseline
            for metric, key in keys_of(name, baseline.scores).items()}


def keys_of(split: str, metrics) -> dict[str, str]:
    """{metric: key that a run reports it under}: eval_f1 for "dev", eval_f1_mm, test_f1."""
    if split.startswith("dev"):
        return {metric: f"eval_{metric}{split.removeprefix('dev')}" for metric in metrics}
    return {metric: f"{split}_{metric}" for metric in metrics}


def is_labelled(split) -> bool:
    """Whether the predictions for a data.Split can be scored; a test file may have labels, too."""
    rows = split.rows or []
    return split.is_labelled or bool(rows) and any(
        getattr(rows[0], name, None) is not None for name in ("label", "tags"))


def write(run, splits, predictions) -> None:
    """Writes report.md, its pictures and errors.csv, and adds the details to results.json.

    Whatever goes wrong here is logged as a warning: a run is not lost for a picture.

    Args:
      run: resolve.Run after training or evaluation.
      splits: {name: data.Split}.
      predictions: {name of a split: {name: array [count, ...]}}.
    """
    if not run.settings.do_train and not any(is_labelled(splits[name]) for name in predictions):
        return
    try:
        _write(run, splits, predictions)
    except Exception as error:   # noqa: BLE001
        logging.warning("no report: %s: %s; scores, checkpoints and pack are complete",
                        type(error).__name__, error)
        logging.debug("while writing the report", exc_info=True)


def _write(run, splits, predictions):
    folder = run.settings.output_dir
    evaluated = [_evaluate(run, splits[name], predicted) for name, predicted in predictions.items()
                 if is_labelled(splits[name])]
    if evaluated:
        results.update_results(folder, details={one.split: {
            "examples": one.examples, "scores": one.scores,
            "baseline": one.baseline and one.baseline._asdict(), **one.findings.details}
            for one in evaluated})
    for one in evaluated:
        _write_sheets(folder, one)
    curve = curve_of(run, evaluated)
    pictures = [(curve, "")] if curve else []
    draw(folder, pictures + [(picture, one.suffix) for one in evaluated
                             for picture in one.findings.pictures])
    text = "\n\n".join(_parts(run, splits, evaluated, curve)) + "\n"
    files.write_text(os.path.join(folder, REPORT_FILE), text)
    logging.info("report: %s", os.path.join(folder, REPORT_FILE))


def _write_sheets(folder, one):
    """Writes errors.csv and the CSV files of a split."""
    files.write_text(os.path.join(folder, f"errors{one.suffix}.csv"),
                     csv_text(one.findings.mistakes))
    for name, sheet in one.findings.sheets.items():
        files.write_text(os.path.join(folder, FOLDER, f"{name}{one.suffix}.csv"), csv_text(sheet))


def _evaluate(run, split, predicted):
    scores = KINDS[run.task.kind].score(run, split.targets, predicted)
    suffix = split.name.removeprefix("dev")
    return Evaluated(
        split.name, suffix if not suffix or suffix.startswith("_") else f"_{suffix}",
        len(split.rows), {name: value for name, value in scores.items() if results.is_score(name)},
        baseline_scores(run, split.targets),
        REPORTERS[run.task.kind].findings(run, split, predicted))


def draw(folder: str, pictures: list[tuple[Picture, str]]) -> None:
    """Draws pictures, each with the suffix of its file, into OUTPUT_DIR/report."""
    # Matplotlib warns, while it is imported, of a home folder that cannot be written.
    getLogger("matplotlib").setLevel(ERROR)
    from adapter_bert.train import report_figures  # Matplotlib takes a second to import
    with report_figures.style():
        for picture, suffix in pictures:
            path = os.path.join(folder, FOLDER, f"{picture.name}{suffix}.png")
            with files.replacing(path) as temporary:
                report_figures.save(picture.draw(report_figures), temporary)


def curve_of(run, evaluated: list[Evaluated]) -> Picture | None:
    """The learning curve of the run in the output folder; None where nothing was recorded."""
    baseline = next((one.baseline for one in evaluated if one.split == "dev"), None)
    folder, metric = run.settings.output_dir, run.task.metrics[0]
    if os.path.dirname(run.trained or "") not in (
        folder,
        os.path.join(folder, checkpoint_io.BEST_FOLDER),
    ):
        return None   # evaluated here, trained elsewhere
    losses, scores = losses_of(folder), scores_of(folder, f"{run.settings.SCORES}{metric}")
    scores = scores if len(scores) > 1 else []
    if not losses and not scores:
        return None
    kept = initial_values.global_step(run.trained)
    level = (baseline.name, baseline.scores[metric]) if baseline else None
    return Picture("learning_curve", "Learning curve",
                   "The training loss should fall and level off" + (
                       "; where the dev score falls again, training was too long."
                       if scores else "."),
                   lambda figures: figures.learning_curve(
                       losses, scores, _metric_words(metric), kept, level))


def losses_of(folder: str) -> list[tuple[int, float]]:
    """(step, mean training loss since the entry before) of metrics.jsonl; [] without the file."""
    path = os.path.join(folder, observation.METRICS_FILE)
    if not paths.exists(path):
        return []
    with paths.open_file(path) as file:
        rows = [json.loads(line) for line in file.read().decode("utf-8").splitlines()]
    return [(row["step"], row.get("mean_loss", row["loss"])) for row in rows]


def scores_of(folder: str, key: str) -> list[tuple[int, float]]:
    """(step, score) of the evaluations while training; [] where there were none."""
    path = os.path.join(folder, history.HISTORY_FILE)
    rows = files.read_json(path) if paths.exists(path) else []
    return [(row["global_step"], row[key]) for row in rows]


def _parts(run, splits, evaluated, curve):
    """The parts of report.md, in their order."""
    title = name_of(run)
    yield f"# {escaped(title, 80)}"
    yield _first_sentence(run, splits)
    for one in evaluated:
        yield _where(one, evaluated) + one.findings.summary
        if _is_no_better(one, run.task.metrics[0]):
            yield (f"> **This model is no better than its baseline** ({one.baseline.name}): it "
                   "learned nothing that helps. Train longer, or with another learning rate.")
    if evaluated:
        yield "## Scores"
    for one in evaluated:
        yield markdown_table(_score_table(run, one))
    yield "## What was used"
    yield markdown_table(_settings_table(run, splits))
    if curve:
        yield _picture(curve, "")
    for one in evaluated:
        yield from _split_parts(one, len(evaluated) > 1)
    yield "## Files"
    yield _files(run, evaluated)


def _split_parts(one, several):
    """Tables, pictures and mistakes of a split."""
    yield f"## Details of {_split_words(one.split)}" if several else "## Details"
    for table in one.findings.tables:
        yield markdown_table(table)
    for picture in one.findings.pictures:
        yield _picture(picture, one.suffix)
    sheet = one.findings.mistakes
    if sheet.rows:
        yield "### Mistakes"
        yield (f"The first {min(MISTAKES_SHOWN, len(sheet.rows))} of {one.findings.mistakes_note}; "
               f"[errors{one.suffix}.csv](errors{one.suffix}.csv) has up to 50.")
        yield markdown_table(Table("", sheet.header, [
            [escaped(str(cell), 90) for cell in row] for row in sheet.rows[:MISTAKES_SHOWN]]))


def _picture(picture, suffix):
    lines = [f"### {picture.title}", picture.caption,
             f"![{picture.title}]({FOLDER}/{picture.name}{suffix}.png)"]
    return "\n\n".join(filter(None, lines))


def name_of(run) -> str:
    """What the task of a run is called: GLUE's name, or that of the user's folder or file."""
    if run.task.name != "custom":
        return run.task.name
    source = getattr(run.settings, "data_dir", None) or getattr(run.settings, "data_file", None)
    return os.path.basename(os.path.abspath(source)) if source else run.task.name


def _first_sentence(run, splits):
    """What was trained, in one sentence."""
    names = run.task.labels if len(run.task.labels) <= MOST_LABELS else ()
    labels = f"{len(run.task.labels)} classes" + (
        f" ({', '.join(map(escaped, names))})" if names else "")
    work = REPORTERS[run.task.kind].WORK.format(
        labels=labels, text="pair of texts" if run.task.is_pair else "text")
    if "train" not in splits:
        return f"{_model_words(run)} trained earlier to {work}; this is an evaluation of it."
    unit = REPORTERS[run.task.kind].UNIT
    return (f"{_model_words(run)} trained on {counted(splits['train'].examples, unit)} of "
            f"{escaped(name_of(run), 80)} to {work}.")


def _model_words(run):
    """The base and how it was tuned: "Adapters of size 64 on the base `uncased_L-12` were"."""
    settings = run.settings
    source = settings.vocab_file or settings.init_checkpoint
    name = f"the base `{checkpoint_io.name_of(source)}`" if source else "BERT"
    if settings.tuning.startswith("adapters"):
        return f"Adapters of size {settings.adapter_size} on {name} were"
    return f"{name[0].upper()}{name[1:]} (`--tuning={settings.tuning}`) was"


def _where(one, evaluated):
    return f"On {_split_words(one.split)}: " if len(evaluated) > 1 else ""


def _split_words(split):
    kind, _, rest = split.partition("_")
    return f"the {kind} set" + (f" “{rest}”" if rest else "")


def _is_no_better(one, metric):
    return one.baseline is not None and one.scores.get(metric, 0.0) <= one.baseline.scores.get(
        metric, float("-inf"))


def _score_table(run, one):
    """The scores of a split that MEANINGS explains, with the baseline beside each."""
    reporter = REPORTERS[run.task.kind]
    positive = escaped(run.task.labels[1]) if len(run.task.labels) > 1 else ""
    rows, known = [], one.baseline.scores if one.baseline else {}
    for metric in filter(reporter.MEANINGS.__contains__, one.scores):
        value = one.scores[metric]
        baseline = f"{known[metric]:.{reporter.DIGITS}f}" if metric in known else "–"
        rows.append([_metric_words(metric), f"**{value:.{reporter.DIGITS}f}**",
                     *([baseline] if known else []),
                     reporter.MEANINGS[metric].format(positive=positive)])
    header = ("score", "this model", *([f"baseline ({one.baseline.name})"] if known else []),
              "meaning")
    title = f"{_split_words(one.split)}, {counted(one.examples, 'example')}"
    return Table(title[0].upper() + title[1:], header, rows)


def _metric_words(metric):
    """The name of a metric for people: "macro F1"."""
    return metric.replace("_", " ").replace("f1", "F1")


def _settings_table(run, splits):
    """What was used: settings, data, time and versions, as far as they are known."""
    settings = run.settings
    recorded = files.read_object(os.path.join(settings.output_dir, results.RESULTS_FILE))
    flags = checkpoint_io.recorded_run(run.trained).get("flags", {}) if run.trained else {}
    unit = REPORTERS[run.task.kind].UNIT
    rows = [[f"`--{name}`", f"{flags[name]}"] for name in SHOWN_FLAGS if _is_used(name, flags)]
    rows += [[f"{name} {unit if split.rows is None else 'example'}s",
              f"{split.examples if split.rows is None else len(split.rows):,}"]
             for name, split in splits.items()]
    if "variables" in recorded.get("counts", {}):
        rows.append(["trained parameters", _trained(recorded["counts"]["variables"])])
    if run.settings.do_train and recorded.get("train_seconds"):
        rows.append(["training time", duration(recorded["train_seconds"])])
        if recorded.get("train_examples_per_second"):
            rows.append(["training speed",
                         f"{recorded['train_examples_per_second']:.0f} examples/s"])
    failed = recorded.get("guard", {}).get("failed_attempts", [])
    if failed:
        rows.append(["attempts that learned nothing", "; ".join(
            f"seed {one['seed']}, learning rate {one['learning_rate']:g}: {one['problem']}"
            for one in failed)])
    if run.trained:
        rows.append(["checkpoint", f"`{os.path.basename(run.trained)}`"])
    rows.append(["versions", ", ".join(f"{name} {version}" for name, version in
                                       recorded.get("versions", {}).items())])
    return Table("", ("setting", "value"), rows)


SHOWN_FLAGS = ("tuning", "adapter_fn", "adapter_size", "learning_rate", "num_train_epochs",
               "train_batch_size", "train_batch_tokens", "warmup_proportion", "bias_correction",
               "adapter_init_stddev", "head_bias_init", "max_seq_length", "doc_stride",
               "precision", "seed")


def _is_used(name, flags):
    """Whether a recorded flag had an effect on the run."""
    if name.startswith("adapter_") and not str(flags.get("tuning")).startswith("adapters"):
        return False
    return flags.get(name) not in (None, "") and (name, flags[name]) != ("train_batch_tokens", 0)


def _trained(variables):
    trained = sum(row["parameters"] for row in variables.values() if row["trained"])
    total = sum(row["parameters"] for row in variables.values())
    return f"{trained:,} of {total:,} ({100 * trained / total:.1f} %)"


def _files(run, evaluated):
    """A list of what lies where in the output folder."""
    lines = ["- `results.json`: all scores of this report with full precision, for programs",
             "- `eval_results.txt`: the scores as BERT writes them"]
    for one in evaluated:
        lines.append(f"- [errors{one.suffix}.csv](errors{one.suffix}.csv): "
                     f"up to 50 {one.findings.mistakes_note}")
        lines += [f"- [{FOLDER}/{name}{one.suffix}.csv]({FOLDER}/{name}{one.suffix}.csv): "
                  f"{name.replace('_', ' ')} in full" for name in one.findings.sheets]
    if run.settings.do_train and run.settings.tuning != "full":
        lines.append("- `pack/`: the trained task, to share, load and serve"
                     if not run.settings.pack_dir else f"- `{run.settings.pack_dir}`: the pack")
    return "\n".join(lines)
