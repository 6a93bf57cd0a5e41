"""Which process of a cluster this one is, as TF_CONFIG says."""
import contextlib
import dataclasses
import json
import os

import numpy as np

from adapter_bert.errors import InputError

DISTRIBUTIONS = ("none", "mirrored", "multi_worker", "parameter_server")
FORM = ('{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}, with '
        '"ps" beside "worker" for --distribution=parameter_server')


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run; one alone where nothing is given.

    workers: their addresses; the first is the chief, which writes.
    servers: addresses of the parameter servers.
    number: place of this process in its list.
    is_server: whether it is a parameter server.
    timeout: seconds after which a worker that waits for the others gives up.
    """

    workers: tuple[str, ...] = ("",)
    servers: tuple[str, ...] = ()
    number: int = 0
    is_server: bool = False
    timeout: int = 0

    @property
    def is_chief(self):
        """Whether this process writes checkpoints, results and packs."""
        return not self.number and not self.is_server

    @property
    def is_alone(self):
        """Whether there is no other process."""
        return len(self.workers) == 1

    def seed(self, seed):
        """The seed of this worker's dropout; the chief's is that of one process."""
        if not self.number:
            return seed
        return int(np.random.SeedSequence((seed, self.number)).generate_state(1)[0] >> 1)

    def own_settings(self, settings):
        """A worker's settings: those of the run for the chief; the others train and nothing else.

        What they need on disk, records of the data, goes to a folder of their own.
        """
        if self.is_chief:
            return settings
        values = {"output_dir": os.path.join(settings.output_dir, f"worker-{self.number}"),
                  "pack_dir": None, "eval_steps": 0, "keep_best": False, "do_eval": False,
                  "early_stopping_patience": 0, "do_predict": False}
        names = {field.name for field in dataclasses.fields(settings)}
        return dataclasses.replace(settings, **{k: v for k, v in values.items() if k in names})


def find(settings):
    """The Cluster of the settings and of TF_CONFIG.

    Raises:
      InputError: TF_CONFIG is missing, or not what --distribution needs.
    """
    given = os.environ.get("TF_CONFIG")
    if settings.distribution in ("none", "mirrored"):
        if given and not settings.use_tpu and len(read(given).workers) > 1:
            raise InputError("TF_CONFIG names several workers; give --distribution=multi_worker or "
                             "parameter_server, or unset it")
        return Cluster()
    if not given:
        raise InputError(f"--distribution={settings.distribution}: the environment variable "
                         f"TF_CONFIG is missing; set it to {FORM}")
    cluster = dataclasses.replace(read(given), timeout=settings.distribution_timeout)
    needs_servers = settings.distribution == "parameter_server"
    if needs_servers != bool(cluster.servers):
        raise InputError(f"--distribution={settings.distribution}, and TF_CONFIG names "
                         f"{len(cluster.servers)} tasks of the job ps; write {FORM}")
    if settings.train_batch_size % len(cluster.workers):
        raise InputError(f"--train_batch_size={settings.train_batch_size}: must be a multiple of "
                         f"the {len(cluster.workers)} workers of TF_CONFIG, which share a batch")
    return cluster


def read(text):
    """The Cluster that a TF_CONFIG describes: jobs chief (or master), worker, ps.

    Raises:
      InputError: it is no JSON of that form.
    """
    try:
        config = json.loads(text)
        jobs, task = config.get("cluster", {}), config.get("task", {})
        chiefs = [*jobs.get("chief", []), *jobs.get("master", [])]
        workers, servers = [*chiefs, *jobs.get("worker", [])], jobs.get("ps", [])
        kind, index = (task["type"], int(task["index"])) if jobs else ("worker", 0)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"TF_CONFIG={text!r}: not of the form {FORM}") from error
    if not jobs:
        return Cluster()
    lists = {"chief": chiefs, "master": chiefs, "worker": workers[len(chiefs):], "ps": servers}
    unknown = sorted(set(jobs) - set(lists))
    if unknown or kind not in lists or not 0 <= index < len(lists[kind]) or len(chiefs) > 1 or any(
            not isinstance(address, str) or ":" not in address for address in workers + servers):
        raise InputError(f"TF_CONFIG={text!r}: not of the form {FORM}" + (
            f"; the job {unknown[0]} is not known" if unknown else ""))
    number = index + (len(chiefs) if kind == "worker" else 0)
    return Cluster(tuple(workers), tuple(servers), number, kind == "ps")


@contextlib.contextmanager
def unseen():
    """Hides TF_CONFIG for a while from Estimator, to which every worker is the only one."""
    given = os.environ.pop("TF_CONFIG", None)
    try:
        yield
    finally:
        if given is not None:
            os.environ["TF_CONFIG"] = given
