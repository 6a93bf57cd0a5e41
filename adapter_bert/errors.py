"""InputError, the only user-facing exception, and how commands end: one line or a traceback."""
import contextlib
import errno
import functools
import importlib
import os
import select
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from adapter_bert.plain_text import plain

DEBUG_VARIABLE = "ADAPTER_BERT_DEBUG"
BROKEN_PIPE_CODE = 141   # what a shell reports for a program that SIGPIPE ended: 128 + 13
# Errors of the file system that the operating system reports without a path: a write that failed.
_ERRNOS_WITHOUT_A_PATH = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
# The requirement that brings a package; the same as in pyproject.toml (tests/cli/test_main.py).
_REQUIREMENTS = {"apache-beam": "apache-beam==2.77.0", "google-crc32c": "google-crc32c>=1.5"}


class InputError(ValueError):
    """A flag, file or folder from the user is wrong.

    The message says what is wrong, where (file and line), and what to do.
    """

    exit_code = 1


class Stopped(KeyboardInterrupt):
    """A signal ended the work; the message says how to resume.

    Args:
      number: of the signal.
      message: str.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


def reason_of(error: Any) -> str:
    """The message of a tf.errors.OpError without the operations of the graph: one line."""
    before = (error.message or "").split("\n\t [[{{node")[0]
    return (before.strip().splitlines() or [type(error).__name__])[-1]


def require(extra: str, **packages: str) -> None:
    """Checks that the packages of an optional extra are installed.

    Args:
      extra: name of the extra in pyproject.toml.
      **packages: module name -> package name.

    Raises:
      InputError: one is missing; the message says what to install.
    """
    for module, package in packages.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f'{package} is not installed; run pip install "{_REQUIREMENTS[package]}", or '
                f"in a checkout pip install -e '.[{extra}]'") from error


def is_debugging() -> bool:
    """Whether errors keep their traceback: --debug, or ADAPTER_BERT_DEBUG=1 in the environment."""
    return os.environ.get(DEBUG_VARIABLE, "0").lower() not in ("", "0", "false")


def exit_on_input_error(main: Callable) -> Callable:
    """Decorates the `main` of a command, so that it ends as command-line tools do.

    InputError and errors of the file system (a full disk, no permission) become one line on stderr
    and exit code 1; Ctrl-C and SIGTERM exit codes 130 and 143; a reader of stdout that has closed
    its end, as `head` does, exit code 141 and no line. Every other exception keeps its traceback,
    and with --debug these do too.
    """
    @functools.wraps(main)
    def guarded(*args: Any) -> Any:
        _open_missing_streams()
        try:
            return _flushed(main, *args)
        except BrokenPipeError:
            if _flush_stdout():   # another pipe
                raise
            sys.exit(BROKEN_PIPE_CODE)
        except InputError as error:
            _exit(f"error: {error}", error.exit_code)
        except OSError as error:
            if not _is_of_the_file_system(error):
                raise
            _exit(f"error: {error.filename or 'a file'}: {error.strerror or error}", 1)
        except Stopped as stopped:
            _exit(str(stopped), 128 + stopped.number)
        except KeyboardInterrupt:
            _exit("interrupted", 130)
    return guarded


def _flushed(main: Callable, *args: Any) -> Any:
    """Calls `main` and flushes stdout, also where it ends with sys.exit, as argparse's --help."""
    try:
        result = main(*args)
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return result


def _open_missing_streams() -> None:
    """Opens /dev/null for each standard stream that the parent process closed (`>&-`).

    Otherwise the next file that is opened gets the number of stdout, and Python has no sys.stdout.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        handle = os.open(os.devnull, os.O_RDWR)
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
        stream = open(number, mode, encoding="utf-8", closefd=False)   # noqa: SIM115
        setattr(sys, name, stream)


def _flush_stdout() -> bool:
    """Flushes stdout; False where nobody reads it any more, and the rest is then discarded."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        if not _is_broken(sys.stdout):
            return True
    # Python flushes once more when it exits, and would report the same error.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return False


def _is_broken(stream: Any) -> bool:
    """Whether a stream is a pipe without a reader; one without a buffer has nothing to flush."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):   # it has no file descriptor
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _is_of_the_file_system(error: OSError) -> bool:
    """Whether the user can act on an OSError: it has an errno and a path, or is a failed write.

    Others, such as OSError("...") or a bad file descriptor, are programming mistakes.
    """
    return error.errno is not None and (
        error.filename is not None or error.errno in _ERRNOS_WITHOUT_A_PATH)


def _exit(message: str, code: int) -> NoReturn:
    """Exits with the message as one line on stderr, whatever bytes a path in it has.

    With --debug the exception that is being handled is raised again, with its traceback.
    """
    if is_debugging():
        raise   # noqa: PLE0704
    _flush_stdout()
    line = plain(message.replace("\n", " "))
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr)
    sys.exit(code)
