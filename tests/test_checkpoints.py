"""Which checkpoints of a folder are trusted."""
import os

import numpy as np
import pytest
from runs import same, values

from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.train import initial_values


def write_run(folder, *steps):
    """Checkpoints of these steps; their prefixes."""
    os.makedirs(folder, exist_ok=True)
    random = np.random.default_rng(0)
    for step in steps:
        checkpoint_io.write_checkpoint(f"{folder}/model.ckpt-{step}", {
            "global_step": np.int64(step), "output_bias": random.normal(size=2).astype("f4"),
            "bert/encoder/layer_0/output/adapters/weights1": random.normal(size=(16, 4))})
    return [f"{folder}/model.ckpt-{step}" for step in steps]


def flip(path, bit):
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path, suffix):
    [prefix] = write_run(tmp_path, 7)
    written, path, noticed = values(prefix), prefix + suffix, 0
    for bit in range(0, 8 * os.path.getsize(path), 11):
        flip(path, bit)
        if initial_values.damage_of(prefix):
            noticed += 1
        else:
            assert same(values(prefix), written)
        flip(path, bit)
    assert noticed > 100 and not initial_values.damage_of(prefix)


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_a_cut_file_is_noticed(tmp_path, suffix):
    [prefix] = write_run(tmp_path, 7)
    for size in reversed(range(os.path.getsize(prefix + suffix))):
        os.truncate(prefix + suffix, size)
        assert initial_values.damage_of(prefix)


def test_the_one_before_a_damaged_one_is_used_and_this_is_said_once(tmp_path, caplog):
    first, second, third = write_run(tmp_path, 5, 10, 15)
    assert initial_values.latest_step(str(tmp_path)) == (third, 15)
    os.truncate(f"{third}.index", 20)
    os.remove(f"{second}.data-00000-of-00001")
    with caplog.at_level("INFO"):
        assert [initial_values.latest_step(str(tmp_path)) for _ in range(2)] == [(first, 5)] * 2
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and all(
        f"{damaged}: a damaged or incomplete checkpoint" in line
        and line.endswith(f"{first} is used in its place")
        for damaged, line in zip((third, second), said, strict=True))
    initial_values.point_to(str(tmp_path), first)
    assert initial_values.all_of(str(tmp_path)) == [first]


def test_with_no_sound_one_left_there_is_one_line(tmp_path):
    write_run(tmp_path, 0)
    os.truncate(tmp_path / "model.ckpt-0.index", 20)
    assert initial_values.latest_step(str(tmp_path)) == (None, 0)
    [prefix] = write_run(tmp_path, 5)
    os.truncate(f"{prefix}.index", 20)
    with pytest.raises(InputError, match=rf"no other checkpoint is there. Remove {prefix}\.\*"
                       ) as error:
        initial_values.latest(str(tmp_path))
    assert "\n" not in str(error.value)


def test_what_a_killed_process_left_of_writing_goes(tmp_path):
    [prefix] = write_run(tmp_path, 5)
    os.mkdir(tmp_path / "model.ckpt-10_temp")
    for name in ("model.ckpt-10_temp/part-00000-of-00001.index",
                 "model.ckpt-10.data-00000-of-00001.tempstate123"):
        (tmp_path / name).write_text("half")
    initial_values.point_to(str(tmp_path), prefix)
    assert sorted(os.listdir(tmp_path)) == [
        "checkpoint", "model.ckpt-5.data-00000-of-00001", "model.ckpt-5.index"]


def test_a_checkpoint_at_rest_is_read_once_and_again_after_a_change(tmp_path, monkeypatch):
    [prefix] = write_run(tmp_path, 7)
    for path in initial_values.files_of(prefix):
        os.utime(path, (1e9, 1e9))
    reads, read = [], checkpoint_io.Checkpoint.__getitem__
    monkeypatch.setattr(checkpoint_io.Checkpoint, "__getitem__",
                        lambda self, name: reads.append(name) or read(self, name))
    for _ in range(4):
        assert not initial_values.damage_of(prefix)
    assert len(reads) == 3
    os.truncate(f"{prefix}.data-00000-of-00001", 20)
    assert initial_values.damage_of(prefix)
