"""The packs of a server: those it has loaded, and those its hub has."""
import logging
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from adapter_bert import cache, files
from adapter_bert.errors import InputError
from adapter_bert.packs import hub as hubs
from adapter_bert.packs import index, store
from adapter_bert.packs.hub_sources import Mismatch
from adapter_bert.packs.manifest import Manifest

REFRESH_SECONDS = 60   # between two looks at the hub's index
# Bounds of a listing, whatever a hub's index says.
MOST_WORDS, MOST_SEARCHED, MOST_LABELS, MOST_SHOWN = 8, 20_000, 100, 500
_FROM_INDEX = ("name", "task", "head", "labels", "tuning", "metrics", "license", "description",
               "bytes", "parameters")
_FROM_MANIFEST = ("task", "head", "labels", "tuning", "metrics", "license", "description", "pair",
                  "max_seq_length")


class Loaded(NamedTuple):
    """A pack that can be asked: its Manifest, and how many of its name came before it, plus one."""

    manifest: Manifest
    version: int


class Listed(NamedTuple):
    """A row of the listing: what it is searched by, and what an answer has of it."""

    name: str
    text: str
    row: dict


class Catalogue:
    """The packs by name.

    Args:
      bank: serve.engine.Bank.
      call: (function) -> its result, called where no batch is computed meanwhile.
      hub: folder or address, or None.
      cache_dir: folder for packs of a hub that is not a folder; None for one of the cache.
      reserved: the name that no pack can have.
      most_bytes: of a pack.
    """

    def __init__(self, bank, call, hub, cache_dir, reserved, most_bytes=1 << 31):
        self._bank, self._call, self._hub, self._reserved = bank, call, hub, reserved
        self._cache_dir, self._most_bytes = cache_dir, most_bytes
        self._lock, self._refreshing = threading.Lock(), threading.Lock()
        self._loaded, self._versions, self._known, self._seen = {}, {}, [], 0.0
        self._listed: list[Listed] = []   # of the hub, by name

    def start(self, names: Sequence[str]) -> None:
        """Loads the packs of these names, or without any all of the hub that can be loaded.

        Raises:
          InputError: a pack of these names cannot be loaded; or the hub has none that can.
        """
        if self._hub is None:
            if names:
                raise InputError("--tasks needs --hub, the place where the packs are")
            return
        self._read_hub()
        if "://" in self._hub:
            self._cache_dir = self._usable_cache()
        for name in names:
            self._add_entry(self._entry(name))
        reasons = [] if names else list(filter(None, map(self._try, self._known)))
        if not self._loaded:
            raise InputError(f"{self._hub}: none of its {len(self._known)} packs can be loaded on "
                             f"{self._bank.base.name}" + (f"; the first: {reasons[0]}" if reasons
                                                          else ""))

    def loaded(self, name):
        """The Loaded of a name; KeyError where there is none."""
        return self._loaded[name]

    def names(self):
        """The names of the loaded packs, sorted."""
        return sorted(self._loaded)

    def add(self, name, path):
        """Loads the pack at a path; one of the same name is replaced. Returns its Loaded.

        Raises:
          InputError: it is damaged, on another base, or cannot have this name.
        """
        index.check_name(name)
        if name == self._reserved:
            raise InputError(f"{name}: is the name of all tasks together; take another")
        pack = store.read(path, self._accept)
        store.warn(pack.manifest, name)
        with self._lock:
            self._call(lambda: self._bank.add(name, pack))
            version = self._versions[name] = self._versions.get(name, 0) + 1
            self._loaded = {**self._loaded, name: Loaded(pack.manifest, version)}
            return self._loaded[name]

    def _accept(self, manifest: Manifest) -> None:
        """InputError for a pack that cannot be loaded, before its weights take memory."""
        self._check_size(manifest.task, manifest.weights.bytes if manifest.weights else 0)
        self._bank.check(manifest)

    def _check_size(self, name: str, count: int) -> None:
        if count > self._most_bytes:
            raise InputError(f"{name}: a pack of {count:,} bytes, and --max_pack_bytes allows "
                             f"{self._most_bytes:,}")

    def add_from_hub(self, name):
        """Loads the pack that the hub has by a name. Returns its Loaded.

        Raises:
          InputError: there is no hub, or no such pack in it, or it is damaged.
        """
        if self._hub is None:
            raise InputError("the server was started without a hub")
        index.check_name(name)
        self._read_hub()
        return self._add_entry(self._entry(name))

    def remove(self, name):
        """Forgets a pack; rows of it that were taken are still answered. KeyError without one."""
        with self._lock:
            held = dict(self._loaded)
            held.pop(name)
            self._loaded = held
            self._call(lambda: self._bank.remove(name))

    def listing(self, words=(), offset=0, limit=100):
        """{"packs": [{...}, ...], "total": count}: loaded packs first, then by name.

        Args:
          words: texts, each to be found in the pack's name, task, labels or description.
          offset, limit: which part of what is found.
        """
        self._refresh()
        loaded, base = self._loaded, self._bank.base
        rows = [_listed(_of_loaded(name, one, base)) for name, one in sorted(loaded.items())]
        rows += [one for one in self._listed if one.name not in loaded]
        wanted = [word.casefold() for word in words[:MOST_WORDS]]
        if wanted:
            rows = [one for one in rows if all(word in one.text for word in wanted)]
        return {"base": {"name": base.name, "fingerprint": base.fingerprint}, "total": len(rows),
                "loaded": len(loaded), "packs": [one.row for one in rows[offset:offset + limit]]}

    def _try(self, entry: index.Entry) -> str:
        """Loads a pack if possible; the reason if it is not, which is logged as well."""
        reason = ""
        if entry.base_fingerprint != self._bank.base.fingerprint:
            reason = f"it is for another base, {entry.base_name}"
        else:
            try:
                self._add_entry(entry)
            except InputError as error:
                reason = str(error)
            except Exception as error:   # a pack must not keep the server from the others
                logging.exception("%s: cannot be loaded", entry.name)
                reason = f"{type(error).__name__} while loading it"
        if reason:
            logging.warning("not loaded: %s: %s", entry.name, reason)
        return reason

    def _entry(self, name: str) -> index.Entry:
        """The entry of a name in the index that was read last."""
        for entry in self._known:
            if entry.name == name:
                return entry
        raise InputError(f"the hub has no pack {name}")

    def _add_entry(self, entry: index.Entry) -> Loaded:
        """Loads a pack of the hub; one that was replaced a moment ago is looked up again."""
        self._check_size(entry.name, entry.bytes)
        try:
            path = hubs.fetch(self._hub, entry, self._cache_dir)
        except Mismatch:
            self._read_hub()
            newer = self._entry(entry.name)
            if newer == entry:
                raise
            self._check_size(newer.name, newer.bytes)
            path = hubs.fetch(self._hub, newer, self._cache_dir)
        return self.add(entry.name, path)

    def _usable_cache(self) -> str:
        """A folder for packs that can be written: a temporary one if the cache cannot."""
        if self._cache_dir:
            files.make_folder(self._cache_dir)
            return self._cache_dir
        try:
            return cache.writable_folder("packs")
        except InputError as error:
            self._temporary = tempfile.TemporaryDirectory(prefix="adapter-bert-packs-")
            logging.warning("packs are downloaded again at each start: %s", error)
            return self._temporary.name

    def _read_hub(self):
        known, base = hubs.entries(self._hub), self._bank.base
        self._listed = sorted(_listed(_of_entry(entry, base)) for entry in known)
        self._known, self._seen = known, time.monotonic()

    def _refresh(self):
        """Reads the hub's index again, beside this request, where it was read some time ago."""
        if self._hub and time.monotonic() > self._seen + REFRESH_SECONDS:
            threading.Thread(target=self._read_hub_quietly, daemon=True).start()

    def _read_hub_quietly(self):
        if not self._refreshing.acquire(blocking=False):
            return
        try:
            self._read_hub()
        except InputError as error:
            self._seen = time.monotonic()
            logging.warning("the hub's index stays as it was: %s", error)
        finally:
            self._refreshing.release()


def _of_entry(entry, base):
    return {**{key: getattr(entry, key) for key in _FROM_INDEX}, "pair": None,
            "base": entry.base_name, "fits": entry.base_fingerprint == base.fingerprint,
            "loaded": False}


def _of_loaded(name, one, base):
    return {"name": name, **{key: getattr(one.manifest, key) for key in _FROM_MANIFEST},
            "bytes": one.manifest.weights.bytes, "base": base.name, "fits": True,
            "version": one.version, "loaded": True}


def _listed(row: dict) -> Listed:
    """A row, with the texts of strangers cut to what a list shows."""
    labels, description = row["labels"], row["description"]
    text = "\n".join((row["name"], row["task"], row["base"], *labels, description))
    return Listed(row["name"], text[:MOST_SEARCHED].casefold(), {
        **row, "labels": [label[:MOST_SHOWN] for label in labels[:MOST_LABELS]],
        "label_count": len(labels), "description": description[:MOST_SHOWN]})
