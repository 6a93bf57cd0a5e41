"""adapter-bert predict: a pack's predictions for a few texts or a file of any size."""
import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from adapter_bert.cli import predictions
from adapter_bert.cli.pack import PACK, pack_in
from adapter_bert.errors import InputError

CHUNK_ROWS = 512   # that are in memory at once
QUICK_ROWS = 16    # up to which a graph that starts fast is better than one that runs fast
FEWEST_PIECES = 100   # of which some more [UNK] than usual are a sign of a wrong vocabulary
MOST_BAD_ROWS = 20   # that an error message lists
STDIN = "-"
INPUT_FORMATS = ("txt", "csv", "tsv", "jsonl")
# (text column, second text column) that are read where no flag names them.
DEFAULT_COLUMNS = {"spans": ("question", "context")}


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `predict` to argparse's subparsers."""
    parser = commands.add_parser(
        "predict", help="predict texts from the command line, a file or standard input",
        usage="%(prog)s PACK --bert_dir=DIR [FILE | - | --text=TEXT ...] [flags]",
        description="Predicts texts with a trained task. FILE is .txt (a text per line), .csv, "
                    ".tsv or .jsonl; - is standard input. Writes label and probability (score, "
                    "entities or answer) and the columns of the input.", is_intermixed=True)
    parser.add_argument("pack", **PACK)
    parser.add_argument("file", nargs="?", metavar="FILE", help="texts; - for standard input")
    parser.add_argument("--bert_dir", required=True, metavar="DIR", help="folder of the base")
    parser.add_argument("--text", action="append", metavar="TEXT",
                        help="a text to predict; may be repeated")
    parser.add_argument("--text_b", action="append", metavar="TEXT",
                        help="its second text, for a task of pairs (the context of a question)")
    _add_input_flags(parser)
    parser.add_argument("--format", choices=predictions.WRITERS, dest="output_format",
                        help="of the output; default: the ending of --output, or csv")
    parser.add_argument("--output", metavar="FILE", help="file to write; default: standard output")
    parser.set_defaults(run=_predict)


def _add_input_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text_column", metavar="NAME",
                        help="column or key of the text (text; of a question: question)")
    parser.add_argument("--text_b_column", metavar="NAME",
                        help="column or key of the second text (of a question: context)")
    parser.add_argument("--noheader", dest="header", action="store_false",
                        help="the first line holds no column names; columns are numbers from 0")
    parser.add_argument("--input_format", choices=INPUT_FORMATS,
                        help="of FILE; default: its ending, and txt for standard input")
    parser.add_argument("--bad_rows", choices=("refuse", "skip"), default="refuse",
                        help="stop at rows that cannot be read, or drop and count them "
                             "(%(default)s)")


class Row(NamedTuple):
    """A row of the input: its columns, and what the predictor takes."""

    columns: dict[str, Any]
    text: str | tuple[str, ...]


class Source:
    """The rows of the input; what cannot be read is counted, and refused unless `skip_bad`.

    Args:
      name: of the input, for messages.
      rows: iterable of export.bulk_rows.Row and export.bulk_rows.Bad.
      skip_bad: whether bad rows are dropped.

    Attributes:
      name: the argument.
      bad: count of the bad rows so far.
    """

    def __init__(self, name: str, rows: Iterable[Any], skip_bad: bool):
        self.name, self._rows, self._skip_bad = name, iter(rows), skip_bad
        self.bad = 0

    def chunks(self) -> Iterator[list[Row]]:
        """Lists of up to CHUNK_ROWS rows.

        Raises:
          InputError: a row is bad; the message lists the first ones of the rest of the input.
        """
        good = self._good()
        while chunk := list(itertools.islice(good, CHUNK_ROWS)):
            yield chunk

    def _good(self) -> Iterator[Row]:
        for row in self._rows:
            if hasattr(row, "texts"):
                yield Row(row.fields, row.texts[0] if len(row.texts) == 1 else row.texts)
                continue
            self.bad += 1
            if not self._skip_bad:
                raise InputError(self._complaint(row))

    def _complaint(self, first: Any) -> str:
        """The message for the first bad row and those after it."""
        if first.reason.startswith("no column is named"):
            return f"{self.name}: {first.reason}; name the column of the text with --text_column"
        if first.reason.startswith("two columns are named"):
            return f"{self.name}: {first.reason}"
        later = (row for row in self._rows if not hasattr(row, "texts"))
        listed = [first, *itertools.islice(later, MOST_BAD_ROWS - 1)]
        others = sum(1 for _ in later)
        lines = "; ".join(f"line {row.line}: {row.reason}" for row in listed)
        more = f"; and {others:,} more bad rows" if others else ""
        return f"{self.name}: {lines}{more}; fix the rows, or pass --bad_rows=skip"


def _predict(pack: str, bert_dir: str, output: str | None, output_format: str | None,
             **inputs: Any) -> None:
    output_format = _output_format(output, output_format)
    _check_input(inputs["file"], inputs["text"], inputs["text_b"])
    if output and os.path.exists(output) and inputs["file"] not in (None, STDIN) and (
            os.path.samefile(output, inputs["file"])):
        raise InputError(f"--output={output}: is the file of the texts, which the predictions "
                         "would replace; name another one")
    from adapter_bert.packs import store  # imports TensorFlow
    from adapter_bert.packs.predictor import Predictor
    opened = store.read(pack_in(pack))
    with _source(opened.manifest, **inputs) as source, _output(output) as file:
        chunks = source.chunks()
        first = next(chunks, [])
        with Predictor(bert_dir, opened, quick_start=len(first) <= QUICK_ROWS) as predictor:
            count = predictions.write(file, output_format, predictor,
                                      itertools.chain([first] * bool(first), chunks))
            _warn(predictor, source.name)
    dropped = f"; {source.bad:,} bad rows dropped" if source.bad else ""
    if output or dropped or not count:   # an empty standard output needs a reason
        print(f"{output or 'standard output'}: {count:,} predictions{dropped}",
              file=sys.stdout if output else sys.stderr)


