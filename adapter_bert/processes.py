"""Work on several cores in processes that are copies of this one."""
import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import traceback

_PR_SET_PDEATHSIG = 1   # of Linux's prctl


def share_of_cores(number, count):
    """The cores of this process that the one of this number, of `count`, is to run on."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[number::count] or cores


def map_forked(function, arguments):
    """[function(argument), ...], all at once: the last call here, the others in forked processes.

    A copy has all that this process has, so nothing is sent to it but what `function` returns. It
    must not use TensorFlow's sessions, whose threads a copy does not have.

    Raises:
      RuntimeError: a process ended without a result; its traceback went to stderr.
    """
    context = multiprocessing.get_context("fork")
    started = []
    *others, last = arguments
    for argument in others:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_call, args=(function, argument, sender), daemon=True)
        process.start()
        sender.close()
        started.append((process, receiver))
    try:
        with without_collections():
            own = function(last)
    except BaseException:
        for process, _ in started:
            process.kill()
        raise
    return [*(_result(process, receiver) for process, receiver in started), own]


@contextlib.contextmanager
def without_collections():
    """For a while, Python does not look for garbage among all that was ever made."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _call(function, argument, sender):
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)   # it ends with its parent
    for number in (signal.SIGINT, signal.SIGTERM):   # which tells the person of a signal
        signal.signal(number, signal.SIG_DFL)
    try:
        with without_collections():
            sender.send(function(argument))
    except OSError as error:
        sender.send(error)
    except BaseException:
        traceback.print_exc()
        raise


def _result(process, receiver):
    try:
        result = receiver.recv()
    except EOFError as error:
        process.join()
        raise RuntimeError(f"a process ended with {process.exitcode}") from error
    process.join()
    if isinstance(result, OSError):
        raise result
    return result
