"""Between runs and packs: what a run leaves as a pack, and a pack as what a run starts from."""
import dataclasses
import os

from absl import logging

import adapter_bert
from adapter_bert import files, paths
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest as manifests
from adapter_bert.packs import store
from adapter_bert.train import initial_values, results
from adapter_bert.train.settings import adapter_config, adapter_flags


def refuse_unpackable(run, splits):
    """InputError where a run would end without being able to leave its pack."""
    settings = run.settings
    if settings.tuning == "full":
        if settings.pack_dir:
            raise InputError("--pack_dir: full tuning changes the whole model and makes no pack")
        return
    place, output = map(paths.absolute, (place_of(settings), settings.output_dir))
    if f"{output}/".startswith(f"{place}/"):
        raise InputError(f"--pack_dir={settings.pack_dir}: holds the run's own folder; name a "
                         "folder of its own for the pack")
    store.check_place(place)
    files.make_folder(os.path.dirname(place))
    start = initial_values.Start(None, settings.init_checkpoint, "0" * 64)
    manifest = manifest_of(run, start, splits, {})
    try:
        manifests.check(manifest)
        manifests.check_texts(manifest)
        store.check_text(manifest)
    except ValueError as error:
        raise InputError(f"the run could not leave its pack: {error}; see --pack_description, "
                         "--pack_license and the labels") from error


def place_of(settings):
    """Where the pack of a run goes."""
    return settings.pack_dir or os.path.join(settings.output_dir, "pack")


def write_pack(run, start, splits, metrics, warning=""):
    """Leaves what a run trained as a pack.

    Args:
      run: resolve.Run with the checkpoint to pack in `trained`.
      start: initial_values.Start of its base.
      splits: {name: data.Split} that it trained and was scored on.
      metrics: {name: float} on its dev set; {} where nothing was evaluated.
      warning: why its predictions are not to be trusted; "" for no warning.
    """
    settings = run.settings
    if settings.tuning == "full":
        logging.info("no pack: full tuning changes the whole model; adapter-bert convert --to=full "
                     "makes a checkpoint of it")
        return
    path = place_of(settings)
    trained, manifest = (
        checkpoint_io.Checkpoint(run.trained),
        manifest_of(run, start, splits, metrics),
    )
    manifest = dataclasses.replace(manifest, warning=warning)
    weights = {name: trained[name] for name in manifest.shapes()}
    pack = store.write(path, store.Pack(manifest, weights), settings.pack_precision)
    share = pack.manifest.weights.bytes / sum(map(paths.size, initial_values.files_of(start.base)))
    if any("/adapters/" in name for name in checkpoint_io.Checkpoint(start.base)):
        logging.info("%s has adapters of its own: the pack fits that checkpoint only", start.base)
    logging.info("pack: %s, %.1f MB, %.1f %% of its base; %s", path,
                 pack.manifest.weights.bytes / 1e6, 100 * share,
                 f"do not use it: {warning}" if warning else "use it with --pack")


def manifest_of(run, start, splits, metrics):
    """The Manifest of what a run trained; arguments as for `write_pack`."""
    settings = run.settings
    data = {name: {"examples": split.examples, "sha256": split.fingerprint}
            for name, split in splits.items() if split.is_labelled}
    name = run.task.name
    if name == "custom":
        name = os.path.basename(os.path.abspath(
            settings.data_dir or os.path.splitext(settings.data_file)[0]))
    return manifest_with(
        settings, run.bert_config, start, task=name, head=run.task.kind,
        labels=tuple(run.task.labels), pair=run.task.is_pair,
        metrics={name: float(value) for name, value in metrics.items()}, data=data,
        spans=spans_of(settings) if run.task.kind == "spans" else None)


def manifest_with(settings, bert_config, start, **own):
    """The Manifest of what settings and base say, and of fields of its own.

    Args:
      settings: settings.ModelSettings with those of a pack.
      bert_config: modeling.BertConfig of the base.
      start: initial_values.Start of the base.
      **own: the other fields.
    """
    return manifests.Manifest(
        tuning=settings.tuning, adapter=adapter_config(settings),
        base=manifests.Base(checkpoint_io.name_of(start.base), start.fingerprint,
                            files.sha256(settings.vocab_file), bert_config),
        do_lower_case=settings.do_lower_case, max_seq_length=settings.max_seq_length,
        versions={"adapter-bert": adapter_bert.__version__, **results.versions()},
        license=settings.pack_license, description=settings.pack_description, **own)


def spans_of(settings):
    """The manifest.Spans of settings.SquadSettings."""
    has_null = settings.version_2_with_negative
    return manifests.Spans(
        settings.max_query_length, settings.doc_stride, settings.n_best_size,
        settings.max_answer_length, settings.null_score_diff_threshold if has_null else None)


def spans_flags(spans):
    """{flag: value} that `spans_of` makes a manifest.Spans of."""
    values = dataclasses.asdict(spans)
    threshold = values.pop("null_threshold")
    return {**values, "version_2_with_negative": threshold is not None,
            "null_score_diff_threshold": threshold or 0.0}


def without_head(pack):
    """A store.Pack as another task starts from it: with what lies in the encoder alone.

    Raises:
      InputError: nothing does.
    """
    weights = {name: value for name, value in pack.weights.items() if name.startswith("bert/")}
    if not weights:
        raise InputError(f"the pack of {pack.manifest.task} holds nothing but its head, from which "
                         "no other task can start; leave --init_pack out")
    return pack._replace(weights=weights)


def unpack(pack, folder):
    """Makes the folder of a run out of a pack, for a run to start from.

    Args:
      pack: store.Pack, or what `without_head` makes of one.
      folder: made, unless it is there and was made of this pack.

    Returns:
      The prefix of the checkpoint in it.

    Raises:
      InputError: something else is there, or the folder cannot be written.
    """
    prefix = os.path.join(folder, "model.ckpt-0")
    now = run_record(pack)
    if paths.exists(f"{prefix}.index") and checkpoint_io.recorded_run(prefix) == now:
        return prefix   # of an earlier start of the same run, which knows it by its bytes
    fingerprint = checkpoint_io.fingerprint_as_int64(pack.manifest.base.fingerprint)
    with files.new_folder(folder) as place:
        checkpoint_io.write_checkpoint(os.path.join(place, os.path.basename(prefix)), {
            **pack.weights, checkpoint_io.FINGERPRINT_VARIABLE: fingerprint})
        files.write_json(os.path.join(place, checkpoint_io.RUN_FILE), now)
    return prefix


def run_record(pack):
    """What run.json says of a store.Pack: a run's flags, labels and base, without the paths.

    Without its head it fixes no labels and no length of texts.
    """
    manifest, wanted = pack.manifest, pack.manifest.base
    has_head = pack.weights.keys() == manifest.shapes().keys()
    flags = {"task_name": manifest.task, "tuning": manifest.tuning,
             "do_lower_case": manifest.do_lower_case,
             **({"max_seq_length": manifest.max_seq_length} if has_head else {}),
             **(adapter_flags(manifest.adapter) if manifest.adapter else {}),
             **(spans_flags(manifest.spans) if manifest.spans and has_head else {})}
    return {"flags": flags, "kind": manifest.head,
            "labels": list(manifest.labels) if has_head else None, "train_data": None,
            "weights": manifest.weights.sha256,
            "base": {"name": wanted.name, "fingerprint": wanted.fingerprint, "vocab": wanted.vocab,
                     "bert_config": wanted.config.to_dict()}}
