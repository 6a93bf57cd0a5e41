"""adapter-bert pack convert: packs from and to AdapterHub's form, and from checkpoints."""
import os

from adapter_bert.bert import checkpoint_io, tokenization
from adapter_bert.data import casing
from adapter_bert.errors import InputError
from adapter_bert.packs import adapterhub, from_checkpoint, store
from adapter_bert.packs.bases import base_of


def convert(source, destination, from_form, to_form, options):
    """Reads a task in one form and writes it in another.

    Args:
      source: path of a pack, folder of an AdapterHub adapter, or prefix of a checkpoint.
      destination: path of what is made.
      from_form: "pack", "adapterhub" or "checkpoint".
      to_form: "pack" or "adapterhub".
      options: dict of the command's options, see cli.pack.

    Returns:
      A line on what was made.

    Raises:
      InputError: the source is not sound, or the other form cannot hold it.
    """
    _refuse_unread(options, from_form, to_form)
    pack = _READ[from_form](source, options)
    found = pack.manifest
    if to_form == "pack":
        kept = found.weights.dtype if found.weights else "float32"
        store.write(destination, pack, options["dtype"] or kept)
    else:
        adapterhub.write(pack, destination, options["name"] or found.task,
                         options["layer_norms_beside"])
    return f"{destination}: {found.task} for {found.base.name}, from {source}"


def _refuse_unread(options, from_form, to_form):
    """InputError where an option is given that this conversion does not look at."""
    read = {*_OPTIONS[f"from {from_form}"], *_OPTIONS[f"to {to_form}"]}
    unread = [f"--{name}" for name, value in options.items()
              if value not in (None, False) and name not in read]
    if unread:
        raise InputError(f"{', '.join(unread)}: of no account for --from={from_form} "
                         f"--to={to_form}; leave out")


def _from_pack(source, options):
    return store.read(source)


def _from_adapterhub(source, options):
    return adapterhub.read(source, base_of(_bert_dir(options)), options["task"],
                           _lower_case(options), options["max_seq_length"])


def _from_checkpoint(source, options):
    if options["labels"] is None:
        raise InputError("--labels is missing: name the classes in the order of their ids, as in "
                         "--labels=0,1; --labels= for a score")
    labels = tuple(options["labels"].split(",")) if options["labels"] else ()
    if "" in labels:
        raise InputError(f"--labels={options['labels']}: one of them has no name")
    task = options["task"] or os.path.basename(os.path.dirname(os.path.abspath(source)))
    return from_checkpoint.read(
        source,
        base_of(_bert_dir(options)),
        checkpoint_io.locate(options["bert_dir"]).init_checkpoint,
        task,
        labels,
        _lower_case(options),
        options["max_seq_length"] or 128,
    )


def _bert_dir(options):
    if not options["bert_dir"]:
        raise InputError("--bert_dir is missing: name the folder of the base, in Google's form")
    return options["bert_dir"]


def _lower_case(options):
    """Whether texts are lower-cased, which the base may not contradict."""
    vocab_file = checkpoint_io.locate(options["bert_dir"]).vocab_file
    recorded = casing.recorded_casing(vocab_file)
    if recorded not in (None, not options["cased"]):
        raise InputError(f"--bert_dir={options['bert_dir']}: its tokenizer_config.json says "
                         f"do_lower_case {recorded}; {'leave out' if recorded else 'give'} --cased")
    try:
        vocabulary = tokenization.load_vocab(vocab_file)
    except ValueError as error:
        raise InputError(str(error)) from error
    if recorded is None and options["cased"] and casing.is_lower_case(vocabulary):
        raise InputError(f"--cased: no token of {vocab_file} has a capital letter; leave --cased "
                         "out")
    return not options["cased"]


_OPTIONS = {
    "from pack": (), "from adapterhub": ("bert_dir", "task", "cased", "max_seq_length"),
    "from checkpoint": ("bert_dir", "task", "labels", "cased", "max_seq_length"),
    "to pack": ("dtype",), "to adapterhub": ("name", "layer_norms_beside")}
_READ = {"pack": _from_pack, "adapterhub": _from_adapterhub, "checkpoint": _from_checkpoint}
