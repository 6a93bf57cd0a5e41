"""Predictions as rows of CSV, TSV or JSON lines, beside the columns of the input."""
import csv
import json
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from adapter_bert.errors import InputError

DIGITS = 6   # of a probability or a score


def of_class(prediction: Any) -> dict[str, Any]:
    """The columns of a packs.answers.Prediction: the label and its probability."""
    return {"label": prediction.label,
            "probability": _rounded(prediction.probabilities[prediction.label])}


def of_score(score: float) -> dict[str, Any]:
    """The column of a regression."""
    return {"score": _rounded(score)}


def of_entities(entities: Iterable[Any]) -> dict[str, Any]:
    """The column of the packs.answers.Entity of a text: a list of objects."""
    return {"entities": [{**entity._asdict(), "probability": _rounded(entity.probability)}
                         for entity in entities]}


def of_answer(answer: Any) -> dict[str, Any]:
    """The columns of a packs.answers.Answer; "" without start and end where there is none."""
    return {"answer": answer.text, "start": answer.start, "end": answer.end,
            "probability": _rounded(answer.probability)}


COLUMNS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "classification": of_class, "regression": of_score, "tokens": of_entities, "spans": of_answer}


def write(file: TextIO, output_format: str, predictor: Any, chunks: Iterable[list[Any]]) -> int:
    """Predicts the rows of the input chunk by chunk and writes each chunk at once.

    Args:
      file: text file that is open for writing.
      output_format: key of WRITERS.
      predictor: packs.predictor.Predictor.
      chunks: iterable of lists of rows with `columns` and `text`.

    Returns:
      The count of predictions.

    Raises:
      InputError: the format cannot hold a value.
    """
    columns_of = COLUMNS[predictor.manifest.head]
    writer, count = WRITERS[output_format](file), 0
    for chunk in chunks:
        answers = predictor.predict([row.text for row in chunk])
        for row, answer in zip(chunk, answers, strict=True):
            writer.write(beside(columns_of(answer), row.columns))
        file.flush()
        count += len(chunk)
    return count


def beside(predicted: dict[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    """The predicted columns and those of the input, of which one with a predicted column's name is
    called input_NAME."""
    both = dict(predicted)
    for name, value in columns.items():
        while name in both:
            name = f"input_{name}"
        both[name] = value
    return both


class JsonLines:
    """Writes a JSON object per line."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, row: dict[str, Any]) -> None:
        """Writes a row, {name of a column: JSON value}."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


class Table:
    """Writes rows of cells below a header.

    Args:
      write_cells: function (list of str) that writes a line.
    """

    def __init__(self, write_cells: Callable[[list[str]], Any]):
        self._write_cells, self._count = write_cells, 0
        self._names: list[str] = []

    def write(self, row: dict[str, Any]) -> None:
        """Writes a row; the first one sets the columns.

        Raises:
          InputError: a column that the first row does not have, or a value that does not fit.
        """
        if not self._count:
            self._names = list(row)
            self._write_cells(self._names)
        self._count += 1
        if other := next((name for name in row if name not in self._names), None):
            raise InputError(f"row {self._count}: has the column {other!r}, which the first row "
                             "does not have; pass --format=jsonl")
        self._write_cells([_cell(row.get(name)) for name in self._names])


def comma_separated(file: TextIO) -> Table:
    """A Table of cells that are quoted where necessary (RFC 4180)."""
    return Table(csv.writer(file, lineterminator="\n").writerow)


def tab_separated(file: TextIO) -> Table:
    """A Table of cells without quotes, as in GLUE's files."""
    def write_cells(cells: list[str]) -> None:
        for cell in cells:
            if any(character in cell for character in "\t\n\r"):
                raise InputError(f"{cell!r:.60} contains a tab or line break, which TSV cannot "
                                 "hold; pass --format=csv or --format=jsonl")
        file.write("\t".join(cells) + "\n")
    return Table(write_cells)


WRITERS: dict[str, Callable[[TextIO], Any]] = {
    "csv": comma_separated, "tsv": tab_separated, "jsonl": JsonLines}


def _cell(value: Any) -> str:
    """A JSON value as the text of a cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rounded(number: float) -> float:
    return round(float(number), DIGITS)
