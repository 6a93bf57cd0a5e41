"""CoNLL-U: comments, multi-word tokens and empty nodes are no words; the tag is UPOS."""
import pytest

from adapter_bert import kinds
from adapter_bert.errors import InputError
from adapter_bert.kinds.conll import Sentence

NER = kinds.get_task("NER")
ROWS = ["1-2\tdella\t_\t_\t_\t_\t_\t_\t_\t_", "1\tdi\tdi\tADP\t_\t_\t3\tcase\t_\t_",
        "2\tla la\til\tDET\tRD\t_\t3\tdet\t_\t_", "3.1\tvista\tvedere\tVERB\t_\t_\t_\t_\t_\t_"]
WORDS = Sentence(("di", "la la"), ("ADP", "DET"))


def write(folder, name, lines):
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name, lines", [
    ("train.conllu", ["# sent_id = 1", "# text = #", *ROWS, "", "# x", *ROWS]),
    ("train.conll", [*ROWS, "", *ROWS]), ("train.txt", ["# sent_id = 1", *ROWS, "", *ROWS, ""])])
def test_words_and_tags(tmp_path, name, lines):
    write(tmp_path, name, lines)
    assert kinds.read_sentences(NER, str(tmp_path), "train") == [WORDS, WORDS]


def test_other_columns_may_be_named(tmp_path):
    write(tmp_path, "train.conllu", ROWS)
    task = kinds.generic_task("2", None, "-3", kind="tokens")
    assert kinds.read_sentences(task, str(tmp_path), "train") == [
        Sentence(("di", "il"), ("case", "det"))]


def test_a_test_file_without_tags(tmp_path):
    write(tmp_path, "test.conllu", [row.replace("ADP", "_").replace("DET", "_") for row in ROWS])
    assert kinds.read_sentences(NER, str(tmp_path), "test") == [Sentence(("di", "la la"), None)]


def test_a_row_with_fewer_columns_is_bad(tmp_path):
    write(tmp_path, "train.conllu", [*ROWS, "4\tcasa"])
    with pytest.raises(InputError, match="train.conllu, line 5: 2 columns, expected 10"):
        kinds.read_sentences(NER, str(tmp_path), "train")


def test_comments_of_other_files_and_hashes_as_words(tmp_path):
    write(tmp_path, "train.txt", ["# id 12 domain=en", "#text O", "# B-X", "", "# id 13", "b I-X"])
    assert kinds.read_sentences(NER, str(tmp_path), "train") == [
        Sentence(("#text", "#"), ("O", "B-X")), Sentence(("b",), ("I-X",))]
