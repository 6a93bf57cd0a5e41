"""GLUE's files are read by the names of their columns, and another layout is refused."""
import pytest

from adapter_bert import kinds
from adapter_bert.errors import InputError


def read(folder, task, split, *lines):
    (folder / f"{split}.tsv").write_bytes("\n".join(lines).encode("utf-8"))
    return kinds.read_examples(kinds.get_task(task), str(folder), split)


@pytest.mark.parametrize("task, lines, examples", [
    ("SST-2", ["sentence\tlabel", "warm\t1", "dull\t0"],
     [("warm", None, "1"), ("dull", None, "0")]),
    ("SST-2", ["sentence\tlabel\tidx\r", "ok one\t-1\t0\r"], [("ok one", None, None)]),
    ("QNLI", ["question\tsentence\tlabel\tidx", "Who?\tAna.\t-1\t0"], [("Who?", "Ana.", None)]),
    ("QNLI", ["index\tquestion\tsentence", "0\tWho?\tAna."], [("Who?", "Ana.", None)]),
    ("MRPC", ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t8\t9\ta\tb"], [("a", "b", "1")]),
    ("MRPC", ["sentence1\tsentence2\tlabel\tidx", "a\tb\t0\t7"], [("a", "b", "0")]),
    ("STS-B", ["sentence1\tsentence2\tlabel\tidx", "a\tb\t4.5\t7"], [("a", "b", 4.5)]),
    ("QQP", ["question1\tquestion2\tlabel\tidx", "a\tb\t1\t7"], [("a", "b", "1")]),
    ("RTE", ["index\tsentence1\tsentence2\tlabel", "0\ta\tb\tentailment"],
     [("a", "b", "entailment")]),
    ("CoLA", ["gj04\t1\t\tBen slept.", "gj04\t0\t*\tBen slept late"],
     [("Ben slept.", None, "1"), ("Ben slept late", None, "0")]),
    ("CoLA", ["sentence\tlabel\tidx", "Ben slept.\t-1\t0"], [("Ben slept.", None, None)])])
def test_a_test_file_by_name(tmp_path, task, lines, examples):
    assert read(tmp_path, task, "test", *lines) == examples


@pytest.mark.parametrize("task, split, lines, message", [
    ("CoLA", "test", ["0\tBen slept.", "1\tBen slept late."],
     "found '0', 'Ben slept.'; the test file of CoLA has a header with the columns 'sentence'"),
    ("SST-2", "train", ["warm\t1", "dull\t0"], "found 'warm', '1'; the train file of SST-2 has"),
    ("SST-2", "test", ["0\twarm", "1\tdull"], "found '0', 'warm'; the test file of SST-2 has"),
    ("RTE", "test", ["0\ta\tb"], "columns 'sentence1', 'sentence2'"),
    ("CoLA", "train", ["index\tsentence", "0\tBen"], "'label', or 4 columns without header"),
    ("QNLI", "dev", ["question\tsentence\tlabel\tidx", "a\tb\t0\t0", "a\tb\t1\t0"],
     "line 2: found label '0', expected 'entailment' or 'not_entailment'; line 3")])
def test_another_layout_is_refused(tmp_path, task, split, lines, message):
    with pytest.raises(InputError) as refusal:
        read(tmp_path, task, split, *lines)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_all_tasks_refuse_a_file_without_its_header(tmp_path):
    """The rows of a test file, without the header: refused, instead of losing the first one."""
    for name, task in kinds.TASKS.items():
        if task.kind == "tokens" or task.is_parted:
            continue
        (tmp_path / "x").mkdir(exist_ok=True)
        for split, _ in kinds.splits(task, "test"):
            path = tmp_path / "x" / task.files[split]
            path.write_text("\t".join(map(str, range(12))) + "\n")
            with pytest.raises(InputError, match=f"the {split} file of {name} has a header with"):
                kinds.read_examples(task, str(tmp_path / "x"), split)
