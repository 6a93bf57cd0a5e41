"""The one error for a mistake in what a person gave: one line, exit code 1, no traceback."""
import functools
import sys


class InputError(ValueError):
    """A flag, file or folder that a person gave is wrong.

    The message says what was wrong, where (file and line), and what to do.
    """


def exit_on_input_error(main):
    """`main`, ending with one line on stderr and exit code 1 where it raises InputError."""
    @functools.wraps(main)
    def guarded(*args):
        try:
            return main(*args)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
    return guarded
