"""What the workers of a cluster tell each other: sums, through accumulators on one of them or more.

A hub is a task on which an accumulator waits for the vector of every worker; the chief then takes
their sum and puts it into a queue for each of the others. Of several hubs each sums a part. The
queues lie on the workers: so a call from the chief to each of them is open while the chief waits,
and breaks as soon as one dies.

Letters: W workers, P numbers that are summed.
"""
import contextlib
import dataclasses
import hashlib
import json
import os
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert.errors import InputError, reason_of
from adapter_bert.train.distributed.clusters import Cluster

CHIEF = "/job:worker/task:0"
ANY_STEP = 2**62   # accumulators refuse what is older than their own step
SECONDS_BETWEEN_TRIES = 0.5
SPARE_THREADS = 2   # for what others want of a process while its own threads compute
SECONDS_FOR_A_MEETING = 600   # workers start, and read their data, at different times


@dataclasses.dataclass(frozen=True)
class Link:
    """A worker's way to the others.

    cluster: Cluster.
    target: of the sessions that reach them.
    stretch: tells apart what belongs to one stretch of training, the same in all workers.
    """

    cluster: Cluster
    target: str
    stretch: int = 0

    @property
    def device(self):
        """The name of this worker's task."""
        return self.workers[self.cluster.number]

    @property
    def hubs(self):
        """The names of the tasks that sum: the parameter servers, or the chief."""
        return [f"/job:ps/task:{i}" for i in range(len(self.cluster.servers))] or [CHIEF]

    @property
    def workers(self):
        """The names of all workers' tasks."""
        return [f"/job:worker/task:{i}" for i in range(len(self.cluster.workers))]

    def place(self, op):
        """The device of an operation, on this worker unless it says otherwise; a device_fn."""
        own = tf.DeviceSpec.from_string(self.device)
        return own.make_merged_spec(tf.DeviceSpec.from_string(op.device)).to_string()

    def session_config(self, config=None, hubs=None):
        """A ConfigProto for this worker and the hubs, which gives up after the cluster's timeout.

        Args:
          config: ConfigProto to start from; TensorFlow's own where None.
          hubs: names of tasks; those that sum where None.
        """
        made = tf.ConfigProto(allow_soft_placement=True)
        made.MergeFrom(config or tf.ConfigProto())
        made.operation_timeout_in_ms = self.cluster.timeout * 1000
        others = self.workers if self.cluster.is_chief and not hubs else []
        made.device_filters.extend(sorted({self.device, *(hubs or self.hubs), *others}))
        return made


class Sums:
    """The sums over all workers that a step takes.

    Args:
      link: Link.

    Attributes:
      done: ops that end when the others have the sums too; whoever runs the sums runs them.
    """

    def __init__(self, link):
        self._link, self.done = link, []

    def __call__(self, tensors, name):
        """The sums of all workers' tensors.

        Args:
          tensors: list of float32 tensors of static shapes, the same in every worker.
          name: str, of this sum in the graph.

        Returns:
          List of float32 tensors of the same shapes.
        """
        link, totals = self._link, []
        sizes = [tensor.shape.num_elements() for tensor in tensors]
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)     # [P]
        shares = [len(part) for part in np.array_split(np.arange(sum(sizes)), len(link.hubs))]
        for i, (hub, part) in enumerate(zip(link.hubs, tf.split(flat, shares), strict=True)):
            total, done = total_on(hub, link.workers, link.cluster.number, part,
                                   f"{name}_{i}_{link.stretch}")
            totals.append(total)
            self.done += done
        total = tf.concat(totals, axis=0)                                              # [P]
        return [tf.reshape(part, tensor.shape) for part, tensor in zip(
            tf.split(total, sizes), tensors, strict=True)]


