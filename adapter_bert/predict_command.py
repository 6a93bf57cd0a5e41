"""adapter-bert predict: what it takes. Imports no TensorFlow and no Beam before it runs."""
import logging

from adapter_bert.errors import InputError, require


def add(commands):
    """Adds `predict` to argparse's subparsers."""
    parser = commands.add_parser(
        "predict", help="files of texts through an exported model, by Apache Beam",
        description="Predicts every row of text files with a SavedModel that export wrote.",
        usage="%(prog)s --model=DIR/NAME/VERSION --input=GLOB --output=PREFIX [options] "
              "[-- options of Beam]")
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
    parser.add_argument("--header", action="store_true", default=True,
                        help="tables begin with the names of their columns (so it is)")
    parser.add_argument("--noheader", dest="header", action="store_false", help="they do not")
    parser.add_argument("--batch_size", type=int, default=32, metavar="INT",
                        help="rows in one call of the model (%(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a row is bad")
    parser.add_argument("beam_flags", nargs="*", metavar="-- BEAM_OPTION",
                        help="for Beam, as --runner=FlinkRunner")
    parser.set_defaults(run=_predict)


def _predict(model, input, output, text_column, text_b_column, header, batch_size, strict,
             beam_flags):
    if beam_flags and not beam_flags[0].startswith("--"):
        raise InputError(f"{beam_flags[0]}: not a flag; quote a glob, as --input='texts/*.txt'")
    logging.basicConfig(level=logging.ERROR)   # Beam warns of libraries that are not needed here
    logging.getLogger("tensorflow").setLevel(logging.ERROR)   # and TensorFlow of its graph API
    require("beam", apache_beam="apache-beam")
    from adapter_bert.serving import batch, rows
    asked = rows.Asked(text_column, text_b_column, header)
    counts = batch.predict(model, input, output, asked, batch_size, beam_flags)
    print(f"{output}: {counts.rows:,} predictions, {counts.bad:,} bad rows"
          + (f" in {output}-bad-*.jsonl" if counts.bad else ""))
    if strict and counts.bad:
        raise InputError(f"{counts.bad:,} bad rows in {output}-bad-*.jsonl")
