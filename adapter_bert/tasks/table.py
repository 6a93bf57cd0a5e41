"""The tasks that are known by name, one row each.

Those of GLUE are read as gluebenchmark.com hands the files out (Wang et al. 2019), names in texts
as CoNLL-2003 has them (Tjong Kim Sang and De Meulder 2003).
"""
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from adapter_bert.errors import InputError


class Columns(NamedTuple):
    """Where a row holds what: a number from 0 (-1 is the last column) or a name of the header."""
    text_a: int | str
    text_b: int | str | None = None
    label: int | str | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned: where its files hold texts and labels, and how it is scored.

    A split is called "train", "dev" or "test"; a second one of a kind carries a suffix, "dev_mm".

    Attributes:
      name: as GLUE spells it.
      columns: of the splits with labels (train, dev).
      test_columns: of the splits without (test).
      labels: names of the classes in the order of their ids; () where there are none; None where
        they are yet to be found in train.
      metrics: names in metrics.METRICS, of tokens in entities.entity_scores, of spans in
        squad_scores.squad_scores; the best checkpoint is kept by the first.
      kind: of head: "classification", "regression", "tokens" or "spans".
      headerless: splits whose file begins with a row, not with the names of the columns.
      score_range: lowest and highest score of a regression, None where there is no bound.
      skips_broken_rows: leave rows with another number of columns out, counted and said, instead of
        refusing the file: for data sets that were published with such rows.
      is_parted: every split is a part, drawn at random but the same in each run, of one file or
        folder of folders that holds all examples: 80 % train, 10 % dev, 10 % test.
      files: file name of each split, or several of which one is there; one without extension stands
        for .tsv or .csv; of spans the path of the file.
      submissions: name of the file of predictions of each test split, `name`.tsv unless given.
    """
    name: str
    columns: Columns
    test_columns: Columns
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    kind: str = "classification"
    headerless: tuple[str, ...] = ()
    score_range: tuple[float, float] | None = None
    skips_broken_rows: bool = False
    is_parted: bool = False
    files: Mapping[str, str | tuple[str, ...]] = dataclasses.field(default_factory=lambda: {
        "train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"})
    submissions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_pair(self):
        """Whether an example is a pair of texts."""
        return self.columns.text_b is not None

    @property
    def label_index(self):
        """{label: id}; {} where there are none."""
        return {label: index for index, label in enumerate(self.labels)}


_SPLITS = ("train", "dev", "test")
_NO_YES = ("0", "1")
_ENTAILED_OR_NOT = ("entailment", "not_entailment")
_NLI = ("contradiction", "entailment", "neutral")
CONLL_FILES = {"train": ("train.txt", "train.conll"),
               "dev": ("dev.txt", "dev.conll", "valid.txt", "valid.conll"),
               "test": ("test.txt", "test.conll")}

_ROWS = (
    Task("CoLA", Columns(3, None, 1), Columns(1), _NO_YES, ("matthews",),
         headerless=("train", "dev")),
    Task("SST-2", Columns(0, None, 1), Columns(1), _NO_YES, ("accuracy",)),
    Task("MRPC", Columns(3, 4, 0), Columns(3, 4), _NO_YES, ("accuracy", "f1")),
    Task("STS-B", Columns(7, 8, 9), Columns(7, 8), (), ("pearson", "spearman"),
         kind="regression", score_range=(0.0, 5.0)),
    Task("QQP", Columns(3, 4, 5), Columns(1, 2), _NO_YES, ("accuracy", "f1"),
         skips_broken_rows=True),
    Task("MNLI", Columns(8, 9, -1), Columns(8, 9), _NLI, ("accuracy",),
         files={"train": "train.tsv",
                "dev": "dev_matched.tsv", "dev_mm": "dev_mismatched.tsv",
                "test": "test_matched.tsv", "test_mm": "test_mismatched.tsv"},
         submissions={"test": "MNLI-m.tsv", "test_mm": "MNLI-mm.tsv"}),
    Task("QNLI", Columns(1, 2, 3), Columns(1, 2), _ENTAILED_OR_NOT, ("accuracy",)),
    Task("RTE", Columns(1, 2, 3), Columns(1, 2), _ENTAILED_OR_NOT, ("accuracy",)),
    Task("WNLI", Columns(1, 2, 3), Columns(1, 2), _NO_YES, ("accuracy",)),
    # Diagnostic sentences without published labels, predicted with a model trained on MNLI.
    Task("AX", Columns(1, 2), Columns(1, 2), _NLI, ("matthews",),
         files={"test": "diagnostic.tsv"}),
    # Of the paper's further tasks, those that one archive makes (Houlsby et al. 2019, table 2).
    Task("SMS", Columns(1, None, 0), Columns(1), ("ham", "spam"), ("accuracy",), is_parted=True,
         headerless=_SPLITS, files=dict.fromkeys(_SPLITS, ("SMSSpamCollection",))),
    Task("20news", Columns(1, None, 0), Columns(1), None, ("accuracy",), is_parted=True,
         headerless=_SPLITS, files=dict.fromkeys(_SPLITS, (".",))),
    Task("NER", Columns(0, None, -1), Columns(0, None, -1), None, ("f1",), kind="tokens",
         files=CONLL_FILES),
)

TASKS = {task.name: task for task in _ROWS}


def get_task(name):
    """The task of that name, whatever its case and hyphens: "SST-2", "sst2", "sst-2".

    Raises:
      InputError: there is none; the message lists those there are.
    """
    for task in TASKS.values():
        if _plain(task.name) == _plain(name):
            return task
    raise InputError(f"unknown task {name!r}; known: {', '.join(TASKS)}, and custom")


def splits(task, kind):
    """The splits of a kind and what tells them apart in the name of a metric.

    Args:
      task: Task.
      kind: "train", "dev" or "test".

    Returns:
      list of (split, suffix): [("dev", "")], for MNLI [("dev", ""), ("dev_mm", "_mm")], and
      [] where the task has no such split.
    """
    return [(split, split.removeprefix(kind)) for split in task.files
            if split.split("_")[0] == kind]


def _plain(name):
    return name.lower().replace("-", "").replace("_", "")
