"""index.json: what a hub's packs are, read without opening one, and without TensorFlow or NumPy.

    {"format": "adapter-bert hub", "schema_version": 1, "checksum": sha256 of the rest, "packs": [
    {"name": "sst2", "file": "sst2.zip", ...},     one line a pack, see Entry, in order of the names
    ]}
"""
import dataclasses
import hashlib
import json
import os
import re

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.packs import checks
from adapter_bert.packs.checks import short
from adapter_bert.plain_text import plain

INDEX_FILE = "index.json"
INDEX_LIMIT, MOST_ENTRIES = 64 << 20, 100_000
PACK_LIMIT = (1 << 31) + (1 << 20)   # bytes: of the weights, and of the text beside them
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
MOST_SHOWN = 60   # characters of a column of a table
BEGINNING = b'{"format": "adapter-bert hub"'
_HEAD = '{"format": "adapter-bert hub", "schema_version": 1, "checksum": "%s", "packs": '


@dataclasses.dataclass(frozen=True)
class Entry:
    """What an index says of a pack.

    Attributes:
      name: what the hub calls it; letters, digits, `.`, `_` and `-`.
      file: name + ".zip", in the hub's folder.
      bytes, sha256: of that file.
      task, head, labels, tuning, metrics, license, description: as its manifest has them.
      adapter: {"size": width, "placement": where}; None without adapters.
      base_name, base_fingerprint: the BERT that it was trained on.
      parameters: numbers in the pack.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    task: str
    head: str
    labels: tuple[str, ...]
    tuning: str
    adapter: dict | None
    base_name: str
    base_fingerprint: str
    parameters: int
    metrics: dict[str, float]
    license: str
    description: str


def check_name(name):
    """InputError where `name` cannot be that of a pack in a hub."""
    if not _is_name(name):
        raise InputError(f"{short(name)}: no name for a pack in a hub; take at most 100 letters, "
                         "digits, '.', '_' and '-', the first a letter or a digit")


def read(folder):
    """The entries of a hub that is a folder, ordered by name.

    Raises:
      InputError: it has no index, or one that is damaged.
    """
    return parse(read_bytes(folder), os.path.join(folder, INDEX_FILE))


def read_bytes(folder):
    """The bytes of a folder's index.json, if it is a plain file of a size that an index can have.

    Raises:
      InputError: it is not.
    """
    path = os.path.join(folder, INDEX_FILE)
    if not os.path.lexists(path):
        raise InputError(f"{path}: no index of a hub there; make one with adapter-bert pack index "
                         f"{folder}")
    with files.open_plain(path, INDEX_LIMIT) as file:
        return file.read(INDEX_LIMIT)


def parse(text, where):
    """The entries, a list ordered by name, of the bytes of an index.json.

    Args:
      text: bytes.
      where: what an error calls them.

    Raises:
      InputError: a byte is not as to_bytes wrote it, or an entry says what cannot be.
    """
    try:
        return _entries(text)
    except RecursionError as error:
        raise InputError(f"{where}: JSON nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{where}: {error}; make it anew with adapter-bert pack index FOLDER, "
                         "where the hub's folder is") from error


def to_bytes(entries):
    """The one text of an index.json with these entries.

    Raises:
      InputError: more than an index can hold.
    """
    lines = [json.dumps(vars(entry), ensure_ascii=False)
             for entry in sorted(entries, key=lambda entry: entry.name)]
    body = ("[\n" + ",\n".join(lines) + "\n]}\n").encode("utf-8")
    if len(lines) > MOST_ENTRIES or len(body) > INDEX_LIMIT - 1000:
        raise InputError(f"{len(lines):,} packs with an index of {len(body):,} bytes: a hub holds "
                         f"{MOST_ENTRIES:,}, with {INDEX_LIMIT:,}; begin another")
    return (_HEAD % hashlib.sha256(body).hexdigest()).encode("utf-8") + body


def search(entries, words=(), base=None, task=None):
    """The entries in which every word is found, ordered by name; upper and lower case are one.

    Args:
      entries: list of Entry.
      words: texts, each to be in the name, task, base's name, a label or the description.
      base: name of the base, or the beginning of its fingerprint.
      task: name of the task.
    """
    found = [entry for entry in entries
             if (task is None or entry.task.casefold() == task.casefold())
             and (base is None or _is_on(entry, base.casefold()))
             and _has(entry, words)]
    return sorted(found, key=lambda entry: entry.name)


def table(entries):
    """Lines for people: a head, then one an entry; whatever an index holds, no control characters.

    name  task   base    trained               parameters     bytes  dev set
    sst2  SST-2  minilm  adapters, 64 in both     899,330 3,600,123  accuracy 0.918
    """
    rows = [("name", "task", "base", "trained", "parameters", "bytes", "dev set"),
            *map(_columns, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _line(row, widths, right=(4, 5)):
    cells = (text.rjust(width) if column in right else text.ljust(width)
             for column, (text, width) in enumerate(zip(row, widths, strict=True)))
    return "  ".join(cells).rstrip()


def _columns(entry):
    trained = entry.tuning
    if entry.adapter:
        trained += f", {entry.adapter['size']} in {entry.adapter['placement']}"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in entry.metrics.items())
    return tuple(plain(text, MOST_SHOWN) for text in (
        entry.name, entry.task, entry.base_name, trained, f"{entry.parameters:,}",
        f"{entry.bytes:,}", metrics))


def _is_on(entry, base):
    return entry.base_name.casefold() == base or entry.base_fingerprint.startswith(base)


def _has(entry, words):
    text = "\n".join((entry.name, entry.task, entry.base_name, *entry.labels,
                      entry.description)).casefold()
    return all(word.casefold() in text for word in words)


def _entries(text):
    """As parse; raises ValueError."""
    if len(text) > INDEX_LIMIT:
        raise ValueError(f"more than {INDEX_LIMIT:,} bytes")
    values = json.loads(text.decode("utf-8"), parse_constant=checks.refuse)
    if not isinstance(values, dict) or values.get("format") != "adapter-bert hub":
        raise ValueError("not the index of a hub")
    if values.get("schema_version") != 1:
        raise ValueError(f"schema_version {short(values.get('schema_version'))}: this program "
                         "reads 1; update adapter-bert")
    packs = values.get("packs")
    if not isinstance(packs, list) or len(packs) > MOST_ENTRIES:
        raise ValueError(f"its packs are no list of at most {MOST_ENTRIES:,}")
    entries = [_entry(pack) for pack in packs]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("a name twice")
    if to_bytes(entries) != text:
        raise ValueError("damaged or changed by hand: its checksum is another")
    return entries


def _entry(values):
    """The Entry of one object in an index.json."""
    if not isinstance(values, dict) or values.keys() != _CHECKS.keys():
        raise ValueError(f"an entry {short(values)} without exactly the keys {', '.join(_CHECKS)}")
    checks.check(values, _CHECKS, "the {} of an entry")
    if values["file"] != values["name"] + ".zip":
        raise ValueError(f"the file of {values['name']} is {short(values['file'])}, "
                         f"not {values['name']}.zip")
    return Entry(**{**values, "labels": tuple(values["labels"])})


def _is_name(value):
    return isinstance(value, str) and bool(re.fullmatch(NAME, value))


def _is_size(value):
    return checks.is_count(value) and value <= PACK_LIMIT


def _is_adapter(value):
    return value is None or (
        isinstance(value, dict) and value.keys() == {"size", "placement"}
        and checks.is_count(value["size"]) and checks.is_text(value["placement"]))


_CHECKS = {
    "name": (_is_name, "a name of letters, digits, '.', '_' and '-'"), "file": checks.TEXT,
    "bytes": (_is_size, f"a whole number from 1 to {PACK_LIMIT:,}"), "sha256": checks.HASH,
    "task": checks.TEXT, "head": checks.TEXT, "tuning": checks.TEXT,
    "labels": (checks.is_texts, "a list of names"),
    "adapter": (_is_adapter, "null, or the size and placement of adapters"),
    "base_name": checks.TEXT, "base_fingerprint": checks.HASH, "parameters": checks.COUNT,
    "metrics": checks.NUMBERS, "license": checks.TEXT, "description": checks.TEXT,
}
