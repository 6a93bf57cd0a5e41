"""adapter-bert bulk-predict: files of any number through an exported model, by Apache Beam."""
import argparse
import logging

from adapter_bert.errors import InputError, require


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `bulk-predict` to argparse's subparsers."""
    parser = commands.add_parser(
        "bulk-predict", help="predict many files with an exported model on Apache Beam",
        description="Predicts every row of text files with a SavedModel that export wrote.",
        usage="%(prog)s --model=DIR/NAME/VERSION --input=GLOB --output=PREFIX [flags] "
              "[-- flags of Beam]")
    parser.add_argument("--model", required=True, metavar="DIR/NAME/VERSION",
                        help="folder of a version, as adapter-bert export prints it")
    parser.add_argument("--input", required=True, metavar="GLOB",
                        help="files that end in .txt, .tsv, .csv or .jsonl")
    parser.add_argument("--output", required=True, metavar="PREFIX",
                        help="writes PREFIX-00000-of-0000N.jsonl, and bad rows to "
                             "PREFIX-bad-*.jsonl")
    parser.add_argument("--text_column", metavar="NAME",
                        help="column or key of the text; with --noheader a number from 0")
    parser.add_argument("--text_b_column", metavar="NAME", help="that of a second text")
    parser.add_argument("--noheader", dest="header", action="store_false",
                        help="tables do not begin with the names of their columns")
    parser.add_argument("--batch_size", type=int, default=32, metavar="INT",
                        help="rows per call of the model (%(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a row is bad")
    parser.add_argument("beam_flags", nargs="*", metavar="-- BEAM_FLAG",
                        help="for Beam, such as --runner=FlinkRunner")
    parser.set_defaults(run=_predict)


def _predict(model: str, input: str, output: str, text_column: str | None,
             text_b_column: str | None, header: bool, batch_size: int, strict: bool,
             beam_flags: list[str]) -> None:
    if beam_flags and not beam_flags[0].startswith("--"):
        raise InputError(f"{beam_flags[0]}: not a flag; quote a glob, as --input='texts/*.txt'")
    # Beam warns about optional libraries, TensorFlow about its graph API.
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    require("beam", apache_beam="apache-beam")
    from adapter_bert.export import bulk_prediction, bulk_rows
    columns = bulk_rows.Asked(text_column, text_b_column, header)
    counts = bulk_prediction.predict(model, input, output, columns, batch_size, beam_flags)
    print(f"{output}: {counts.rows:,} predictions, {counts.bad:,} bad rows"
          + (f" in {output}-bad-*.jsonl" if counts.bad else ""))
    if strict and counts.bad:
        raise InputError(f"{counts.bad:,} bad rows in {output}-bad-*.jsonl")
