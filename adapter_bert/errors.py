"""The one error for a mistake in what a person gave: one line, exit code 1, no traceback."""
import functools
import importlib
import sys


class InputError(ValueError):
    """A flag, file or folder that a person gave is wrong.

    The message says what was wrong, where (file and line), and what to do.
    """

    exit_code = 1


class Stopped(KeyboardInterrupt):
    """A signal ended the work; the message says how to go on.

    Args:
      number: of the signal.
      message: str.
    """

    def __init__(self, number, message):
        super().__init__(message)
        self.number = number


def reason_of(error):
    """What a tf.errors.OpError says, without the operations of the graph: one line."""
    before = (error.message or "").split("\n\t [[{{node")[0]
    return (before.strip().splitlines() or [type(error).__name__])[-1]


def require(extra, **packages):
    """InputError where a package that an extra brings is not installed.

    Args:
      extra: name of the extra.
      **packages: name of each module and of its package.
    """
    for module, package in packages.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(f'{package} is not installed; pip install "adapter-bert[{extra}]"'
                             ) from error


def exit_on_input_error(main):
    """`main`, ending with one line on stderr and exit code 1 where a person has to do something.

    That is: InputError; an error of the file system (a full disk, no permission, a folder in the
    place of a file); and, with the exit codes that shells give them, 130 and 143, an interruption
    by Ctrl-C and by SIGTERM.
    """
    @functools.wraps(main)
    def guarded(*args):
        try:
            return main(*args)
        except InputError as error:
            _exit(f"error: {error}", error.exit_code)
        except OSError as error:
            _exit(f"error: {error.filename or 'a file'}: {error.strerror or error}", 1)
        except Stopped as stopped:
            _exit(str(stopped), 128 + stopped.number)
        except KeyboardInterrupt:
            _exit("interrupted", 130)
    return guarded


def _exit(message, code):
    """Ends with the message as one line on stderr, whatever bytes a path in it has."""
    line = message.encode("utf-8", "backslashreplace").decode("utf-8").replace("\n", " ")
    print(line, file=sys.stderr)
    sys.exit(code)
