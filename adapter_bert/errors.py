"""The one error for a mistake in what a person gave: one line, exit code 1, no traceback."""
import functools
import sys


class InputError(ValueError):
    """A flag, file or folder that a person gave is wrong.

    The message says what was wrong, where (file and line), and what to do.
    """


def exit_on_input_error(main):
    """`main`, ending with one line on stderr and exit code 1 where a person has to do something.

    That is: InputError; an error of the file system (a full disk, no permission, a folder in the
    place of a file); and with exit code 130 an interruption by Ctrl-C.
    """
    @functools.wraps(main)
    def guarded(*args):
        try:
            return main(*args)
        except InputError as error:
            message = f"error: {error}"
        except OSError as error:
            message = f"error: {error.filename or 'a file'}: {error.strerror or error}"
        except KeyboardInterrupt:
            sys.exit(_said("interrupted", 130))
        sys.exit(_said(message, 1))
    return guarded


def _said(message, code):
    """`code`, after the message went to stderr as one line, whatever bytes a path in it has."""
    line = message.encode("utf-8", "backslashreplace").decode("utf-8").replace("\n", " ")
    print(line, file=sys.stderr)
    return code
