"""What README.md says runs."""
import doctest
import pathlib
import random

from runs import go, sentence

ROOT = pathlib.Path(__file__).resolve().parent.parent


def write_reviews(folder, count=200):
    source, folder = random.Random(0), pathlib.Path(folder)
    folder.mkdir()
    for split in ("train", "dev"):
        rows = [f"{sentence(source, i % 2)}\t{('negative', 'positive')[i % 2]}"
                for i in range(count)]
        (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return str(folder)


def test_python_in_the_readme(tiny_dir, tmp_path):
    metrics = go(task_name="custom", text_column="text", label_column="label",
                 data_dir=write_reviews(tmp_path / "reviews"), bert_dir=tiny_dir, do_train=True,
                 do_eval=True, output_dir=str(tmp_path / "run"), tuning="top_layers=2",
                 learning_rate=3e-3, num_train_epochs=20.0, bias_correction=True)
    assert metrics["eval_accuracy"] > 0.95
    names = {"bert_dir": tiny_dir, "pack": str(tmp_path / "run" / "pack")}
    found = doctest.testfile(str(ROOT / "README.md"), module_relative=False, globs=names)
    assert found.attempted >= 5 and not found.failed