def total_on(hub, places, number, vector, name):
    """The sum of the workers' vectors, once the last of them has given its own.

    Args:
      hub: name of the task on which they are summed.
      places: names of the tasks on which each worker finds the sum.
      number: of this worker; 0 for the chief.
      vector: float [P], P static.
      name: str, the same in every worker and another one for each sum.

    Returns:
      As vector, and a list of the ops that give it to the others. A step ends after them, but does
      not wait for them in its midst: they end when the others' threads have time for that.
    """
    with tf.device(hub):
        accumulator = tf.ConditionalAccumulator(
            vector.dtype, vector.shape, shared_name=name, reduction_type="SUM")
        given = accumulator.apply_grad(vector, ANY_STEP)
        if not number:
            with tf.control_dependencies([given]):
                total = accumulator.take_grad(len(places))

    def with_answer(worker, do):
        with tf.device(places[worker]), tf.control_dependencies([given]):
            return do(tf.FIFOQueue(1, [vector.dtype], [vector.shape],
                                   shared_name=f"{name}_for_{worker}"))
    if number:
        return with_answer(number, lambda queue: queue.dequeue()), []
    return total, [with_answer(worker, lambda queue: queue.enqueue(total))
                   for worker in range(1, len(places))]


def open_link(cluster, config=None):
    """The Link of a worker of several, after its server was started; None for one alone.

    Args:
      cluster: Cluster.
      config: ConfigProto with the threads to compute on; TensorFlow's own choice where None.

    Raises:
      InputError: its address is not to be had.
    """
    return None if cluster.is_alone else Link(cluster, start_server(cluster, config).target)


def start_server(cluster, config=None):
    """The tf.distribute.Server of this process, which lives as long as the process does."""
    threads = tf.ConfigProto()
    threads.MergeFrom(config or tf.ConfigProto())
    threads.inter_op_parallelism_threads = SPARE_THREADS + (
        threads.inter_op_parallelism_threads or len(os.sched_getaffinity(0)))
    os.environ.setdefault("GRPC_FAIL_FAST", "true")   # else a worker waits for ever for one gone
    jobs = {"worker": cluster.workers, "ps": cluster.servers}
    try:
        return tf.distribute.Server(
            tf.train.ClusterSpec({job: tasks for job, tasks in jobs.items() if tasks}),
            "ps" if cluster.is_server else "worker", cluster.number, config=threads)
    except tf.errors.OpError as error:
        address = jobs["ps" if cluster.is_server else "worker"][cluster.number]
        raise InputError(f"TF_CONFIG: no server starts at {address}, the address of this task "
                         f"({reason_of(error)}); is it this machine's, and free?") from error


def meet(link, step, stop, identity):
    """Waits for all workers, and learns from the chief where training goes on.

    Args:
      link: Link; None for one worker alone.
      step: int, steps done, of the chief.
      stop: int, step to train to, of the chief.
      identity: hex digest of what has to be the same in all workers.

    Returns:
      The Link of the stretch of training that follows, the chief's step, and its stop.

    Raises:
      InputError: a worker does not come, or trains something else.
    """
    if link is None:
        return None, step, stop
    workers = len(link.cluster.workers)
    rows = np.zeros([workers, 5])
    rows[link.cluster.number] = 1, step, stop, time.time_ns() % 2**50, int(identity[:12], 16)
    rows = told(link, rows.reshape(-1)).reshape(workers, 5)
    refuse_others(rows)
    step, stop, stretch = map(int, rows[0, 1:4])
    return dataclasses.replace(link, stretch=stretch), step, stop


def refuse_others(rows):
    """InputError where a worker came twice, or with something else to train than the chief."""
    if (rows[:, 0] != 1).any():
        raise InputError("a worker was started again while the others waited for it; start all "
                         "workers again, with the same command")
    others = np.flatnonzero(rows[:, 4] != rows[0, 4])
    if others.size:
        raise InputError(f"worker {others[0]} was started with other data, flags or base than the "
                         "chief; give all workers the same")


