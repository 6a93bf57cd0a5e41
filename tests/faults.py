"""Runs in processes of their own, that a test may end as a cluster, a person or a crash does."""
import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

from runs import go

from adapter_bert.cli import run_command
from adapter_bert.errors import exit_on_input_error
from adapter_bert.train import preemption

FLAGS = {"do_train": True, "num_train_epochs": 5.0, "save_checkpoints_steps": 2,
         "precision": "float32", "kernels": "plain"}
LAST = "model.ckpt-60"   # of 96 examples


def server():
    """A context whose processes are copies of one that has imported TensorFlow, and no more."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults"])
    return context


def command(flags, log, ready, years):
    """What a command does with its flags; what it says goes to a file, its clock may be wrong."""
    signal.signal(signal.SIGINT, signal.default_int_handler)   # a shell's background ignores it
    real = time.time
    time.time = lambda: real() + years * 3e7
    with open(log, "w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    run_command.speak_plainly()
    with preemption.handling(preemption.stop_at_once):
        ready.set()
        exit_on_input_error(lambda: go(**flags))()


def start(context, flags, log, years=0):
    """The process of a command at work, which hears signals already."""
    ready = context.Event()
    process = context.Process(target=command, args=(flags, log, ready, years))
    process.start()
    ready.wait()
    return process


def finished(context, flags, log):
    """Runs a command to its end; its exit code and what it said last."""
    process = start(context, flags, log)
    process.join()
    return process.exitcode, said(log)


def said(log):
    """The last line of a log."""
    with open(log, encoding="utf-8") as file:
        return (file.read().splitlines() or [""])[-1]


def await_file(process, folder, part):
    """Waits until a name in the folder has that part, or the process ended; whether it is there."""
    while process.is_alive():
        with contextlib.suppress(FileNotFoundError):
            if any(part in name for name in os.listdir(folder)):
                return True
        time.sleep(0.001)
    return False


def mix_times(folder, source):
    """Gives the files of a folder other times of change, up to years away."""
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        os.utime(os.path.join(folder, name), (0, source.randrange(2**32)))


def end_at_random(context, flags, log, signals, seconds, seed=0):
    """Ends a run with each of the signals at a random moment, starting it again each time.

    A run that came to its end before is started anew, in an empty folder; so is one that did while
    it was killed.

    Returns:
      [(exit code, what it said last, whether it was writing a checkpoint)].
    """
    source, ends, out = random.Random(seed), [], flags["output_dir"]
    for attempt in itertools.count():
        if len(ends) == len(signals):
            return ends
        process = start(context, flags, log, source.uniform(-20, 20))
        process.join(source.uniform(0, seconds))
        if attempt % 2:
            await_file(process, out, "_temp")
        if not process.is_alive():
            shutil.rmtree(out)
            continue
        os.kill(process.pid, signals[len(ends)])
        process.join()
        if signals[len(ends)] == signal.SIGKILL and not process.exitcode:   # which none survives
            shutil.rmtree(out)
            continue
        left = os.listdir(out) if os.path.isdir(out) else []
        ends.append((process.exitcode, said(log), any("_temp" in name for name in left)))
        mix_times(out, source)