def _warn(predictor: Any, name: str) -> None:
    """Logs a warning about texts that the model could not read as they are."""
    from absl import logging

    from adapter_bert.data.unknown_words import warn_of_share
    seen, most = predictor.seen, predictor.manifest.max_seq_length
    if seen["pieces"] >= FEWEST_PIECES:
        warn_of_share(seen["unknown"], seen["pieces"], name)
    if seen["full"] and predictor.manifest.head != "spans":   # whose contexts are read in windows
        logging.warning("%s: %s of %s texts %s all of the %s word pieces that the task reads; what "
                        "goes beyond them was cut", name, f"{seen['full']:,}", f"{seen['rows']:,}",
                        "has" if seen["full"] == 1 else "have", most)


def _check_input(file: str | None, text: list[str] | None, text_b: list[str] | None) -> None:
    """InputError where there is no input or more than one."""
    if file is None and not text:
        raise InputError("nothing to predict; give a FILE, - for standard input, or --text")
    if file is not None and text:
        raise InputError(f"{file}: give either a file or --text")
    if text_b and len(text_b) != len(text or ()):
        raise InputError(f"--text_b is given {len(text_b)} times and --text {len(text or ())} "
                         "times; each pair needs both")
    if file is not None and os.path.isdir(file):
        raise InputError(f"{file}: is a folder; name a file")
    if file not in (None, STDIN) and not os.path.exists(file):
        raise InputError(f"{file}: no such file")


def _output_format(output: str | None, output_format: str | None) -> str:
    """The format of the output, a key of predictions.WRITERS."""
    if output and os.path.isdir(output):
        raise InputError(f"--output={output}: is a folder; name a file")
    if output_format:
        return output_format
    ending = os.path.splitext(output or "")[1].lower().removeprefix(".")
    return ending if ending in predictions.WRITERS else "csv"


@contextlib.contextmanager
def _source(manifest: Any, file: str | None, text: list[str] | None, text_b: list[str] | None,
            text_column: str | None, text_b_column: str | None, header: bool,
            input_format: str | None, bad_rows: str) -> Iterator[Source]:
    """The Source of the command line, closed when the block ends."""
    from adapter_bert.export import bulk_rows
    from adapter_bert.packs.manifest import check_pairs
    if text:
        check_pairs(manifest, bool(text_b))
        yield Source("--text", _rows_of_words(text, text_b), False)
        return
    ending = _ending(file or "", input_format)
    defaults = DEFAULT_COLUMNS.get(manifest.head, (None, None)) if ending != ".txt" else ("", "")
    columns = bulk_rows.Asked(
        text_column or defaults[0] or None, text_b_column or defaults[1] or None, header
    )
    if ending == ".txt" and any(columns[:2]):
        raise InputError(f"{file}: a text file has no columns; leave --text_column out, or name "
                         "the format with --input_format")
    check_pairs(manifest, columns.text_b_column is not None)
    if ending != ".txt" and columns.text_b_column and not columns.text_column:
        columns = columns._replace(text_column="text")
    with _opened(file or "") as stream:
        yield Source("standard input" if file == STDIN else file or "",
                     bulk_rows.read(f"input{ending}", stream, columns), bad_rows == "skip")


def _rows_of_words(text: list[str], text_b: list[str] | None) -> Iterator[Any]:
    """The export.bulk_rows.Row of each --text."""
    from adapter_bert.export import bulk_rows
    text, text_b = _as_utf8(text), _as_utf8(text_b) if text_b else None
    for number, texts in enumerate(zip(text, text_b, strict=True) if text_b else zip(
            text, strict=True), 1):
        yield bulk_rows.Row(
            "--text", number, dict(zip(("text", "text_b"), texts, strict=False)), texts
        )


def _as_utf8(words: list[str]) -> list[str]:
    """Words of the command line, whatever the locale is; InputError where one is not UTF-8."""
    try:
        return [os.fsencode(word).decode("utf-8") for word in words]
    except UnicodeError as error:
        raise InputError("--text: found bytes that are not UTF-8; convert the text with iconv, or "
                         "save it as UTF-8 in a file") from error


def _ending(file: str, input_format: str | None) -> str:
    """The ending, with its dot, of the format of the input."""
    if input_format:
        return f".{input_format}"
    if file == STDIN:
        return ".txt"
    ending = os.path.splitext(file)[1].lower()
    if ending.removeprefix(".") not in INPUT_FORMATS:
        raise InputError(f"{file}: its ending is none of {', '.join(INPUT_FORMATS)}; name the "
                         "format with --input_format")
    return ending


@contextlib.contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The bytes of the input."""
    from adapter_bert.data.text_lines import refuse_other_forms
    with contextlib.ExitStack() as stack:
        stream = sys.stdin.buffer if file == STDIN else stack.enter_context(open(file, "rb"))
        start = stream.peek(4) if hasattr(stream, "peek") else b""
        refuse_other_forms("standard input" if file == STDIN else file, start)
        yield stream


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[Any]:
    """The text file to write: standard output, or a file that appears when it is complete."""
    from adapter_bert import files
    if path is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        yield sys.stdout
        return
    with files.replacing(path) as place, open(place, "w", encoding="utf-8", newline="\n") as file:
        yield file
