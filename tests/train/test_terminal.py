"""What a person sees of a run: the bar, lines above it, scores beside baselines, events."""
import contextlib
import glob
import io
import logging as standard_logging
import re

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert.train import hooks, results


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self):
        return True


def screen(text):
    """The lines that a terminal shows after `text`: a carriage return begins to overwrite."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part):]
        lines.append(shown.rstrip())
    return lines


@contextlib.contextmanager
def terminal():
    """A Terminal as stderr while the block runs, which absl's lines and bars go to.

    No fixture: pytest puts its own stderr in place when the test begins.
    """
    written, handler = Terminal(), logging.get_absl_handler()
    loggers = [logger for logger in (standard_logging.root, logging.get_absl_logger())
               if handler not in logger.handlers]
    stream = handler.python_handler.setStream(written)
    with contextlib.redirect_stderr(written):
        hooks.speak_plainly()
        try:
            yield written
        finally:
            handler.python_handler.setStream(stream)
            for logger in loggers:
                logger.removeHandler(handler)


def shown_while_training():
    """What a terminal shows of eleven steps with a line after the tenth."""
    with terminal() as written:
        progress = hooks.Progress(20, 8)
        progress.begin(0)
        for step in range(1, 12):
            if step == 11:
                logging.info("step 10: accuracy 0.836")
            progress.update(step, 0.5)
        progress.close()
        logging.info("after the bar")
    return screen(written.getvalue())


def test_log_lines_stay_above_the_bar():
    lines = shown_while_training()
    bars = [line for line in lines if line.startswith("train: ")]
    place = lines.index("step 10: accuracy 0.836")
    assert len(bars) == 1 and "11/20" in bars[0] and place < lines.index(bars[0])
    assert lines.index(bars[0]) < lines.index("after the bar")


def test_other_lines_would_break_the_bar(monkeypatch):
    """The negative control of the test above."""
    monkeypatch.setattr(hooks, "log_above_bar", contextlib.ExitStack)
    lines = shown_while_training()
    assert "step 10: accuracy 0.836" not in lines
    assert any("step 10: accuracy 0.836" in line for line in lines)


def test_the_displayed_loss_is_a_running_mean(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "info", lambda text, *values: lines.append(text % values))
    progress = hooks.Progress(120, 8)
    progress.begin(0)
    for step in range(1, 121):
        progress.update(step, float(step > 20) * (2 if step % 2 else 1))
    assert re.match(r"step 120 of 120, loss 1\.500 \(mean of 100 steps\), [0-9.]+ examples/s, "
                    r"0:00 min left", lines[-1])


def test_two_evaluations_within_a_second_both_reach_tensorboard(tmp_path):
    """TensorFlow would name both files by the second, and the later replace the earlier."""
    for step in (10, 20, 30):
        results.write_events(str(tmp_path), {"eval_accuracy": step / 100}, step)
    names = sorted(glob.glob(f"{tmp_path}/eval/*"))   # the order in which TensorBoard reads
    events = [(event.step, round(value.simple_value, 2)) for name in names
              for event in tf.train.summary_iterator(name) for value in event.summary.value]
    assert events == [(10, 0.1), (20, 0.2), (30, 0.3)]


def test_scores_for_people_are_rounded():
    metrics = {"eval_accuracy": 0.8360000252723694, "eval_loss": 0.4123, "global_step": 30,
               "loss": 0.4, "eval_f1": 46.2345, "eval_HasAns_total": 12}
    baselines = {"eval_accuracy": ("majority class", 0.68372), "test_f1": ("all O", 0.0)}
    assert results.in_words(metrics, {}) == "accuracy 0.836, f1 46.2, loss 0.412"
    assert results.in_words(metrics, baselines) == (
        "accuracy 0.836 (majority class: 0.684), f1 46.2, loss 0.412")


def test_log_lines_have_no_prefix_without_app_run():
    """As in `adapter-bert train`: Python's own handler writes INFO:absl: before each line."""
    with terminal() as written:
        logging.info("trained: model.ckpt-3")
    assert written.getvalue() == "trained: model.ckpt-3\n"
