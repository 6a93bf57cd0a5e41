"""Pipelines of Apache Beam: their options, the files that they read, what they counted."""
import argparse
import glob
import os

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

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
      processes: how many Beam's own runner starts, where `flags` do not say.
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
    if runner in _OWN_RUNNERS:
        _set_processes(options.view_as(DirectOptions), flags, processes)
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:
        raise InputError(f"{' '.join(flags)}: {error}") from error


def _set_processes(options, flags, processes):
    """Several workers are processes, unless the flags want something else."""
    given = {flag.split("=")[0] for flag in flags}
    if "--direct_num_workers" not in given:
        options.direct_num_workers = processes
    if "--direct_running_mode" not in given and options.direct_num_workers != 1:
        options.direct_running_mode = "multi_processing"


def is_remote(path):
    """Whether a path is one of another file system that Beam knows, as gs://bucket/file."""
    return "://" in path


def inputs(pattern):
    """The paths of the files that match a glob, or of the one file of that very name, sorted."""
    return [pattern] if os.path.isfile(pattern) else matches(pattern)


def matches(pattern):
    """The paths that match, sorted; Beam's own search finds none in the current folder."""
    if not is_remote(pattern):
        return sorted(glob.glob(pattern, recursive=True))
    return sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)


def count(result, name):
    """The value of a counter when all is done; 0 where nothing was counted."""
    found = result.metrics().query(MetricsFilter().with_name(name).with_namespace(NAMESPACE))
    return sum(one.committed or one.attempted or 0 for one in found["counters"])