def told(link, vector):
    """The sum of all workers' vectors, each waiting until it is there: float64 [P]."""
    with tf.Graph().as_default(), tf.device(link.device):
        mine = tf.placeholder(tf.float64, vector.shape)
        places = [CHIEF] * len(link.cluster.workers)
        answer = total_on(CHIEF, places, link.cluster.number, mine, "meeting")
        seen = farewell(link.cluster)
        patience = max(link.cluster.timeout, SECONDS_FOR_A_MEETING)
        config = link.session_config(hubs=[CHIEF])
        config.operation_timeout_in_ms = patience * 1000 * link.cluster.is_chief   # it may evaluate
        until = time.monotonic() + patience
        while True:
            try:
                with tf.Session(link.target, config=config) as session:
                    total, _ = session.run(answer, {mine: vector})
                    with contextlib.suppress(tf.errors.UnavailableError):   # the chief may be done
                        session.run(seen)
                    return total
            except tf.errors.UnavailableError as error:
                if time.monotonic() > until:
                    raise InputError(f"the chief at {link.cluster.workers[0]} was not to be "
                                     f"reached for {patience} s; start it") from error
                time.sleep(SECONDS_BETWEEN_TRIES)


def farewell(cluster):
    """An op with which the chief waits until the others have had their answer."""
    with tf.device(CHIEF):
        seen = tf.ConditionalAccumulator(tf.float32, [], shared_name="seen")
        if cluster.number:
            return seen.apply_grad(1.0, ANY_STEP)
        return seen.take_grad(len(cluster.workers) - 1)


class SameStart(tf.train.SessionRunHook):
    """Gives every worker the chief's variables and step before the first step of a session.

    Args:
      link: Link.
      step: int, the chief's.
    """

    def __init__(self, link, step):
        self._link, self._step = link, step

    def begin(self):
        """Adds the ops to the graph."""
        with tf.device(self._link.device):
            variables = [variable for variable in tf.global_variables()
                         if variable.dtype.base_dtype == tf.float32]
            is_chief = self._link.cluster.is_chief
            values = [variable.read_value() if is_chief else tf.zeros(variable.shape)
                      for variable in variables]
            sums = Sums(self._link)
            pairs = zip(variables, sums(values, "start"), strict=True)
            self._assign = tf.group(
                tf.train.get_global_step().assign(self._step),
                *(variable.assign(value) for variable, value in pairs), *sums.done)

    def after_create_session(self, session, coord):
        """Runs them."""
        del coord
        session.run(self._assign)


class OnceScaffold(tf.train.Scaffold):
    """A Scaffold for one session: what is lost with a worker is not to be had from a new one."""

    def finalize(self):
        """As tf.train.Scaffold; InputError where a session broke and another is to be made."""
        if getattr(self, "_is_used", False):
            raise InputError("another worker or parameter server is gone; start all workers again, "
                             "with the same command, and training goes on from its last checkpoint")
        self._is_used = True
        return super().finalize()


def serve(cluster):
    """Sums for the workers until the chief says that training is over; for a parameter server."""
    server = start_server(cluster)
    logging.info("parameter server %d of %d waits for %d workers", cluster.number + 1,
                 len(cluster.servers), len(cluster.workers))
    with tf.Graph().as_default(), tf.Session(server.target, config=tf.ConfigProto(
            device_filters=[f"/job:ps/task:{cluster.number}"])) as session:
        session.run(over(f"/job:ps/task:{cluster.number}").dequeue())


def dismiss(link):
    """Tells the parameter servers that training is over; the chief does."""
    if link is None or not link.cluster.is_chief or not link.cluster.servers:
        return
    with tf.Graph().as_default(), tf.Session(
            link.target, config=link.session_config()) as session:
        session.run([over(hub).enqueue(1) for hub in link.hubs])


def over(hub):
    """The queue on a parameter server that says that training is over."""
    with tf.device(hub):
        return tf.FIFOQueue(1, [tf.int32], [[]], shared_name="over")


def hooks(link, step):
    """The SessionRunHooks of a stretch that begins at the chief's `step`."""
    return [SameStart(link, step)] if link else []


def identity(recorded):
    """Hex digest of what resolve.identity returns, without where files lie."""
    base = {key: value for key, value in recorded["base"].items()
            if key not in ("vocab_file", "bert_config_file", "init_checkpoint", "name")}
    return hashlib.sha256(json.dumps({**recorded, "base": base}).encode()).hexdigest()
