"""metrics.jsonl and profiles: what a program sees of a run."""
import glob
import json
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from runs import go, write_sst2
from tensorflow.python.profiler.internal import _pywrap_profiler

from adapter_bert.errors import InputError
from adapter_bert.train import observation
from adapter_bert.train.settings import profile_span


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_lines_count_what_was_read(tmp_path):
    mask = tf.placeholder(tf.int32, [None, None])
    step = tf.train.get_or_create_global_step()
    train = tf.assign_add(step, 1)
    loss = tf.cast(tf.shape(mask)[0], tf.float32)
    (tmp_path / "metrics.jsonl").write_text('{"step": 4}\n{"step": 8}\n{"step": 12}\n{"st')
    hook = observation.MetricsHook(str(tmp_path), 2, loss, {"input_mask": mask})
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        step.load(8, session)
        hook.after_create_session(session, None)
        for rows in (3, 5, 2):
            wanted = hook.before_run(None).fetches
            _, found = session.run([train, wanted], {mask: [[1, 1, 0]] * rows})
            hook.after_run(None, tf.train.SessionRunValues(found, None, None))
    first, second, new = lines_of(tmp_path / "metrics.jsonl")
    assert (first, second) == ({"step": 4}, {"step": 8})
    assert (new["step"], new["loss"], new["mean_loss"]) == (10, 5.0, 4.0)
    assert new["tokens_per_second"] / new["examples_per_second"] == pytest.approx(2, rel=1e-3)
    assert new["examples_per_second"] * 2 * new["step_seconds"] == pytest.approx(8, rel=1e-2)
    assert 0 <= new["data_wait"] <= 1
    assert 1e6 < new["memory_bytes"] <= new["peak_memory_bytes"] + 1e6


@pytest.mark.parametrize("total, most, every", [
    (12, 100, 1), (39, 100, 1), (400, 100, 20), (2000, 100, 100), (10**6, 100, 100), (400, 5, 5)])
def test_a_short_run_has_twenty_losses(total, most, every):
    assert observation.log_interval(total, most) == every
    assert total // every >= min(total, observation.LEAST_POINTS)


def sleeping(seconds):
    time.sleep(seconds)
    return np.ones([2, 2], np.int32)


def test_data_wait_is_the_share_of_waiting(tmp_path):
    """A batch that takes nine tenths of a step to come."""
    mask = tf.numpy_function(lambda: sleeping(0.09), [], tf.int32)
    mask.set_shape([2, 2])
    with tf.control_dependencies([mask]):
        work = tf.numpy_function(lambda: sleeping(0.01), [], tf.int32)
    tf.train.get_or_create_global_step()
    hook = observation.MetricsHook(str(tmp_path), 1, tf.constant(1.0), {"input_mask": mask})
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        hook.after_create_session(session, None)
        _, found = session.run([work, hook.before_run(None).fetches])
        hook.after_run(None, tf.train.SessionRunValues(found, None, None))
    assert 0.5 < lines_of(tmp_path / "metrics.jsonl")[0]["data_wait"] < 1


@pytest.mark.parametrize("text", ["", "3", "0,4", "5,4", "a,b", "1,2,3", "-1,2"])
def test_no_span_of_steps_is_one_line(text):
    with pytest.raises(InputError, match="give the first and the last step"):
        profile_span(text)
    assert profile_span("3,3") == (3, 3) and profile_span(None) is None


@pytest.mark.slow
def test_a_run_leaves_lines_and_a_profile(tmp_path, tiny_dir):
    out = str(tmp_path / "out")
    flags = dict(data_dir=write_sst2(tmp_path / "data"), bert_dir=tiny_dir, output_dir=out,
                 do_train=True, num_train_epochs=1.0)
    go(**flags, log_steps=5, profile_steps="3,4")
    assert [line["step"] for line in lines_of(f"{out}/metrics.jsonl")] == list(range(1, 13))
    [path] = glob.glob(f"{out}/events.out.tfevents.*")
    assert sum(value.tag == "loss" for event in tf.train.summary_iterator(path)
               for value in event.summary.value) == 12
    [path] = glob.glob(f"{out}/plugins/profile/*/*.xplane.pb")
    text, is_shown = _pywrap_profiler.xspace_to_tools_data([path], "trace_viewer", {})
    assert is_shown and b"MatMul" in text
