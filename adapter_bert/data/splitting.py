"""Splits the examples of one file into train, dev and test: stratified, and always in the same way.

The split depends on the texts, the labels and the fractions only: not on a seed, and not on the
order of the rows. So a resumed run, an evaluation, and runs with different seeds share it. Rows
with the same text (without regard to case and white space) are in the same part.
"""
import collections
import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from absl import logging

from adapter_bert.data.label_names import counted
from adapter_bert.errors import InputError

LEAST_TEXTS = 10   # different texts that a split needs

T = TypeVar("T")


def split_examples(path: str, examples: Sequence[T], dev: float, test: float,
                   texts: Callable[[T], tuple[str, ...]],
                   labels: Callable[[T], Sequence[Hashable]]) -> dict[str, list[T]]:
    """The parts of the examples of a file.

    Every label that two different texts have is in train: an example whose label train would lack
    is moved there.

    Args:
      path: of the file, for messages.
      examples: in the order of the file.
      dev, test: fractions, each at least 0 and together below 1.
      texts: function of an example that returns its texts.
      labels: function of an example that returns its labels: one for a class, those of all words
        of a sentence, none for a score.

    Returns:
      {"train": examples, "dev": ..., "test": ...} in the order of the file, without the parts whose
      fraction is 0.

    Raises:
      InputError: there are too few texts for that.
    """
    fractions = {name: share for name, share in {"dev": dev, "test": test}.items() if share}
    keys = [tuple(" ".join(text.split()).casefold() for text in texts(example))
            for example in examples]
    groups: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    for number, key in enumerate(keys):
        groups[key].append(number)
    if fractions and len(groups) < LEAST_TEXTS:
        raise InputError(f"{path}: {counted(len(groups), 'different text')} cannot be split into "
                         f"train and {' and '.join(fractions)}, which takes {LEAST_TEXTS}; add "
                         "some, or name a folder of train and dev files with --data_dir")
    _log_duplicates(path, len(examples) - len(groups), fractions)
    of_group = {key: frozenset(label for number in numbers for label in labels(examples[number]))
                for key, numbers in groups.items()}
    part = _parts(of_group, fractions)
    split = {name: [example for example, key in zip(examples, keys, strict=True)
                    if part[key] == name] for name in ("train", *fractions)}
    empty = [name for name in split if not split[name]]
    if empty:
        reason = f"add some, or raise --{empty[0]}_fraction"
        if len(set.union(set(), *of_group.values())) > len(groups) / 2:
            reason = ("most labels have one text only, which train needs; add texts of each label. "
                      "Is --label_column the right one?")
        raise InputError(f"{path}: no example is left for {empty[0]}; {reason}")
    return split


def _log_duplicates(path, count, fractions):
    if count and fractions:
        logging.info("%s: %s the text of another one; equal texts stay in the same part", path,
                     "1 example repeats" if count == 1 else f"{count:,} examples repeat")


def _parts(labels_of, fractions):
    """{group: name of its part} of {group: its labels}.

    The groups are sorted by their rarest label and then by a hash of their texts, and every so
    many-th is held out: that takes the same share of each label.
    """
    counts = collections.Counter(label for labels in labels_of.values() for label in labels)

    def place(group):
        rarest = min(labels_of[group], key=lambda label: (counts[label], str(label)), default="")
        digest = hashlib.sha256("\n".join(group).encode("utf-8", "surrogatepass")).digest()
        return str(rarest), digest

    order = sorted(labels_of, key=place)
    held_out = _every(order, sum(fractions.values()))
    part = dict.fromkeys(order, "train")
    test = _every(held_out, fractions.get("test", 0) / sum(fractions.values()) if fractions else 0)
    part |= dict.fromkeys(held_out, "dev")
    part |= dict.fromkeys(test, "test")
    _move_unknown(part, held_out, labels_of)
    return part


def _every(items, share):
    """`share` of the items, rounded, at equal distances."""
    count = int(len(items) * share + 0.5)
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def _move_unknown(part, held_out, labels_of):
    """Moves to train what has a label that no group of train has."""
    known = {label for group, name in part.items() if name == "train" for label in labels_of[group]}
    for group in held_out:
        if not labels_of[group] <= known:
            part[group] = "train"
            known |= labels_of[group]
