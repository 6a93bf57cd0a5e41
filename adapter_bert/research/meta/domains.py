"""Labelled texts by domain, and the tasks that are drawn from them.

A data set is a JSON file in Meta-BERT's form: a list of {"text", "label", "domain"}. A task, or
episode, is a few examples of one domain to learn from (the support) and others to be asked (the
query); no text is in both.
"""
import collections
import dataclasses
import itertools
from typing import NamedTuple

from absl import logging

from adapter_bert import fields, files
from adapter_bert.data.bad_rows import shown
from adapter_bert.data.label_names import counted, normalized
from adapter_bert.errors import InputError
from adapter_bert.kinds import Example

KEYS = ("text", "label", "domain")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The examples of each domain.

    Attributes:
      path: of the file that they come from.
      labels: every label, sorted; a label's class id is its place here, everywhere.
      domains: {name: list of kinds.Example}, no text twice in all of them.
      duplicates: {name: int}, examples left out because their text stands before them.
      conflicts: {name: int}, examples left out because their text has several labels.
    """

    path: str
    labels: tuple[str, ...]
    domains: dict[str, list[Example]]
    duplicates: dict[str, int]
    conflicts: dict[str, int]


class Split(NamedTuple):
    """Names of the domains to learn from, to choose by, and to be tested on."""
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


class Episode(NamedTuple):
    """One task: a domain's examples to learn from and, apart from them, to be asked."""
    domain: str
    support: list[Example]
    query: list[Example]


def read_dataset(path):
    """The Dataset of a JSON file in Meta-BERT's form.

    Texts that differ in case and white space only count as one. The first of them stays, whatever
    its domain, so that no text is learned in one domain and asked in another; none stays where
    their labels differ.

    Raises:
      InputError: the file is missing or no list of such objects, or has fewer than two labels.
    """
    rows = files.read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: holds no list of examples; a data set is a list of objects with "
                         f"{', '.join(KEYS)}")
    return make_dataset(path, checked(path, rows))


def checked(path, rows):
    """(domain, kinds.Example) of each {"text", "label", "domain"}; InputError where one is not.

    Labels and domains that differ only in white space or in their Unicode form are the same.
    """
    examples = [_checked(f"{path}, example {number}", row) for number, row in enumerate(rows, 1)]
    changed = sum((row["label"], row["domain"]) != (example.label, domain)
                  for row, (domain, example) in zip(rows, examples, strict=True))
    if changed:
        logging.info("%s: removed extra white space from, or normalised (Unicode NFC), the label "
                     "or domain of %s", path, counted(changed, "example"))
    return examples


def make_dataset(path, rows):
    """The Dataset of a list of (domain, kinds.Example), see `read_dataset`."""
    labels_of = collections.defaultdict(set)
    for _, example in rows:
        labels_of[_key(example.text_a)].add(example.label)
    domains = {domain: [] for domain, _ in rows}
    counts = {"duplicates": collections.Counter(), "conflicts": collections.Counter()}
    seen = set()
    for domain, example in rows:
        key = _key(example.text_a)
        if len(labels_of[key]) > 1:
            counts["conflicts"][domain] += 1
        elif key in seen:
            counts["duplicates"][domain] += 1
        else:
            domains[domain].append(example)
        seen.add(key)
    return Dataset(path, _sorted_labels(path, rows), domains, **{
        name: dict(count) for name, count in counts.items()})


def _sorted_labels(path, rows):
    labels = sorted({example.label for _, example in rows})
    if len(labels) < 2:
        raise InputError(f"{path}: the only label is {shown(labels[0])}; a classifier needs two")
    return tuple(labels)


def _key(text):
    return " ".join(text.split()).casefold()


def _checked(place, row):
    if not isinstance(row, dict):
        raise InputError(f"{place}: found {shown(str(row))}, expected an object with "
                         f"{', '.join(KEYS)}")
    for key in KEYS:
        if key not in row:
            raise InputError(f"{place}: lacks {key!r}; each has {', '.join(KEYS)}")
        if not _is_text(row[key]):
            raise InputError(f"{place}: found {key} {shown(str(row[key]))}, expected a string that "
                             "is not empty")
    if "," in row["domain"]:
        raise InputError(f"{place}: found domain {shown(row['domain'])}, expected no comma in it; "
                         "commas part the names in --test_domains")
    return normalized(row["domain"]), Example(row["text"], None, normalized(row["label"]))


def _is_text(value):
    """Whether a value of JSON is a string with something in it that UTF-8 can write."""
    return (isinstance(value, str) and value.strip() != ""
            and not any("\ud800" <= character <= "\udfff" for character in value))


def removed_line(dataset):
    """What was left out of a Dataset, as one line; "" where nothing was."""
    duplicates, conflicts = (sum(counts.values())
                             for counts in (dataset.duplicates, dataset.conflicts))
    if not duplicates + conflicts:
        return ""
    return (f"{dataset.path}: left out of the examples: {duplicates:,} whose text stands before "
            f"them, {conflicts:,} whose text has several labels")


