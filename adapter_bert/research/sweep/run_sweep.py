"""A sweep: worker processes that do the runs of an experiment, and what a person sees of it."""
import contextlib
import dataclasses
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

from tqdm import tqdm

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.processes import share_of_cores
from adapter_bert.research.sweep import estimate, grid, queue, result_files
from adapter_bert.train.hooks import duration
from adapter_bert.train.settings import check_path

# What a worker ends with that only wants to be started anew; how many may be killed outside a run.
RECYCLE, MOST_KILLED = 75, 10
SECONDS_BETWEEN_LOOKS = 0.5


def sweep(experiment, folder, workers=1, retry_failed=False):
    """Does every run that has no result yet, in worker processes.

    Args:
      experiment: config.Experiment.
      folder: results folder; other sweeps may be at work in it, on this machine or others.
      workers: processes at the most, which share this process's cores.
      retry_failed: whether runs that went wrong are tried once more.

    Returns:
      {name: reason} of the runs that went wrong.

    Raises:
      InputError: data or base are missing, or the folder belongs to another experiment.
    """
    planned = grid.plan(experiment)
    check_path("results", folder)
    grid.check_models(experiment, planned)
    data = {run.task.name: grid.data_files(experiment, run) for run in planned}
    result_files.bind(folder, result_files.facts_of(experiment.base, data))
    queue.sweep_out(os.path.join(folder, result_files.CLAIMS))
    remove_left(folder)
    for run in planned if retry_failed else ():
        result_files.forgive(folder, run.name)
    names = [run.name for run in planned]
    count = min(workers, sum(not result_files.is_done(folder, name) for name in names))
    until = time.time() + 60 * experiment.budget_minutes if experiment.budget_minutes else (
        float("inf"))
    with tqdm(total=len(planned), unit="run", disable=not sys.stderr.isatty()) as bar:
        watch(experiment, planned, folder, Workers(experiment, folder, count, until), bar)
    return result_files.failures(folder, names)


def remove_left(folder):
    """Removes what runs that were killed on this machine left on disk, be they planned or not."""
    work = os.path.join(folder, "work")
    for left in os.listdir(work) if os.path.isdir(work) else ():
        name, _, host = left.rpartition("@")
        if host == platform.node():
            with queue.claimed(os.path.join(folder, result_files.CLAIMS), name) as is_nobodys:
                if is_nobodys:
                    shutil.rmtree(os.path.join(work, left), ignore_errors=True)


class Workers:
    """The worker processes of a sweep, each on its share of the cores.

    Args:
      experiment, folder: as for `sweep`.
      count: of processes.
      until: seconds since the epoch after which no run is begun.
    """

    def __init__(self, experiment, folder, count, until):
        self._folder, self.count, self._killed = folder, count, 0
        self._logs = os.path.join(folder, "logs")
        # A copy: whoever changes the experiment's file now does not change what workers do.
        self._config = os.path.join(self._logs, f"{platform.node()}-{os.getpid()}.json")
        files.write_json(self._config, dataclasses.asdict(experiment))
        self._command = [
            sys.executable,
            "-m",
            "adapter_bert.research.sweep.worker",
            self._config,
            folder,
            str(until),
        ]
        self._processes = [self._start(number) for number in range(count)]

    def _start(self, number):
        root = str(pathlib.Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        with open(os.path.join(self._logs, f"{platform.node()}-{number}.log"), "ab") as log:
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log,
                                       stderr=log, env={**os.environ, "PYTHONPATH": path})
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, share_of_cores(number, self.count))
        return process

    def look(self):
        """Starts those anew that ended before their work did; returns whether one is at work.

        A run whose process was ended from outside went wrong, so that it cannot end them all.
        """
        for number, process in enumerate(self._processes):
            code = process.poll()
            if not code:
                continue
            if code != RECYCLE and not self._note_broken(process.pid, code):
                self._killed += 1   # by a signal; its run may be another's by now
                if code > 0 or self._killed > MOST_KILLED:
                    raise InputError(f"a worker ended with {code}, outside of a run; see "
                                     f"{self._logs}")
            self._processes[number] = self._start(number)
        return any(process.poll() is None for process in self._processes)

    def _note_broken(self, pid, code):
        """Records the run that a process was ended in; False where it was in none."""
        owners = queue.owners(os.path.join(self._folder, result_files.CLAIMS))
        for name, owner in owners.items():
            if owner == {"host": platform.node(), "pid": pid}:
                result_files.write_failure(
                    self._folder, name, f"its process ended with {code}; see {self._logs}"
                )
                return True
        return False

    def stop(self):
        """Ends all of them."""
        for process in self._processes:
            process.kill()
            process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._config)


def watch(experiment, planned, folder, workers, bar):
    """Says what is done until the workers end."""
    done = {run.name: result_files.read(folder, run.name)["seconds"]
            for run in planned if result_files.is_done(folder, run.name)}
    names = [run.name for run in planned]
    failed, told = set(result_files.failures(folder, names)), set()
    say(f"{len(planned)} runs, {len(done)} done before"
        + (f", {len(failed)} went wrong (--retry_failed tries them again)" if failed else "")
        + left(experiment, planned, done, failed, workers))
    bar.update(len(done))
    try:
        is_over = False
        while not is_over:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            is_over = not workers.look()
            for run in planned:
                if run.name not in done and result_files.is_done(folder, run.name):
                    result = result_files.read(folder, run.name)
                    done[run.name] = result["seconds"]
                    bar.update()
                    say(f"[{len(done)}/{len(planned)}] {line(run, result)}"
                        f"{left(experiment, planned, done, failed, workers)}")
                elif run.name not in failed and result_files.is_failed(folder, run.name):
                    failed.add(run.name)
                    reason = result_files.failures(folder, [run.name])[run.name]
                    say(f"FAILED {run.name}: {reason.strip().splitlines()[-1]}")
            say_who_else(folder, names, told)
    finally:
        workers.stop()


def say_who_else(folder, names, told):
    """Says once of each run that another machine has begun it; it is waited for."""
    for name, owner in queue.owners(os.path.join(folder, result_files.CLAIMS)).items():
        if name in names and name not in told and owner.get("host") != platform.node():
            told.add(name)
            say(f"{name} is being done on {owner.get('host')}; if that machine is gone, it is done "
                f"here {duration(queue.STALE_SECONDS)} after it last said so")


def say(text):
    """A line for a person, above the bar where there is one."""
    tqdm.write(text, file=sys.stderr)


def line(run, result):
    """What came out of a run, in a few words."""
    metrics = ", ".join(f"{name.removeprefix('eval_')} {value:.4f}"
                        for name, value in result["metrics"].items()
                        if name.startswith("eval_") and "loss" not in name)
    return f"{run.name}: {metrics}, {result['seconds']:.0f} s"


def left(experiment, planned, done, failed, workers):
    """How long the rest will take, in words; nothing while that is not known.

    Args:
      experiment: config.Experiment.
      planned: list of grid.Planned.
      done: {name of a run: its seconds}.
      failed: names of runs.
      workers: Workers.
    """
    open_runs = [run for run in planned if run.name not in done and run.name not in failed]
    seconds = estimate.seconds_left(experiment, open_runs, estimate.measured(planned, done),
                                    workers.count)
    return f", about {duration(seconds)} left" if seconds else ""
