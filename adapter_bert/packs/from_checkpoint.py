"""Packs of checkpoints: of a run, or of the reference adapter-bert, which holds a whole model."""
import os
import re

import numpy as np

from adapter_bert.bert import adapters, checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest as manifests
from adapter_bert.packs.store import Pack

_ADAPTER = re.compile(r"bert/encoder/layer_(\d+)/(attention/output|output)/adapters/weights1")


def read(checkpoint, on, original, task, labels, do_lower_case, max_seq_length):
    """The pack of a checkpoint with adapters and head that was trained on a base.

    The adapters' size, place and layers are read off the shapes; their activation is the
    reference's, the tanh form of GELU.

    Args:
      checkpoint: prefix, such as model.ckpt-573.
      on: manifest.Base, its base.
      original: prefix of that base's checkpoint.
      task: name of the task.
      labels: names of its classes in the order of their ids; () for a regression.
      do_lower_case: bool.
      max_seq_length: the most word pieces of an example.

    Returns:
      store.Pack.

    Raises:
      InputError: no adapters or head in it, or more than these and LayerNorms differs from the
        base.
    """
    held = checkpoint_io.Checkpoint(checkpoint)
    if checkpoint_io.FINGERPRINT_VARIABLE in held:
        raise InputError(f"{checkpoint}: of a run of adapter-bert, which left a pack beside it; "
                         "use that, or run the same command again to have it written")
    check_only_adapters(held, checkpoint_io.Checkpoint(original))
    manifest = manifests.Manifest(
        task=task, head="classification" if labels else "regression", labels=tuple(labels),
        pair=None, tuning="adapters", base=on,
        adapter=adapter_of(held.shapes, on.config.num_hidden_layers), do_lower_case=do_lower_case,
        max_seq_length=max_seq_length, metrics={}, data={}, versions={})
    shapes = manifest.shapes()
    wrong = [f"{name} {held.shapes.get(name, 'missing')}, not {shape}"
             for name, shape in shapes.items() if held.shapes.get(name) != shape]
    if wrong:
        raise InputError(f"{checkpoint}: does not fit {len(labels) or 'no'} labels and the base: "
                         f"{checkpoint_io.some_of(wrong)}")
    return Pack(manifest, {name: held[name].astype(np.float32) for name in shapes})


def adapter_of(shapes, num_layers):
    """The AdapterConfig that the shapes of a checkpoint's variables tell.

    Args:
      shapes: {name: shape tuple}.
      num_layers: L of the base.
    """
    places = {match.groups(): shapes[name] for name in shapes
              if (match := _ADAPTER.fullmatch(name))}
    layers = tuple(sorted({int(layer) for layer, _ in places}))
    sites = {site for _, site in places}
    placements = [name for name, wanted in adapters.PLACEMENTS.items()
                  if {adapters.SCOPES[site] for site in wanted} == sites]
    sizes = {shape[-1] for shape in places.values()}
    if not placements or {len(shape) for shape in places.values()} != {2} or len(
            sizes) != 1 or len(places) != len(layers) * len(sites):
        raise InputError(f"the checkpoint has adapters at {len(places)} places, of the widths "
                         f"{sorted(sizes)}: no set of adapters that a pack can hold")
    return adapters.AdapterConfig(
        size=sizes.pop(), placement=placements[0],
        layers=None if layers == tuple(range(num_layers)) else layers)


def check_only_adapters(held, original):
    """InputError where a frozen variable of a checkpoint is not the base's to the bit."""
    encoder = list(filter(checkpoint_io.is_encoder_variable, original))
    missing = [name for name in encoder if name not in held]
    if missing:
        raise InputError(
            f"{held.prefix}: lacks {checkpoint_io.some_of(missing, 3)} of its base, so that "
            "nobody can tell whether it fits; give the whole checkpoint"
        )
    frozen = [name for name in encoder if "/LayerNorm/" not in name]
    changed = [name for name in frozen if not np.array_equal(held[name], original[name])]
    if changed:
        raise InputError(
            f"{held.prefix}: {checkpoint_io.some_of(changed, 3)} differ from {original.prefix}; it "
            f"was trained on another base than {os.path.dirname(original.prefix)}, or more than "
            "adapters, LayerNorms and head was trained"
        )
