"""A request's JSON to rows of the bank, and the bank's values to the JSON of the answer."""
import collections
import json
import re
import time
from typing import Any, NamedTuple

import numpy as np

from adapter_bert.serving import rest, strict_json
from adapter_bert.serving.batching import Failed
from adapter_bert.serving.refusal import Refusal, busy

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


class Taken(NamedTuple):
    """A request whose rows can be computed.

    rows: list of the bank's Row.
    names: of each row's task where all tasks were asked together, or None.
    """

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
      bank: serving.bank.Bank.
      catalogue: serving.catalogue.Catalogue.
      everything: the name under which every task can be asked.
      limits: rest.Limits.
      batcher: batching.Batcher.
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
        self._batcher.reserve(len(names))
        try:
            rows = self._encode(names, examples)
            self._check_version(asked, rows)
            # Another pack may have come in the place of the one that was checked.
            _check(asked.verb, names, [row.task.manifest for row in rows], examples)
        except BaseException:
            self._batcher.release(len(names))
            raise
        return Taken(rows, names if together else None, asked.verb, in_columns)

    def answer(self, taken, values):
        """The JSON, bytes, of what the bank says of a Taken."""
        manifests = [row.task.manifest for row in taken.rows]
        for manifest, value in zip(manifests, values, strict=True):
            if not np.isfinite(value).all():
                raise Failed(f"the pack of {manifest.task} gives no finite number for this text")
        if taken.verb == "predict":
            answer = rest.predictions(manifests, values, taken.in_columns, taken.names)
        else:
            answer = rest.results(taken.verb, manifests, values)
        return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode("utf-8")

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
        """The bank's Rows, in the order of the examples; one call a task."""
        places = collections.defaultdict(list)
        for place, name in enumerate(names):
            places[name].append(place)
        rows = [None] * len(names)
        for name, mine in places.items():
            for place, row in zip(mine, self._encode_one(name, [examples[i] for i in mine]),
                                  strict=True):
                rows[place] = row
        return rows

    def _encode_one(self, name, examples):
        try:
            return self._bank.encode(name, examples)
        except KeyError as error:
            raise Refusal(f"the task {name!r} was just removed", 404) from error

    def _check_version(self, asked, rows):
        """Refusal where a version was asked for and another pack came in its place meanwhile."""
        if asked.version is not None and asked.name != self._everything:
            found = self._found(asked)
            if any(row.task.manifest != found.manifest for row in rows):
                raise Refusal(f"{asked.name} was just replaced", 404)


def _check(verb, names, manifests, examples):
    """Refusal where an example is none for the pack of its task."""
    for place, (name, manifest, example) in enumerate(zip(names, manifests, examples, strict=True)):
        rest.check_head(verb, name, manifest.head)
        rest.check_pair(name, manifest.pair, place, example)
