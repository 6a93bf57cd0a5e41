"""Run a function on several arguments at once, in forked worker processes."""
import concurrent.futures
import ctypes
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

_PR_SET_PDEATHSIG = 1   # of Linux's prctl
_function: Callable[[Any], Any]   # of a worker process


def share_of_cores(number: int, count: int) -> list[int]:
    """The cores of this process that the one of this number, of `count`, is to run on."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[number::count] or cores


def map_forked(function: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
    """[function(argument), ...], computed at once in as many forked processes.

    A fork has all that this process has, so only the arguments and results are sent between them.
    `function` must not use TensorFlow's sessions, whose threads a fork does not have.

    Raises:
      RuntimeError: a worker process was killed.
      Exception: what `function` raised first, such as an InputError; the other workers are killed.
    """
    arguments = list(arguments)
    earlier = set(multiprocessing.active_children())
    executor = concurrent.futures.ProcessPoolExecutor(
        len(arguments), multiprocessing.get_context("fork"), _begin_worker, (function,))
    try:
        futures = [executor.submit(_call, argument) for argument in arguments]
        done, _ = concurrent.futures.wait(
            futures, return_when=concurrent.futures.FIRST_EXCEPTION)
        return [future.result() for future in futures if future in done]
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - earlier:
            process.kill()   # else the executor would wait for its end
        if isinstance(error, BrokenProcessPool):
            raise RuntimeError("a worker process was killed; is memory short?") from error
        raise
    finally:
        executor.shutdown()


def _begin_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function   # inherited, not sent: it need not be picklable
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)   # a worker ends with its parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the parent reports signals, and ends workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()


def _call(argument: Any) -> Any:
    return _function(argument)
