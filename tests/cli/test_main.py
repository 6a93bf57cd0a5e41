"""The command adapter-bert as a command-line tool: start-up, flags, errors, pipes."""
import errno
import os
import pathlib
import subprocess
import sys

import pytest
import tomllib

from adapter_bert import __version__, errors
from adapter_bert.bert import adapters
from adapter_bert.cli.main import main, without_debug
from adapter_bert.errors import InputError, exit_on_input_error
from adapter_bert.train import settings

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Runs each command and prints those after which TensorFlow is there.
WITHOUT_TENSORFLOW = """
import contextlib, io, os, sys
from adapter_bert.cli.main import main
os.mkdir("hub")
for words in (["--help"], ["--version"], ["train", "--help"], ["train", "--helpfull"],
              ["evaluate", "--help"], ["predict", "--help"], ["serve", "--help"],
              ["pack", "--help"], ["pack", "index", "hub"], ["pack", "list", "hub"],
              ["pack", "search", "hub", "word"], ["bulk-predict", "--help"],
              ["train", "--lerning_rate=1"], ["predict", "no_pack", "--bert_dir=x"],
              ["train", "--data_dir=x"]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(words)
    if "tensorflow" in sys.modules:
        print(words)
        break
print("done")
"""


def refused(capsys, words):
    """The one line on stderr of a command that fails."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    message = capsys.readouterr().err
    assert ended.value.code == 1 and message.count("\n") == 1, message
    return message


def run(code, place, **options):
    return subprocess.run([sys.executable, "-c", code], cwd=place, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)


def test_commands_that_need_no_model_do_not_import_tensorflow(tmp_path):
    assert run(WITHOUT_TENSORFLOW, tmp_path, stdout=subprocess.PIPE).stdout == "done\n"


def test_the_names_that_are_written_twice_are_the_same():
    assert tuple(adapters.METHODS) == settings.METHODS
    assert tuple(adapters.ADAPTERS) == settings.ADAPTERS
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(errors._REQUIREMENTS.values()) == set(extras["beam"])


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"adapter-bert {__version__}\n")


@pytest.mark.parametrize("words,message", [
    (["train", "--lerning_rate=1"], "unknown flag --lerning_rate; did you mean --learning_rate?"),
    (["train", "--bert"], "unknown flag --bert; did you mean --bert_dir?"),   # no abbreviations
    (["train", "--xyz", "3"], "unknown flag --xyz; see adapter-bert train --help"),
    (["predict", "p", "--bert_dir=b", "f", "--ouput=x"], "did you mean --output?"),
    (["pack", "show", "p", "--jsn"], "unknown flag --jsn; did you mean --json?"),
    (["train", "--seed=x"], "invalid int value: 'x'"),
    (["train", "--keep_best=maybe"], "'maybe' is neither true nor false"),
    (["trian"], "invalid choice: 'trian'")])
def test_mistakes_in_flags_are_one_line(words, message, capsys):
    assert message in refused(capsys, words)


@pytest.mark.parametrize("error,is_one_line", [
    (FileNotFoundError(errno.ENOENT, "No such file", "/x"), True),
    (OSError(errno.ENOSPC, "No space left on device"), True),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), True),
    (OSError("a mistake in the program"), False),
    (OSError(errno.EBADF, "Bad file descriptor"), False),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), False),   # not that of stdout
    (ConnectionResetError(errno.ECONNRESET, "Connection reset"), False)])
def test_only_errors_of_the_file_system_lose_their_traceback(error, is_one_line, capfd):
    def fail():
        raise error
    with pytest.raises(SystemExit if is_one_line else type(error)):
        exit_on_input_error(fail)()
    assert capfd.readouterr().err.count("\n") == is_one_line


@pytest.mark.parametrize("words", [["pack", "show", "/nowhere", "--debug"],
                                   ["--debug", "pack", "show", "/nowhere"]])
def test_debug_shows_the_traceback(words, monkeypatch):
    monkeypatch.setenv(errors.DEBUG_VARIABLE, "0")
    with pytest.raises(InputError, match="/nowhere"):
        main(words)


def test_debug_belongs_to_this_program_only_before_the_dashes(monkeypatch):
    monkeypatch.setenv(errors.DEBUG_VARIABLE, "")
    assert without_debug(["x", "--", "--debug"]) == ["x", "--", "--debug"]
    assert not errors.is_debugging()
    assert without_debug(["--debug", "x"]) == ["x"]
    assert errors.is_debugging()


PRINTING = """
import os, sys, time
from adapter_bert.errors import InputError, exit_on_input_error
@exit_on_input_error
def main():
    for number in range({count}):
        print(number)
    sys.stdin.read()   # until the reader of stdout has gone
    {end}
main()
"""


@pytest.mark.parametrize("unbuffered,count,end,code,message", [
    ("", 3, "pass", 141, ""), ("", 3, "sys.exit(0)", 141, ""), ("1", 0, "print(4)", 141, ""),
    ("", 3, "raise InputError('wrong')", 1, "error: wrong\n"),
    ("1", 0, "raise InputError('wrong')", 1, "error: wrong\n")])
def test_a_reader_that_goes_away_ends_the_command_quietly(unbuffered, count, end, code, message):
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTING.format(count=count, end=end)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered})
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait()) == (message, code)
    process.stderr.close()


@pytest.mark.parametrize("closed,command,code", [
    (">&-", "--help", 0), (">&-", "--version", 0), (">&- 2>&-", "pack show /nowhere", 1),
    ("2>&-", "pack show /nowhere", 1)])
def test_closed_streams(closed, command, code, tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m adapter_bert {command} {closed}", shell=True, check=False,
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
