"""`adapter-bert convert`: BERT folders from one form to the other, and whole checkpoints of runs.

What is made stands whole or not at all, with a record (convert.json) of what it was made from; the
same command again finds it and does nothing.
"""
import glob
import os

import safetensors

from adapter_bert import files, paths
from adapter_bert.bert import checkpoint_io, formats
from adapter_bert.errors import InputError

RECORD = "convert.json"

# What DST becomes -> how SRC is read, how DST is written, and SRC's files that count.
_CONVERSIONS = {
    "google": (
        formats.read_hugging_face,
        formats.write_google,
        (
            "config.json",
            "model*.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "vocab.txt",
            "added_tokens.json",
            "tokenizer*.json",
            "modules.json",
            "sentence_bert_config.json",
        ),
    ),
    "huggingface": (
        formats.read_google,
        formats.write_hugging_face,
        (
            checkpoint_io.CONFIG_FILE,
            checkpoint_io.VOCAB_FILE,
            f"{checkpoint_io.CHECKPOINT}.index",
            f"{checkpoint_io.CHECKPOINT}.data-*",
            "tokenizer*.json",
        ),
    ),
}

def convert(source, destination, to=None, base_path=None):
    """Converts `source` into `destination`, whole or not at all.

    Args:
      source: a folder in Hugging Face's or Google's form, or the prefix of a run's checkpoint.
      destination: folder to make, or for "full" the prefix of the checkpoint to make.
      to: "google", "huggingface" or "full"; found from what `source` is when None.
      base_path: for "full", the base's folder or checkpoint prefix; when None, the one that
        the run of `source` wrote down, see checkpoint_io.recorded_run.

    Returns:
      One line that says what was made, or that `destination` is already this conversion's result.

    Raises:
      InputError: `source` is no BERT, or `destination` holds something else.
    """
    if not os.path.basename(destination):
        destination = os.path.dirname(destination)  # without the slash at its end
    if not destination:
        raise InputError("DST is empty; name what is to be made")
    to = to or _target_form(source)
    if to != "huggingface":
        paths.refuse_patterns(paths.absolute(destination))
    if base_path and to != "full":
        raise InputError(f"--base belongs to --to=full, and this is --to={to}; leave it out")
    try:
        if to == "full":
            return _convert_run(source, destination, base_path)
        return _convert_folder(source, destination, to)
    except (OSError, safetensors.SafetensorError) as error:
        path = getattr(error, "filename", None) or destination
        raise InputError(f"{path}: cannot be read or written ({error}); "
                         "look at its permissions and at the room on the disk") from error


def _target_form(source):
    if not os.path.isdir(source):
        if os.path.exists(f"{source}.index"):
            return "full"
        raise InputError(f"{source}: neither a folder nor the prefix of a checkpoint")
    held = checkpoint_io.list_folder(source)
    targets = [
        to
        for to, mark in (("google", "config.json"), ("huggingface", checkpoint_io.CONFIG_FILE))
        if mark in held
    ]
    if not targets:
        raise InputError(
            f"{source}: no BERT folder: neither config.json nor {checkpoint_io.CONFIG_FILE} "
            f"is among {checkpoint_io.some_of(held) or 'its files (it is empty)'}"
        )
    if len(targets) == 2:
        raise InputError(
            f"{source}: holds both config.json and {checkpoint_io.CONFIG_FILE}; choose with "
            "--to=google or --to=huggingface"
        )
    return targets[0]


def _convert_folder(source, destination, to):
    read, write, source_files = _CONVERSIONS[to]
    record = {"to": to, "source": _digests(source, source_files)}
    record_path = os.path.join(destination, RECORD)
    if _is_done(record_path, record):
        return f"{destination}: already made from {source}; nothing to do"
    if os.path.exists(destination) and (
            not os.path.isdir(destination) or os.listdir(destination)):
        raise InputError(f"{destination}: exists and was not made by this conversion; "
                         "name another folder or remove it")
    bert = read(source)
    record["fingerprint"] = checkpoint_io.fingerprint_of(bert.weights)
    with files.new_folder(destination) as folder:
        write(bert, folder)
        files.write_json(os.path.join(folder, RECORD), record | {"files": _digests(folder)})
    return (f"{destination}: {to} form of {source}, {bert.config['num_hidden_layers']} layers, "
            f"{sum(value.size for value in bert.weights.values()):,} parameters, "
            f"do_lower_case={str(bert.do_lower_case).lower()}, fingerprint {record['fingerprint']}"
            + (f"; left out: {', '.join(bert.left_out)}" if bert.left_out else ""))


