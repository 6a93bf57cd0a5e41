"""adapter-bert tune: what its command line refuses, in a line each, and what it leaves then."""
import os

import pytest
from runs import write, write_sst2

from adapter_bert.__main__ import main


@pytest.fixture(name="flags", scope="module")
def fixture_flags(tmp_path_factory, tiny_dir):
    """Flags of a search that can begin."""
    folder = tmp_path_factory.mktemp("tune")
    return {"task_name": "SST-2", "data_dir": write_sst2(folder / "data", 32, 12),
            "bert_dir": tiny_dir, "max_seq_length": "16", "train_batch_size": "8",
            "precision": "float32"}


def error_of(capsys, folder, flags, **changes):
    """The last line on stderr of a command that ends with exit code 1."""
    flags = {**flags, "output_dir": str(folder), **changes}
    with pytest.raises(SystemExit) as ended:
        main(["tune", *(f"--{name}={value}" for name, value in flags.items() if value)])
    assert ended.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ") and "Traceback" not in lines
    return lines[-1]


@pytest.mark.parametrize("changes, reason", [
    ({"trials": "0"}, "--trials=0: must be at least 1"),
    ({"trials": "many"}, "flag --trials=many"),
    ({"search": "size,rate"}, "--search=size,rate: unknown parameter rate; choose from"),
    ({"search": "size", "adapter_size": "8"}, "size cannot be searched, because --adapter_size is"),
    ({"eval_steps": "3"}, "--eval_steps: tune decides this itself; leave it out"),
    ({"learning": "3"}, "Unknown command line flag 'learning'"),
    ({"output_dir": ""}, "--output_dir is missing"),
    ({"output_dir": "gs://bucket/x"}, "a search locks files"),
    ({"data_dir": "/nowhere"}, "/nowhere"),
    ({"train_batch_size": "5000"}, "32 examples make no batch of 5000"),
    ({"adapter_size": "0"}, "size"),
])
def test_bad_flags(capsys, tmp_path, flags, changes, reason):
    folder = tmp_path / "search"
    assert reason in error_of(capsys, folder, flags, **changes)
    assert not folder.exists()


def test_data_without_scores(capsys, tmp_path, flags):
    data = write_sst2(tmp_path / "data", 32, 12)
    write(os.path.join(data, "dev.tsv"), ["sentence", "a good film"])
    line = error_of(capsys, tmp_path / "search", flags, data_dir=data)
    assert "dev.tsv" in line or "dev set" in line
    os.remove(os.path.join(data, "dev.tsv"))
    assert "dev" in error_of(capsys, tmp_path / "search", flags, data_dir=data)
    assert not (tmp_path / "search").exists()


def test_another_folder_or_search(capsys, tmp_path, flags, monkeypatch):
    folder = tmp_path / "search"
    folder.mkdir()
    (folder / "novel.txt").write_text("x")
    assert "contains files, but no search" in error_of(capsys, folder, flags)
    (folder / "novel.txt").unlink()
    from adapter_bert.research.tuning import search
    monkeypatch.setattr(search, "search", lambda plan, trials: (_ for _ in ()).throw(
        KeyboardInterrupt))
    with pytest.raises(SystemExit) as ended:
        main(["tune", *(f"--{name}={value}" for name, value in flags.items()),
              f"--output_dir={folder}"])
    assert ended.value.code == 130
    data = write_sst2(tmp_path / "data", 40, 12, seed=5)
    line = error_of(capsys, folder, flags, data_dir=data, train_batch_size="4", search="size",
                    learning_rate="1e-3")
    assert "--learning_rate: default then, 0.001 now; --train_batch_size: 8 then, 4 now" in line
    assert "--search: learning_rate,epochs,size,method then, size now" in line
    assert "the training data changed; the dev data changed" in line


def test_help_names_its_flags(capsys):
    main(["tune", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("--trials", "--search", "--output_dir", "learning_rate"))
