"""Several processes on loopback that train together, and are started again where they end."""
import json
import os
import signal
import subprocess
import sys
import time

from adapter_bert.train.distributed.launch import free_ports

WORKER = os.path.join(os.path.dirname(__file__), "worker.py")
FLAGS = {"task_name": "SST-2", "do_train": True, "max_seq_length": 16, "train_batch_size": 12,
         "learning_rate": 0.002, "adapter_size": 4, "precision": "float32"}


def config(workers, servers, kind, index):
    """TF_CONFIG of a task of a cluster; lists of addresses."""
    jobs = {"worker": workers, "ps": servers}
    return json.dumps({"cluster": {job: tasks for job, tasks in jobs.items() if tasks},
                       "task": {"type": kind, "index": index}})


def start(tf_config=None, die_after=None, **flags):
    """Starts a command without dropout; its lines come from `communicate`."""
    root = os.path.dirname(os.path.dirname(WORKER))
    environment = {**os.environ, "PYTHONPATH": root}
    environment.pop("TF_CONFIG", None)
    if tf_config:
        environment["TF_CONFIG"] = tf_config
    if die_after:
        environment["DIE_AFTER"] = str(die_after)
    line = [f"--{name}={value}" for name, value in {**FLAGS, **flags}.items()]
    return subprocess.Popen([sys.executable, WORKER, *line], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Cluster:
    """Tasks that run a command, each on a port of its own, and again where it fails.

    Args:
      workers, servers: how many of each.
      plan: tasks that die, one a life of the cluster.
      steps: after how many steps each of them does.
      **flags: of the command.
    """

    def __init__(self, workers, servers=0, plan=(), steps=(), **flags):
        ports = [f"127.0.0.1:{port}" for port in free_ports(workers + servers)]
        self._addresses = ports[:workers], ports[workers:]
        self._plan = [*zip(plan, steps, strict=True)]
        self._flags = {"distribution": "parameter_server" if servers else "multi_worker", **flags}
        self.tasks = [("worker", i) for i in range(workers)] + [("ps", i) for i in range(servers)]
        self.lines, self.deaths = dict.fromkeys(self.tasks, ""), 0
        self.processes = {task: self.start(task) for task in self.tasks}

    def start(self, task):
        victim, steps = self._plan[0] if self._plan else (None, 0)
        return start(config(*self._addresses, *task), steps if task == victim else None,
                     **self._flags)

    def finish(self):
        """Waits until all have ended well; returns the lines of each."""
        while any(process.poll() != 0 for process in self.processes.values()):
            codes = {task: process.poll() for task, process in self.processes.items()}
            if self._plan and codes[self._plan[0][0]] == -signal.SIGKILL:
                self.deaths += 1
                self._plan.pop(0)
            for task in filter(codes.get, codes):
                self.lines[task] += self.processes[task].communicate()[0]
                assert self.deaths, self.lines
                self.processes[task] = self.start(task)
            time.sleep(0.1)
        for task, process in self.processes.items():
            self.lines[task] += process.communicate()[0]
        return self.lines

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