def _is_done(record_path, record):
    """Whether the record at `record_path` is of this conversion and its files are as written."""
    if not os.path.exists(record_path):
        return False
    found = files.read_object(record_path, "files")
    if any(found.get(key) != value for key, value in record.items()):
        return False
    now = _digests(os.path.dirname(record_path), map(glob.escape, found["files"]))
    changed = [name for name, digest in found["files"].items() if now.get(name) != digest]
    if changed:
        raise InputError(
            f"{record_path}: tells of this conversion, but {checkpoint_io.some_of(changed)} "
            "changed since; remove what it made and convert again"
        )
    return True


def _digests(folder, patterns=("*",)):
    """{name: sha256} of the files of `folder` that match one of the patterns."""
    paths = {path for pattern in patterns
             for path in glob.glob(os.path.join(glob.escape(folder), pattern))}
    return {os.path.basename(path): files.sha256(path) for path in sorted(paths)}


def _sync(folder):
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            os.fsync(file.fileno())


def _convert_run(checkpoint, destination, base_path):
    """Writes base and trained variables as one checkpoint: `convert` with to="full"."""
    trained = checkpoint_io.Checkpoint(checkpoint)
    if checkpoint_io.FINGERPRINT_VARIABLE not in trained:
        raise InputError(
            f"{checkpoint}: holds no {checkpoint_io.FINGERPRINT_VARIABLE}; it is not what a "
            "run trained on a base, or it is a full checkpoint already"
        )
    if base_path and os.path.isdir(base_path):
        base_path = checkpoint_io.locate(base_path).init_checkpoint
    original = checkpoint_io.Checkpoint(checkpoint_io.base_of_run(checkpoint, base_path))
    record = {"to": "full", "fingerprint": checkpoint_io.check_base_of_run(trained, original),
              "base_index": files.sha256(f"{original.prefix}.index"),  # holds every checksum
              "source": _digests(os.path.dirname(checkpoint), _patterns_of(checkpoint))}
    if _is_done(f"{destination}.{RECORD}", record):
        return f"{destination}: already made from {checkpoint}; nothing to do"
    if os.path.exists(f"{destination}.index"):
        raise InputError(f"{destination}: a checkpoint of this name exists and was not made by "
                         "this conversion; choose another name or remove it")
    variables = _merged(original, trained)
    _write_prefix(destination, variables, record)
    return (f"{destination}: {len(variables)} variables, those of {checkpoint} in the place of "
            f"those of {original.prefix}")


def _patterns_of(prefix):
    name = glob.escape(os.path.basename(prefix))
    return f"{name}.index", f"{name}.data-*"


def _merged(original, trained):
    """Every variable of the base, the trained ones in their place and added, and the step."""
    names = [*formats.without_training_state(trained), *{"global_step"}.intersection(trained)]
    return ({name: original[name] for name in formats.without_training_state(original)}
            | {name: trained[name] for name in names})


def _write_prefix(destination, variables, record):
    parent, name = os.path.split(os.path.abspath(destination))
    files.make_folder(parent)
    with files.part_folder(parent, name) as around:
        folder = os.path.join(around, "new")
        os.mkdir(folder)
        checkpoint_io.write_checkpoint(os.path.join(folder, name), variables)
        files.write_json(os.path.join(folder, f"{name}.{RECORD}"),
                         record | {"files": _digests(folder)})
        _sync(folder)
        for part in sorted(os.listdir(folder), key=lambda part: part.endswith(".index")):
            os.replace(os.path.join(folder, part), os.path.join(parent, part))  # the index last
