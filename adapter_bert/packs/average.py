"""The average of packs: one pack whose weights are the mean of theirs.

Adapters and LayerNorms are averaged value by value (Chronopoulou et al., 2023, average adapters). A
head is averaged only where every pack is of one task and its labels, and finds answers in the same
way; else it comes, as it is, from the pack that is named for it, with what that pack says of it.
"""
import dataclasses

import numpy as np

from adapter_bert.errors import InputError
from adapter_bert.packs.manifest import Spans
from adapter_bert.packs.store import Pack


def average(packs, shares=None, head_from=None):
    """The weighted mean of packs of one base, tuning mode and adapter config.

    Args:
      packs: {name: Pack}, two or more.
      shares: a number for each pack, how much it counts; equal ones where None.
      head_from: name of the pack whose head is taken; None to average the heads.

    Returns:
      Pack, without metrics: nobody has measured it.

    Raises:
      InputError: packs that do not go together, or shares that make no mean.
    """
    names = list(packs)
    shares = _checked_shares(shares or [1.0] * len(names), names)
    _check_alike(packs)
    first = packs[head_from or names[0]]
    if head_from is None:
        _check_heads(packs)
    weights = {name: _mean([pack.weights[name] for pack in packs.values()], shares)
               if head_from is None or not _is_of_head(name) else first.weights[name]
               for name in first.weights}
    manifests = [pack.manifest for pack in packs.values()]
    manifest = dataclasses.replace(
        first.manifest, metrics={}, data={}, meta=None, weights=None,
        max_seq_length=max(manifest.max_seq_length for manifest in manifests),
        pair=_common([manifest.pair for manifest in manifests], None),
        license=_common([manifest.license for manifest in manifests], ""),
        description=f"the average of {len(packs)} packs")
    return Pack(manifest, weights)


def _is_of_head(name):
    """Whether a weight is the head's: AdapterHub's head of two layers has the pooler as one."""
    return not name.startswith("bert/") or name.startswith("bert/pooler/")


def _common(values, otherwise):
    """The value that all have, or `otherwise`."""
    return values[0] if all(value == values[0] for value in values) else otherwise


def _mean(values, shares):
    """The mean of arrays of one shape, computed in float64."""
    return np.tensordot(shares, np.stack(values), 1).astype(np.float32)


def _checked_shares(shares, names):
    """Shares that add up to 1, float64 [packs]."""
    total = sum(shares)
    if len(names) < 2 or len(shares) != len(names):
        raise InputError(f"{len(names)} packs and {len(shares)} weights: an average takes two or "
                         "more packs, and a weight for each or none at all")
    if not np.isfinite(total) or not abs(total) > 1e-6 * sum(map(abs, shares)):
        raise InputError(f"weights {shares}: must be numbers that do not add up to 0")
    return np.array(shares, np.float64) / total


def _check_alike(packs):
    """InputError where packs have other bases, tuning modes, adapters or casing."""
    (name, first), *others = packs.items()
    for other, pack in others:
        differing = _differing(first.manifest, pack.manifest,
                               ("base", "tuning", "adapter", "do_lower_case"))
        if differing:
            raise InputError(f"{name} and {other}: another {' and '.join(differing)}; only packs "
                             "that are alike in these can be averaged")


def _differing(first, second, names):
    """Those of the names of attributes of which the values differ."""
    return [name for name in names if getattr(first, name) != getattr(second, name)]


def _meaning(pack):
    return pack.manifest.task, pack.manifest.head, pack.manifest.labels


def _check_heads(packs):
    """InputError where heads do not mean the same."""
    (name, first), *others = packs.items()
    for other, pack in others:
        if _meaning(pack) != _meaning(first):
            raise InputError(f"{name} and {other}: heads of other tasks or labels "
                             f"({first.manifest.task}, {pack.manifest.task}); name the pack whose "
                             "head is taken with --head_from")
        if pack.manifest.spans != first.manifest.spans:
            differing = _differing(first.manifest.spans, pack.manifest.spans,
                                   [field.name for field in dataclasses.fields(Spans)])
            raise InputError(f"{name} and {other}: answers found with another "
                             f"{' and '.join(differing)}; train them with the same, or name the "
                             "pack whose head is taken with --head_from")
