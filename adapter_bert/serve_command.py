"""adapter-bert serve: what it takes. Imports no TensorFlow before the server starts."""
import dataclasses
import logging

from adapter_bert import fields

_OF_BANK = ("slots", "precision", "kernels", "max_adapter_size", "max_labels")


def add(commands):
    """Adds `serve` to argparse's subparsers; its flags are the fields of serving's Settings."""
    from adapter_bert.serving.settings import Settings
    parser = commands.add_parser("serve", help="many tasks over HTTP, from one BERT",
                                 description="Serves the packs of a hub on one base over "
                                             "TensorFlow Serving's REST API, with a page.")
    kinds = fields.kinds(Settings)
    for field in dataclasses.fields(Settings):
        kind = kinds[field.name]
        default = "" if field.default in ("", None) else " (%(default)s)"
        parser.add_argument(f"--{field.name}", type=kind, default=field.default,
                            metavar=kind.__name__.upper(), help=field.metadata["help"] + default)
    parser.set_defaults(run=_serve)


def _serve(**options):
    from adapter_bert.serving.settings import Settings
    settings = Settings(**options)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    from adapter_bert.serving.bank import Bank  # imports TensorFlow
    from adapter_bert.serving.server import serve
    serve(settings, Bank(settings.bert_dir, **{name: getattr(settings, name) for name in _OF_BANK}))