def split(dataset, validation_domains="", test_domains=""):
    """The Split that two lists of names with commas between them make; the rest is for training.

    Raises:
      InputError: a name is unknown or named twice, or no domain is left to train on.
    """
    validation = _names(dataset, "validation_domains", validation_domains)
    test = _names(dataset, "test_domains", test_domains)
    for name in validation:
        if name in test:
            raise InputError(f"--validation_domains and --test_domains both name {name}; what "
                             "chooses the checkpoint must not test it")
    train = tuple(name for name in dataset.domains if name not in validation + test)
    if not train:
        raise InputError(f"--validation_domains and --test_domains name all {len(dataset.domains)} "
                         f"domains of {dataset.path}; leave one or more to train on")
    return Split(train, validation, test)


def _names(dataset, flag, text):
    names = tuple(fields.listed(text or ""))
    for name in names:
        if name not in dataset.domains:
            raise InputError(f"--{flag}: {dataset.path} has no domain {name!r}; it has "
                             f"{', '.join(dataset.domains)}")
        if names.count(name) > 1:
            raise InputError(f"--{flag}: names {name} twice")
    return names


def check(dataset, names, num_support, num_query):
    """Refuses domains that no task of this size can be drawn from.

    Raises:
      InputError: a domain has fewer examples, or of all its examples only one label; or one
        domain alone has a label, as where it is misspelt.
    """
    for name in names:
        examples = dataset.domains[name]
        if len(examples) < num_support + num_query:
            raise InputError(f"{dataset.path}: domain {name} has {len(examples)} different texts, "
                             f"expected {num_support + num_query} or more ({num_support} to learn "
                             f"from, {num_query} to be asked); add some or ask for fewer")
        labels = {example.label for example in examples}
        if len(labels) < 2:
            raise InputError(f"{dataset.path}: domain {name} has the label {labels.pop()} only; "
                             "add examples of another, or leave the domain out")
    _check_shared(dataset)


def _check_shared(dataset):
    """InputError where of several domains one alone has a label, and so says nothing to others."""
    counts = {name: collections.Counter(example.label for example in examples)
              for name, examples in dataset.domains.items()}
    counts = {name: count for name, count in counts.items() if len(count) > 1}
    for label in dataset.labels:
        holders = [name for name, count in counts.items() if label in count]
        if len(holders) == 1 < len(counts):
            raise InputError(f"{dataset.path}: label {shown(label)} is found in domain "
                             f"{holders[0]} alone ({counts[holders[0]][label]} of its texts), and "
                             "domains share their labels; correct it, or leave those texts out")


def check_labels(dataset, labels, source):
    """Refuses a data set whose labels are not those that a model has learned, in their order.

    Args:
      dataset: Dataset.
      labels: the model's labels, in the order of their ids.
      source: what the model is, for the message.

    Raises:
      InputError: with the labels of both.
    """
    if tuple(labels) != dataset.labels:
        raise InputError(f"{dataset.path}: its labels are {', '.join(dataset.labels)}, but those "
                         f"of {source} are {', '.join(labels)}; they must be the same in the same "
                         "order")


def choose(names, count, random):
    """`count` of the names in their order, drawn by a numpy Generator; all where it is no fewer."""
    drawn = random.permutation(len(names))[:count]
    return tuple(names[place] for place in sorted(drawn))


def draw_training(dataset, names, num_support, num_query, random):
    """An Episode as Meta-BERT draws them for training.

    A domain is drawn with probability proportional to its size, then num_support + num_query of its
    examples without replacement.

    Args:
      dataset: Dataset whose domains `check` has passed.
      names: of the domains to draw from.
      num_support, num_query: counts of examples.
      random: numpy Generator.
    """
    sizes = [len(dataset.domains[name]) for name in names]
    name = names[random.choice(len(names), p=[size / sum(sizes) for size in sizes])]
    examples = dataset.domains[name]
    drawn = [examples[place] for place in random.permutation(len(examples))]
    return Episode(name, drawn[:num_support], drawn[num_support:num_support + num_query])


def draw_test(dataset, name, num_support, num_query, random):
    """An Episode of one domain to be tested on, its support with every label equally often.

    The query is drawn at random. What is left is a random order in which the labels take turns, as
    long as each has examples, and the support is its beginning. So num_support counts all
    examples, not those of a label; fewer than there are labels leave some out. From Generators of
    one state the query is the same for any num_support, and each support begins with every
    smaller one.

    Args and Returns as for `draw_training`, for a single name.
    """
    examples = dataset.domains[name]
    drawn = [examples[place] for place in random.permutation(len(examples))]
    query, rest = drawn[:num_query], drawn[num_query:]
    labels = [dataset.labels[place] for place in random.permutation(len(dataset.labels))]
    turns = itertools.zip_longest(*(
        [example for example in rest if example.label == label] for label in labels))
    support = [example for turn in turns for example in turn if example]
    return Episode(name, support[:num_support], query)
