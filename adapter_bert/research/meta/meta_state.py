"""What meta-training leaves, and goes on from: checkpoints, their record, the pack.

    ckpt/meta.epoch-E.step-S    what trains after an epoch, to start from
    ckpt/run.json               what it was trained with, and on which base
    best.json                   which of them is best on the validation domains
    state/                      the newest step with the outer optimizer, to go on from
    history.json                query loss of every step, validation accuracies of every epoch
"""
import os

import numpy as np
from absl import logging

from adapter_bert import files
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest as manifests
from adapter_bert.packs import store
from adapter_bert.research.meta.outer import SLOTS
from adapter_bert.train import initial_values, resolve
from adapter_bert.train.run_packs import manifest_with, place_of

STATE, CHECKPOINTS = "state", "ckpt"
# What a run fixes beside resolve.RUN_FLAGS.
FLAGS = ("algorithm", "outer_batch_size", "outer_update_lr", "inner_optimizer", "inner_update_lr",
         "inner_batch_size", "inner_update_step", "inner_update_step_eval", "num_domain",
         "num_support", "num_query", "num_train_task", "num_test_task", "validation_domains",
         "test_domains", "epochs")


def record(opened):
    """What run.json says of a run, see checkpoint_io.recorded_run."""
    settings, start = opened.settings, opened.start
    flags = {name: getattr(settings, name) for name in (*resolve.RUN_FLAGS, *FLAGS)
             if hasattr(settings, name)}
    return {"flags": {**flags, "task_name": task_name(settings)}, "kind": "classification",
            "labels": list(opened.dataset.labels), "train_data": files.sha256(settings.data),
            "start": opened.trained and files.sha256(f"{opened.trained}.index"),
            "base": resolve.record_of_base(settings, opened.bert_config, start)}


def task_name(settings):
    """What the task is called: the data's file, or its folder where that is just a dataset."""
    path = os.path.abspath(settings.data)
    name = os.path.splitext(os.path.basename(path))[0]
    return os.path.basename(os.path.dirname(path)) or name if name == "dataset" else name


def begin(opened):
    """Prepares the output folder; a run in it that is another one is refused.

    Raises:
      InputError: with what differs.
    """
    settings, now = opened.settings, record(opened)
    state = os.path.join(settings.output_dir, STATE)
    resolve.refuse_contradiction(state, now)
    if settings.tuning != "full":
        store.check_place(os.path.abspath(place_of(settings)))
    for folder in (state, os.path.join(settings.output_dir, CHECKPOINTS)):
        files.make_folder(folder)
        files.write_json(os.path.join(folder, checkpoint_io.RUN_FILE), now)


def read_state(output_dir, names):
    """Values, slots and number of the newest step of a run; (None, None, 0) of a new one.

    Args:
      output_dir: folder of the run.
      names: of what trains.
    """
    prefix, step = initial_values.latest_step(os.path.join(output_dir, STATE))
    if not step:
        return None, None, 0
    held = checkpoint_io.Checkpoint(prefix)
    slots = [f"{name}/{slot}" for name in names for slot in SLOTS]
    lost = [name for name in (*names, *slots) if name not in held]
    if lost:
        raise InputError(
            f"{prefix}: lacks {checkpoint_io.some_of(lost)}; remove {output_dir}/{STATE} to "
            "start anew"
        )
    return {name: held[name] for name in names}, {name: held[name] for name in slots}, step


def write_state(output_dir, adam, step):
    """Leaves an outer.Adam after a step, and removes the states before it."""
    folder = os.path.join(output_dir, STATE)
    checkpoint_io.write_checkpoint(os.path.join(folder, f"model.ckpt-{step}"), {
        **adam.values, **adam.slots, "global_step": np.int64(step)})
    initial_values.prune(folder, keep=1)


def write_checkpoint(opened, values, epoch, step):
    """Leaves what trains after an epoch; returns the prefix.

    With --tuning=full it is a whole model; else it names its base by the fingerprint.
    """
    prefix = prefix_of(opened.settings, epoch, step)
    mark = (
        {}
        if opened.settings.tuning == "full"
        else {
            checkpoint_io.FINGERPRINT_VARIABLE: checkpoint_io.fingerprint_as_int64(
                opened.start.fingerprint
            )
        }
    )
    checkpoint_io.write_checkpoint(prefix, {**values, **mark, "global_step": np.int64(step)})
    return prefix


def prefix_of(settings, epoch, step):
    """The prefix of the checkpoint of an epoch that ends with a step."""
    return os.path.join(settings.output_dir, CHECKPOINTS, f"meta.epoch-{epoch}.step-{step}")


def write_pack(opened, prefix, trained_on, scores):
    """Leaves the values of a checkpoint as a pack; with --tuning=full none.

    Args:
      opened: start.Opened.
      prefix: of the checkpoint.
      trained_on: names of the domains.
      scores: {name: float} on the validation domains.
    """
    settings, path = opened.settings, place_of(opened.settings)
    if settings.tuning == "full":
        logging.info("no pack: full tuning changes the whole model; start from %s", prefix)
        return
    manifest, held = manifest_of(opened, trained_on, scores), checkpoint_io.Checkpoint(prefix)
    pack = store.write(path, store.Pack(manifest, {name: held[name] for name in manifest.shapes()}),
                       settings.pack_precision)
    logging.info("pack: %s, %.1f MB; use it with --init_pack, or with --pack of run_finetuning.py",
                 path, pack.manifest.weights.bytes / 1e6)


def manifest_of(opened, trained_on, scores):
    """The Manifest of what meta-training left; arguments as for `write_pack`."""
    settings, start = opened.settings, opened.start
    count = sum(len(opened.dataset.domains[name]) for name in trained_on)
    return manifest_with(
        settings, opened.bert_config, start, task=task_name(settings), head="classification",
        labels=opened.dataset.labels, pair=False, metrics=scores,
        data={"train": {"examples": count, "sha256": files.sha256(settings.data)}},
        meta=manifests.Meta(settings.algorithm, settings.inner_optimizer, settings.inner_update_lr,
                            settings.inner_update_step, trained_on))
