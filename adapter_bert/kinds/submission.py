"""Writes predictions in the form that the GLUE server takes: `index<TAB>prediction`."""
import os

from adapter_bert.files import write_text


def write_submission(task, split, predictions, folder):
    """Writes the predictions of a test split, whole or not at all.

    A class is written by its name. A score is written with 3 decimals, clipped to the task's
    range; with 6 significant digits where the task has no range.

    Args:
      task: Task.
      split: str, the test split that was predicted, such as "test" or "test_mm".
      predictions: array of shape (N,), int class ids or float scores, in the order of the file.
      folder: str, made where it is missing.

    Returns:
      str, path of the file: GLUE's name for it, such as MNLI-mm.tsv, or predictions.tsv.

    Raises:
      InputError: the folder cannot be written.
    """
    path = os.path.join(folder, task.submissions.get(split, f"{task.name}.tsv"))
    rows = (f"{index}\t{_written(task, prediction)}\n"
            for index, prediction in enumerate(predictions))
    write_text(path, "index\tprediction\n" + "".join(rows))
    return path


def _written(task, prediction):
    if task.kind == "classification":
        return task.labels[prediction]
    if task.score_range is None:
        return f"{prediction:.6g}"
    low, high = task.score_range
    return f"{min(max(prediction, low), high):.3f}"
