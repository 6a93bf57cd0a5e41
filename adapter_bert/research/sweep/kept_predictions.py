"""What a result keeps of a run's predictions: enough to score any part of the dev set later."""
from adapter_bert.train import span_runs, tag_runs
from adapter_bert.train.labelling import decisions


def kept(run, split, predicted):
    """Targets and predictions of a dev split as lists of JSON values, an entry an example.

    Args:
      run: train.resolve.Run.
      split: train.split_records.Split.
      predicted: {name: array [count, ...]} in the order of the file.
    """
    return KEEPERS[run.task.kind](run, split.targets, predicted)


def _classes(run, targets, predicted):
    return targets.tolist(), decisions(run.task, predicted).tolist()


def _numbers(run, targets, predicted):
    """Six digits are more than a model's float32 scores repeat."""
    return targets.tolist(), [float(f"{value:.6g}") for value in decisions(run.task, predicted)]


def _answers(run, targets, predicted):
    found = span_runs.predictions(run, targets, predicted)
    return ([{"id": example.id, "answers": [text for text, _ in example.answers]}
             for example in targets.examples],
            [found[example.id].text for example in targets.examples])


def _tags(run, targets, predicted):
    return ([list(sentence.tags) for sentence in targets.sentences],
            tag_runs.predicted_tags(run.task, targets, predicted))


KEEPERS = {"classification": _classes, "regression": _numbers, "spans": _answers, "tokens": _tags}
