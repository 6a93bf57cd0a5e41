"""Pipelines of Apache Beam: their options, how they run, and what they counted."""
import argparse
import functools
import os
import queue
import shlex
import sys
import threading

import apache_beam as beam
import grpc
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from adapter_bert.errors import InputError

# Beam's DirectRunner would first download another, Prism; this is the one it has with it.
RUNNER = "FnApiRunner"
NAMESPACE = "adapter_bert"   # of counters
_OWN_RUNNERS = (RUNNER, "DirectRunner")


class _Parser(argparse.ArgumentParser):
    """Beam's options with complaints of one line."""

    def error(self, message):
        raise InputError(f"{message} (an option of Beam)")


def pipeline(flags, processes=1):
    """A beam.Pipeline with Beam's options; an unknown one is refused here, not passed over.

    Args:
      flags: list of str as "--runner=FlinkRunner".
      processes: how many Beam's own runner starts where `flags` say nothing of it; 1: none.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for options in {str(one): one for one in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    known, unknown = parser.parse_known_args(flags)
    runner = known.runner or RUNNER
    if unknown and runner in _OWN_RUNNERS:   # another one may have options of its own
        raise InputError(f"{' '.join(unknown)}: no option of Beam's")
    options = PipelineOptions(flags)
    options.view_as(StandardOptions).runner = runner
    if runner == RUNNER and processes > 1 and not any(
            flag.startswith(("--direct_num_workers", "--direct_running_mode")) for flag in flags):
        options.view_as(DirectOptions).direct_num_workers = processes
        return beam.Pipeline(FnApiRunner(_processes()), options)
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:
        raise InputError(f"{' '.join(flags)}: {error}") from error


def _processes():
    """Where pipelines run: silent processes that find the modules that this one finds.

    What goes wrong in them comes back to this one.
    """
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    return SubprocessSDKEnvironment.from_command_string(
        f"PYTHONPATH={shlex.quote(path)} exec {shlex.quote(sys.executable)} "
        "-m apache_beam.runners.worker.sdk_worker_main >/dev/null 2>&1")


def run(pipeline):
    """Runs a pipeline to its end, and returns Beam's result.

    Beam waits for ever for a process of its own that was killed; here that is an error.

    Raises:
      InputError: a process ended too early.
    """
    ended = queue.SimpleQueue()

    def work():
        try:
            result = pipeline.run()
            result.wait_until_finish()
            ended.put((result, None))
        except BaseException as error:
            ended.put((None, error))

    before = threading.excepthook
    threading.excepthook = functools.partial(_when_a_thread_fails, ended, before)
    threading.Thread(target=work, daemon=True).start()
    result, error = ended.get()
    if error:
        raise error   # Beam's threads go on to fail, and the hook keeps quiet about it
    threading.excepthook = before
    return result


def _when_a_thread_fails(ended, otherwise, found):
    """Puts (None, InputError) into a queue where it is the thread that waits for a process."""
    if found.thread and found.thread.name == "run_worker":
        ended.put((None, InputError(
            f"{found.exc_value}; where memory is short, give -- --direct_num_workers=1")))
    elif not issubclass(found.exc_type, grpc.RpcError):
        otherwise(found)


def count(result, name):
    """The value of a counter when all is done; 0 where nothing was counted."""
    found = result.metrics().query(MetricsFilter().with_name(name).with_namespace(NAMESPACE))
    return sum(one.committed or one.attempted or 0 for one in found["counters"])
