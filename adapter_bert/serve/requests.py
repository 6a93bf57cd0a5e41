"""A request's JSON to rows of the bank, and the bank's predictions to the JSON of the answer."""
import collections
import itertools
import re
import time
from typing import Any, NamedTuple

import numpy as np

from adapter_bert.errors import InputError
from adapter_bert.packs.answers import ANSWERS
from adapter_bert.serve import rest, strict_json
from adapter_bert.serve.batcher import Failed
from adapter_bert.serve.refusal import Refusal, busy

_PATH = re.compile(r"([^/:]+)(?:/versions/([0-9]{1,18}))?(?::(\w+)|/(metadata))?")


class Address(NamedTuple):
    """What stands behind /v1/models/.

    name: of a task, or of all together.
    version: int, or None for the present one.
    verb: "predict", "classify", "regress", "metadata" or "status".
    """

    name: str
    version: int | None
    verb: str


class Group(NamedTuple):
    """Texts of a request that are of one task.

    places: of the texts in the request.
    manifest: manifest.Manifest of their task.
    parts: list of the bank's Part.
    """

    places: list[int]
    manifest: Any
    parts: list[Any]


class Taken(NamedTuple):
    """A request whose rows can be computed.

    groups: list of Group; each text is in one.
    rows: list of the bank's Row, those of the groups one after the other.
    names: of each text's task where all tasks were asked together, or None.
    """

    groups: list[Group]
    rows: list[Any]
    names: list[str] | None
    verb: str
    in_columns: bool


def address(path):
    """The Address of a path below /v1/models/; Refusal where it is none."""
    match = _PATH.fullmatch(path)
    if not match or match[3] not in (None, *rest.VERBS):
        raise Refusal("no such address; see /v1/models/TASK and /v1/models/TASK:predict", 404)
    return Address(match[1], int(match[2]) if match[2] else None,
                   match[3] or match[4] or "status")


