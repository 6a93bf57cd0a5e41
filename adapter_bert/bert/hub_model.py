"""A BERT of the Hugging Face Hub: downloaded by huggingface_hub, converted, kept in the cache.

The download goes to huggingface_hub's own cache, so that a model that is there already is not
downloaded again. A converted model needs no network any more, and is not looked up again: name
another revision (NAME@REVISION), or remove its folder, to get a newer one.
"""
import os
import re

import huggingface_hub
from absl import logging
from huggingface_hub import errors

from adapter_bert import cache, files
from adapter_bert.bert import source
from adapter_bert.errors import InputError

VOCABULARIES = ("vocab.txt", "tokenizer.json")
# Read where they are there: they tell the casing, more tokens, and that it encodes sentences.
OPTIONAL = ("tokenizer_config.json", "added_tokens.json", "modules.json")
INDEX = "model.safetensors.index.json"


def folder(name: str) -> str:
    """The folder in Google's form of a model of the Hub, downloaded and converted at first use.

    Args:
      name: NAME or OWNER/NAME, and @REVISION for another one than `main`.

    Raises:
      InputError: there is no such BERT, it is not accessible, or the Hub cannot be reached.
    """
    owner, _, model = name.rpartition("/")
    place = cache.folder("hub", owner or "-", model)
    return source.made_once(place, lambda: source.convert_into(
        Download(name).folder(), place, name))


class Download:
    """The files of one model that a conversion needs.

    Args:
      name: as for `folder`.
    """

    def __init__(self, name: str):
        self._name = name
        self._repository, _, revision = name.partition("@")
        self._revision = revision or None
        self._unreachable: str | None = None   # why, where the Hub is not reachable

    def folder(self) -> str:
        """Downloads what a conversion needs; returns the folder of the files.

        Raises:
          InputError: as for the module's `folder`.
        """
        self._reach()
        config = self._file("config.json")
        if config is None:
            raise self._refusal("has no config.json, so it is no BERT")
        kind = files.read_object(config).get("model_type", "bert")
        if kind != "bert":
            raise self._refusal(f"is a {kind}, not a BERT")
        snapshot = os.path.dirname(config)
        if commit := re.fullmatch(r"[0-9a-f]{40}", os.path.basename(snapshot)):
            self._revision = commit[0]   # so that all files are of one version
        logging.info("%s: using the Hugging Face Hub's files in %s", self._name, snapshot)
        self._weights()
        if not any([self._file(name) for name in VOCABULARIES[:1]]) and not self._file(
                VOCABULARIES[1]):
            raise self._refusal(f"has neither {' nor '.join(VOCABULARIES)}")
        for name in OPTIONAL:
            self._file(name)
        return snapshot

    def _reach(self) -> None:
        """Asks for the first file, once; a download would try for half a minute."""
        try:
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(
                self._repository, "config.json", revision=self._revision))
        except (errors.EntryNotFoundError, errors.HfHubHTTPError, errors.HFValidationError):
            pass   # it is reachable, and the download tells the rest
        except Exception as error:   # of the network, of several libraries
            self._unreachable = _reason(error)

    def _weights(self) -> None:
        """Downloads the weights, as safetensors where they are there."""
        if self._file("model.safetensors"):
            return
        if index := self._file(INDEX):
            parts = files.read_object(index, "weight_map")["weight_map"]
            for part in sorted(set(parts.values())):
                self._file(part)
        elif not self._file("pytorch_model.bin"):
            raise self._refusal("has neither model.safetensors nor pytorch_model.bin")

    def _file(self, file: str) -> str | None:
        """Path of a downloaded file; None where the model does not have it."""
        try:
            return huggingface_hub.hf_hub_download(
                self._repository, file, revision=self._revision,
                local_files_only=self._unreachable is not None)
        except errors.LocalEntryNotFoundError as error:
            if file != "config.json" and self._unreachable:
                return None   # as far as is known: others were downloaded before
            raise self._refusal("cannot be looked up on the Hugging Face Hub, which is not "
                                f"reachable ({self._unreachable or _reason(error)})") from error
        except errors.EntryNotFoundError:
            return None
        except Exception as error:   # huggingface_hub's errors have no class in common
            raise self._refusal(_explained(error, self._repository)) from error

    def _refusal(self, problem: str) -> InputError:
        return InputError(f"--bert_dir={self._name}: there is no such folder, and the model of "
                          f"this name {problem}; give the folder of a BERT on this machine, or "
                          "another name such as bert-base-uncased")


def _explained(error: Exception, repository: str) -> str:
    """What an error of huggingface_hub means for the model of a name."""
    if isinstance(error, errors.GatedRepoError):
        return (f"needs the consent of its owner: accept the terms on huggingface.co/{repository} "
                "and log in with `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return "is not on the Hugging Face Hub, or is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return "does not have this revision"
    return f"cannot be downloaded ({_reason(error)})"


def _reason(error: BaseException) -> str:
    """The innermost cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
