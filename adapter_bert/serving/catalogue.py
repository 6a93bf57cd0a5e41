"""The packs of a server: those it has loaded, and those its hub has."""
import logging
import os
import threading
import time
from typing import NamedTuple

from adapter_bert.errors import InputError
from adapter_bert.packs import hub as hubs
from adapter_bert.packs import index, store
from adapter_bert.packs.manifest import Manifest

REFRESH_SECONDS = 60   # between two looks at the hub's index
_FROM_INDEX = ("name", "task", "head", "labels", "tuning", "metrics", "license", "description",
               "bytes", "parameters")
_FROM_MANIFEST = ("task", "head", "labels", "tuning", "metrics", "license", "description", "pair",
                  "max_seq_length")


class Loaded(NamedTuple):
    """A pack that can be asked: its Manifest, and how many of its name came before it, plus one."""

    manifest: Manifest
    version: int


class Catalogue:
    """The packs by name.

    Args:
      bank: serving.bank.Bank.
      call: (function) -> its result, called where no batch is computed meanwhile.
      hub: folder or address, or None.
      cache_dir: folder for packs of a hub that is no folder.
      reserved: the name that no pack can have.
    """

    def __init__(self, bank, call, hub, cache_dir, reserved):
        self._bank, self._call, self._hub, self._reserved = bank, call, hub, reserved
        self._cache_dir = cache_dir or os.path.expanduser("~/.cache/adapter-bert/packs")
        self._lock, self._refreshing = threading.Lock(), threading.Lock()
        self._loaded, self._versions, self._known, self._seen = {}, {}, [], 0.0

    def start(self, names):
        """Loads the packs of these names, or without any all of the hub that fit the base.

        Raises:
          InputError: a pack of these names cannot be had; or the hub has none that can.
        """
        if self._hub is None:
            if names:
                raise InputError("--tasks is given without --hub: name where the packs are")
            return
        self._read_hub()
        for entry in self._known if not names else ():
            self._try(entry)
        for name in names:
            self.add_from_hub(name)
        if not self._loaded:
            raise InputError(f"{self._hub}: holds no pack for {self._bank.base.name}")

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
        pack = store.read(path)
        store.warn(pack.manifest, name)
        with self._lock:
            self._call(lambda: self._bank.add(name, pack))
            version = self._versions[name] = self._versions.get(name, 0) + 1
            self._loaded = {**self._loaded, name: Loaded(pack.manifest, version)}
            return self._loaded[name]

    def add_from_hub(self, name):
        """Loads the pack that the hub has by a name. Returns its Loaded.

        Raises:
          InputError: there is no hub, or no such pack in it, or it is damaged.
        """
        if self._hub is None:
            raise InputError("the server was started without a hub")
        index.check_name(name)
        self._read_hub()
        entry = next((entry for entry in self._known if entry.name == name), None)
        if entry is None:
            raise InputError(f"the hub holds no pack {name}")
        return self.add(name, self._fetched(entry))

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
        found = {entry.name: _of_entry(entry, base) for entry in self._known}
        found |= {name: _of_loaded(name, one, base) for name, one in loaded.items()}
        rows = [row for _, row in sorted(found.items(), key=lambda one: (
            not one[1]["loaded"], one[0])) if _has(row, words)]
        return {"base": {"name": base.name, "fingerprint": base.fingerprint},
                "total": len(rows), "loaded": len(loaded), "packs": rows[offset:offset + limit]}

    def _try(self, entry):
        """Loads a pack if it can be."""
        if entry.base_fingerprint != self._bank.base.fingerprint:
            logging.warning("not loaded: %s is for another base, %s", entry.name, entry.base_name)
            return
        try:
            self.add(entry.name, self._fetched(entry))
        except InputError as error:
            logging.warning("not loaded: %s, %s", entry.name, error)

    def _fetched(self, entry):
        """The path of a pack of the hub, on this machine."""
        if "://" not in self._hub:
            return os.path.join(self._hub, entry.file)
        path = os.path.join(self._cache_dir, f"{entry.sha256}.zip")
        hubs.pull(self._hub, entry.name, path)
        return path

    def _read_hub(self):
        self._known, self._seen = hubs.entries(self._hub), time.monotonic()

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


def _has(row, words):
    text = "\n".join((row["name"], row["task"], row["base"], *row["labels"],
                      row["description"])).casefold()
    return all(word.casefold() in text for word in words)
