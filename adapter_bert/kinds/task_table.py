"""The tasks that are known by name, one row each.

The files of GLUE have the headers with which gluebenchmark.com publishes them (Wang et al. 2019),
or those of the data sets of the same names on the Hugging Face Hub; named entities are in the
columns of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003).
"""
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from adapter_bert.data.column_names import Column
from adapter_bert.errors import InputError


class Columns(NamedTuple):
    """The columns of texts and label, each a `column_names.Column`; None for none."""
    text_a: Column | None
    text_b: Column | None = None
    label: Column | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned: where its files hold texts and labels, and how it is scored.

    A split is called "train", "dev" or "test"; a second one of a kind carries a suffix, "dev_mm".

    Attributes:
      name: as GLUE spells it.
      columns: of train and dev; a test file may lack the label.
      labels: names of the classes in the order of their ids; () where there are none; None where
        they are yet to be collected from train.
      metrics: names in metrics.METRICS, of tokens in entities.entity_scores, of spans in
        squad_scores.squad_scores; the best checkpoint is kept by the first.
      kind: of head: "classification", "regression", "tokens" or "spans".
      headerless: splits whose file begins with a row, not with the names of the columns.
      bare_columns: columns of the headerless files of a task whose other files have a header.
      bare_width: how many columns those have.
      score_range: lowest and highest score of a regression, None where there is no bound.
      skips_broken_rows: leave rows with another number of columns out, counted and said, instead of
        refusing the file: for data sets that were published with such rows.
      is_parted: every split is a part, drawn at random but the same in each run, of one file or
        folder of folders that contains all examples: 80 % train, 10 % dev, 10 % test, or `parts`.
      parts: shares of dev and test in --data_file; None for other tasks.
      is_custom: whether the columns are those that a person named: texts must not be empty.
      files: file name of each split, or several of which one is there; one without extension stands
        for any of table_files.ENDINGS; of spans and --data_file the path of the file.
      submissions: name of the file of predictions of each test split, `name`.tsv unless given.
    """
    name: str
    columns: Columns
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    kind: str = "classification"
    headerless: tuple[str, ...] = ()
    bare_columns: Columns | None = None
    bare_width: int = 0
    score_range: tuple[float, float] | None = None
    skips_broken_rows: bool = False
    is_parted: bool = False
    parts: tuple[float, float] | None = None
    is_custom: bool = False
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
_CONLL = (".txt", ".conll", ".conllu")
CONLL_FILES = {
    "train": tuple(f"train{ending}" for ending in _CONLL),
    "dev": tuple(f"{name}{ending}" for name in ("dev", "valid") for ending in _CONLL),
    "test": tuple(f"test{ending}" for ending in _CONLL)}
CONLL_COLUMNS = Columns(0, None, -1)

# Names of columns: GLUE's, and those of the Hub's data sets where they differ.
_PAIR = ("sentence1", "sentence2")
_SENTENCES = Columns("sentence1", "sentence2", "label")

_ROWS = (
    Task("CoLA", Columns("sentence", None, "label"), _NO_YES, ("matthews",),
         headerless=("train", "dev"), bare_columns=Columns(3, None, 1), bare_width=4),
    Task("SST-2", Columns("sentence", None, "label"), _NO_YES, ("accuracy",)),
    Task("MRPC", Columns(("#1 String", "sentence1"), ("#2 String", "sentence2"),
                         ("Quality", "label")), _NO_YES, ("accuracy", "f1")),
    Task("STS-B", Columns(*_PAIR, ("score", "label")), (), ("pearson", "spearman"),
         kind="regression", score_range=(0.0, 5.0)),
    Task("QQP", Columns("question1", "question2", ("is_duplicate", "label")), _NO_YES,
         ("accuracy", "f1"), skips_broken_rows=True),
    Task("MNLI", Columns(("sentence1", "premise"), ("sentence2", "hypothesis"),
                         ("gold_label", "label")), _NLI, ("accuracy",),
         files={"train": "train.tsv",
                "dev": "dev_matched.tsv", "dev_mm": "dev_mismatched.tsv",
                "test": "test_matched.tsv", "test_mm": "test_mismatched.tsv"},
         submissions={"test": "MNLI-m.tsv", "test_mm": "MNLI-mm.tsv"}),
    Task("QNLI", Columns("question", "sentence", "label"), _ENTAILED_OR_NOT, ("accuracy",)),
    Task("RTE", _SENTENCES, _ENTAILED_OR_NOT, ("accuracy",)),
    Task("WNLI", _SENTENCES, _NO_YES, ("accuracy",)),
    # Diagnostic sentences without published labels, predicted with a model trained on MNLI.
    Task("AX", Columns(("sentence1", "premise"), ("sentence2", "hypothesis")), _NLI, ("matthews",),
         files={"test": "diagnostic.tsv"}),
    # Of the paper's further tasks, those that one archive makes (Houlsby et al. 2019, table 2).
    Task("SMS", Columns(1, None, 0), ("ham", "spam"), ("accuracy",), is_parted=True,
         headerless=_SPLITS, files=dict.fromkeys(_SPLITS, ("SMSSpamCollection",))),
    Task("20news", Columns(1, None, 0), None, ("accuracy",), is_parted=True,
         headerless=_SPLITS, files=dict.fromkeys(_SPLITS, (".",))),
    Task("NER", CONLL_COLUMNS, None, ("f1",), kind="tokens", files=CONLL_FILES),
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
