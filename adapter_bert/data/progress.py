"""How far a long step is: a bar where a person watches, a line now and then elsewhere."""
import contextlib
import sys
import threading
import time

from absl import logging
from tqdm import tqdm

SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_LINES = 0.5, 10


@contextlib.contextmanager
def shown(unit, total, done):
    """Shows while the block runs how much is done.

    Args:
      unit: str, what is counted.
      total: int.
      done: function () -> int, called in a thread.
    """
    is_over = threading.Event()
    show = _show_bar if sys.stderr.isatty() else _show_lines
    thread = threading.Thread(target=show, args=(unit, total, done, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _show_bar(unit, total, done, is_over):
    with tqdm(total=total, unit=unit) as bar:
        while not is_over.wait(SECONDS_BETWEEN_LOOKS):
            bar.update(done() - bar.n)
        bar.update(done() - bar.n)


def _show_lines(unit, total, done, is_over):
    began = time.monotonic()
    while not is_over.wait(SECONDS_BETWEEN_LINES):
        count = done()
        seconds = time.monotonic() - began
        left = f", {seconds / count * (total - count):.0f} s left" if count else ""
        logging.info("%s %s of %s%s", unit, f"{count:,}", f"{total:,}", left)
