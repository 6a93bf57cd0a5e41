"""What differs in a run between the kinds of head: its files, its records, scores, predictions."""
from collections.abc import Callable
from typing import NamedTuple

from adapter_bert import kinds
from adapter_bert.train import labelling, span_runs, tag_runs


class Kind(NamedTuple):
    """How a run treats the examples of a kind of head.

    read: function (Run, split) -> list of examples.
    featurize: function (Run, examples, split, first) -> iterable of example_codec.Rows, `index` of
      the first example being `first`.
    targets: function (Run, examples) -> what `score` and `write` want to know of a split.
    score: function (Run, targets, predicted) -> {metric: float}; predicted is {name: array
      [count, ...]} in the order of the file.
    write: function (Run, data.Split, predicted) -> {metric: float}, as of `score`, of a split that
      can be scored; leaves the predictions in the output folder.
    inputs: names of the settings that records depend on, beside those that all depend on.
    predicts: "test", or "dev" where --do_predict writes predictions of the splits that are scored.
    have_labels: function (examples of a train or dev split) -> whether they do.
    is_constant: function (Run, data.Split, predicted) -> whether all predictions are the same,
      which those of a model that learned something are not.
    """

    read: Callable
    featurize: Callable
    targets: Callable
    score: Callable
    write: Callable
    inputs: tuple[str, ...] = ()
    predicts: str = "test"
    have_labels: Callable = bool
    is_constant: Callable = lambda run, split, predicted: False


def predicts(run, split):
    """Whether --do_predict is given and writes predictions of a kind of split, "dev" or "test"."""
    return run.settings.do_predict and KINDS[run.task.kind].predicts == split


_OF_TEXTS = Kind(labelling.read, labelling.featurize, labelling.targets, labelling.score,
                 labelling.write, is_constant=labelling.is_constant)
KINDS = {
    "classification": _OF_TEXTS,
    "regression": _OF_TEXTS,
    "spans": Kind(
        span_runs.read,
        span_runs.featurize,
        span_runs.targets,
        span_runs.score,
        span_runs.write,
        inputs=("max_query_length", "doc_stride"),
        predicts="dev",
        have_labels=kinds.have_answers,
    ),
    "tokens": Kind(
        tag_runs.read,
        tag_runs.featurize,
        tag_runs.targets,
        tag_runs.score,
        tag_runs.write,
        is_constant=tag_runs.is_constant,
    ),
}