class Models:
    """What is asked of the tasks of a catalogue.

    Args:
      bank: serve.engine.Bank.
      catalogue: serve.registry.Catalogue.
      everything: the name under which every task can be asked.
      limits: rest.Limits.
      batcher: batcher.Batcher.
    """

    def __init__(self, bank, catalogue, everything, limits, batcher):
        self._bank, self._catalogue, self._batcher = bank, catalogue, batcher
        self._everything, self._limits = everything, limits

    def take(self, asked, body, deadline):
        """The Taken of a request, for whose rows the batcher keeps room.

        Args:
          asked: Address.
          body: bytes.
          deadline: of time.monotonic(), after which nobody waits for the answer.

        Raises:
          Refusal: no such task, not such a request, or no room.
        """
        if time.monotonic() > deadline:
            raise busy("the request waited too long for its turn")
        self._found(asked)
        questions, in_columns = rest.parse(asked.verb, strict_json.loads(body), self._limits)
        together = asked.name == self._everything
        names = [self._task(asked.name, *one) for one in enumerate(questions)]
        examples = [question.example for question in questions]
        _check(asked.verb, names, [self._loaded(name).manifest for name in names], examples)
        reserved = len(names)
        self._batcher.reserve(reserved)
        try:
            groups = self._encode(names, examples)
            rows = [row for group in groups for part in group.parts for row in part.rows]
            self._batcher.reserve(len(rows) - reserved)
            reserved = len(rows)
            self._check_version(asked, groups)
            # Another pack may have come in the place of the one that was checked.
            _check(asked.verb, names, _manifests(groups), examples)
        except BaseException:
            self._batcher.release(reserved)
            raise
        return Taken(groups, rows, names if together else None, asked.verb, in_columns)

    def answer(self, taken, predicted):
        """The JSON, bytes, of what the bank predicts for the rows of a Taken."""
        for row, outputs in zip(taken.rows, predicted, strict=True):
            if not all(np.isfinite(values).all() for values in outputs.values()):
                raise Failed(f"the pack of {row.task.manifest.task} gives no finite number for "
                             "this text")
        heads = [manifest.head for manifest in _manifests(taken.groups)]
        predicted = iter(predicted)
        answers = _by_place(taken.groups, [_answers(group, predicted) for group in taken.groups])
        if taken.verb == "predict":
            answer = rest.predictions(heads, answers, taken.in_columns, taken.names)
        else:
            answer = rest.results(taken.verb, answers)
        return strict_json.dumps(answer)

    def describe(self, asked):
        """The answer to GET: the status of a task, or its metadata."""
        found = self._found(asked)
        version, manifest = (found.version, found.manifest) if found else (1, None)
        if asked.verb == "status":
            return rest.status(version)
        return rest.metadata(asked.name, version, manifest)

    def _found(self, asked):
        """The catalogue's Loaded at an Address, None for all tasks; Refusal where there is none."""
        found = None if asked.name == self._everything else self._loaded(asked.name)
        version = found.version if found else 1
        if asked.version not in (None, version):
            raise Refusal(f"{asked.name[:100]} has no version {asked.version}; there is {version}",
                          404)
        return found

    def _loaded(self, name):
        try:
            return self._catalogue.loaded(name)
        except KeyError as error:
            raise Refusal(f"no task {name[:100]!r} is loaded; see /v1/packs", 404) from error

    def _task(self, asked, place, question):
        """The name of the task of a row."""
        if asked == self._everything:
            if question.task is None:
                raise Refusal(f"row {place} has no task, which {asked} needs")
            return question.task
        if question.task not in (None, asked):
            raise Refusal(f"row {place} is for the task {question.task[:100]!r}, "
                          f"and the address for {asked}")
        return asked

    def _encode(self, names, examples):
        """The Groups of texts; one call of the bank a task, or a text of which nobody knows how
        many rows it makes."""
        groups, rows = [], 0
        for name, places in self._together(names):
            parts = self._encode_one(name, [_given(examples[place]) for place in places], places,
                                     self._limits.rows - rows)
            rows += sum(len(part.rows) for part in parts)
            groups.append(Group(places, parts[0].rows[0].task.manifest, parts))
        return groups

    def _together(self, names):
        """(name of a task, places of its texts) of what is encoded together."""
        places = collections.defaultdict(list)
        for place, name in enumerate(names):
            alone = rest.KINDS[self._loaded(name).manifest.head].has_windows
            places[name, place if alone else None].append(place)
        return [(name, mine) for (name, _), mine in places.items()]

    def _encode_one(self, name, texts, places, most):
        try:
            return self._bank.encode(name, texts, most)
        except KeyError as error:
            raise Refusal(f"the task {name!r} was just removed", 404) from error
        except InputError as error:
            _, _, reason = str(error).partition(": ")
            raise Refusal(f"row {places[0]}: {reason or error}") from error

    def _check_version(self, asked, groups):
        """Refusal where a version was asked for and another pack came in its place meanwhile."""
        if asked.version is not None and asked.name != self._everything:
            found = self._found(asked)
            if any(group.manifest != found.manifest for group in groups):
                raise Refusal(f"{asked.name} was just replaced", 404)


def _given(example):
    """A kinds.Example as the bank takes it."""
    return example.text_a if example.text_b is None else (example.text_a, example.text_b)


def _answers(group, predicted):
    """The answers to the texts of a Group; takes the predictions for its rows from an iterator."""
    kind = ANSWERS[group.manifest.head]
    return [answer for part in group.parts for answer in kind.answers(
        group.manifest, part.asked, list(itertools.islice(predicted, len(part.rows))))]


def _manifests(groups):
    """The manifest.Manifest of each text's task, in the order of the request."""
    return _by_place(groups, [[group.manifest] * len(group.places) for group in groups])


def _by_place(groups, values):
    """Values of Groups, a list each with one of each text, in the order of the request."""
    found = {place: value for group, mine in zip(groups, values, strict=True)
             for place, value in zip(group.places, mine, strict=True)}
    return [found[place] for place in sorted(found)]


def _check(verb, names, manifests, examples):
    """Refusal where an example is none for the pack of its task."""
    for place, (name, manifest, example) in enumerate(zip(names, manifests, examples, strict=True)):
        rest.check_head(verb, name, manifest.head)
        rest.check_pair(name, manifest, place, example)
