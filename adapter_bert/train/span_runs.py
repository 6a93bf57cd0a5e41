"""What a run does with questions that a part of a text answers: a Kind of `kinds`."""
from typing import NamedTuple

from absl import logging

from adapter_bert import kinds
from adapter_bert.errors import InputError
from adapter_bert.kinds import span_decoding, windows
from adapter_bert.kinds.squad_scores import squad_scores


class Targets(NamedTuple):
    """The questions of a file, and what is to be known of their windows."""

    examples: list[kinds.SquadExample]
    passages: list[span_decoding.Passage]


def read(run, split):
    """The questions of --train_file or --predict_file, see kinds.read_squad.

    Raises:
      InputError: questions are impossible and may not be, or to be scored and without answers.
    """
    settings, path = run.settings, run.task.files[split]
    examples = kinds.read_squad(path, split == "train" or None, settings.bad_answers)
    impossible = sum(example.is_impossible for example in examples)
    if impossible and not settings.version_2_with_negative:
        raise InputError(f"{path}: {impossible} of {len(examples)} questions are marked "
                         "is_impossible; give --version_2_with_negative, and such have no answer")
    if (settings.do_eval or settings.evaluates_in_training) and not kinds.have_answers(examples):
        raise InputError(f"{path}: has no answers to be scored against; --do_predict alone "
                         "answers it")
    return examples


def featurize(run, examples, split, first):
    """Rows of the windows over the contexts; InputError, with the file, where there are none."""
    try:
        yield from windows.featurize(examples, *_cut(run), kinds.have_answers(examples), first)
    except InputError as error:
        raise InputError(f"{run.task.files[split]}, {error}") from error


def _cut(run):
    """How texts are cut into windows, as arguments of `windows.featurize`."""
    settings = run.settings
    return (run.tokenizer, settings.max_seq_length, settings.max_query_length,
            settings.doc_stride)


def targets(run, examples):
    """Targets."""
    return Targets(examples, list(windows.passages(examples, *_cut(run))))


def predictions(run, targets, predicted):
    """{id: span_decoding.Prediction} of every question."""
    settings = run.settings
    return span_decoding.predict_all(
        targets.examples, targets.passages, predicted, settings.n_best_size,
        settings.max_answer_length, null_threshold(settings))


def null_threshold(settings):
    """Above which null odds there is no answer; None if there must be one."""
    return settings.null_score_diff_threshold if settings.version_2_with_negative else None


def score(run, targets, predicted):
    """SQuAD's scores, in percent."""
    return _scores(run, targets.examples, predictions(run, targets, predicted))


def _scores(run, examples, found):
    """The scores of {id: span_decoding.Prediction}."""
    best = {name: prediction.best.text for name, prediction in found.items()}
    threshold = null_threshold(run.settings)
    if threshold is None:
        return squad_scores(examples, best)
    odds = {name: prediction.null_odds for name, prediction in found.items()}
    return squad_scores(examples, best, odds, threshold)


def write(run, split, predicted):
    """Writes predictions.json and its kin, see span_decoding.write_predictions.

    Returns:
      What `score` does where the file has answers; else {}.
    """
    folder = run.settings.output_dir
    found = predictions(run, split.targets, predicted)
    span_decoding.write_predictions(folder, found)
    logging.info("%s: answers to %d questions in %s/predictions.json", run.task.files[split.name],
                 len(found), folder)
    return _scores(run, split.targets.examples, found) if split.is_labelled else {}
