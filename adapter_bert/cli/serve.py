"""adapter-bert serve: many tasks over HTTP, from one BERT."""
import argparse
import dataclasses
import logging
from typing import Any

from adapter_bert import fields
from adapter_bert.cli.parser import Parser
from adapter_bert.plain_text import PlainFormatter

_OF_BANK = ("slots", "precision", "kernels", "max_adapter_size", "max_labels",
            "max_graphs")


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `serve` to argparse's subparsers; its flags are the fields of serving's Settings."""
    parser = commands.add_parser(
        "serve", help="serve many tasks over HTTP, from one BERT",
        description="Serves the packs of a hub on one base over TensorFlow Serving's REST API, "
                    "with a page.", fill=_fill)
    parser.set_defaults(run=_serve)


def _fill(parser: Parser) -> None:
    from adapter_bert.serve.server_settings import Settings
    types = fields.kinds(Settings)
    for field in dataclasses.fields(Settings):
        default = "" if field.default in ("", None) else " (%(default)s)"
        parser.add_argument(f"--{field.name}", type=types[field.name], default=field.default,
                            metavar=types[field.name].__name__.upper(),
                            help=field.metadata["help"] + default)


def _serve(**options: Any) -> None:
    from adapter_bert.serve.server_settings import Settings
    settings = Settings(**options)
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    from adapter_bert.serve.engine import Bank  # imports TensorFlow
    from adapter_bert.serve.server import serve
    serve(settings, Bank(settings.bert_dir, **{name: getattr(settings, name) for name in _OF_BANK}))
