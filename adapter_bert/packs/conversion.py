"""adapter-bert pack convert: packs from and to AdapterHub's form, and from checkpoints."""
import os

from adapter_bert import base
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
      options: dict of the command's options, see pack_command.

    Returns:
      A line on what was made.

    Raises:
      InputError: the source is not sound, or the other form cannot hold it.
    """
    pack = _READ[from_form](source, options)
    manifest_of = pack.manifest
    if to_form == "pack":
        dtype = options["dtype"] or (manifest_of.weights.dtype if manifest_of.weights
                                     else "float32")
        store.write(destination, pack, dtype)
    else:
        adapterhub.write(pack, destination, options["name"] or manifest_of.task,
                         options["layer_norms_beside"])
    return f"{destination}: {manifest_of.task} for {manifest_of.base.name}, from {source}"


def _from_pack(source, options):
    return store.read(source)


def _from_adapterhub(source, options):
    return adapterhub.read(source, base_of(_bert_dir(options)), options["task"],
                           not options["cased"], options["max_seq_length"])


def _from_checkpoint(source, options):
    if options["labels"] is None:
        raise InputError("--labels is missing: name the classes in the order of their ids, as in "
                         "--labels=0,1; --labels= for a score")
    labels = tuple(filter(None, options["labels"].split(",")))
    task = options["task"] or os.path.basename(os.path.dirname(os.path.abspath(source)))
    return from_checkpoint.read(source, base_of(_bert_dir(options)),
                                base.locate(options["bert_dir"]).init_checkpoint, task, labels,
                                not options["cased"], options["max_seq_length"] or 128)


def _bert_dir(options):
    if not options["bert_dir"]:
        raise InputError("--bert_dir is missing: name the folder of the base, in Google's form")
    return options["bert_dir"]


_READ = {"pack": _from_pack, "adapterhub": _from_adapterhub, "checkpoint": _from_checkpoint}
