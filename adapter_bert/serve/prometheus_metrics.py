"""What the server counts, for Prometheus."""
import prometheus_client as prometheus

MOST_TASKS = 1000   # tasks with counts of their own; further ones are counted as one
OTHERS = "others"
_SECONDS = (.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms of one server.

    Args:
      waiting: () -> count of rows that wait.
      loaded: () -> count of packs.
    """

    def __init__(self, waiting, loaded):
        self._registry = prometheus.CollectorRegistry()
        options = {"namespace": "adapter_bert", "registry": self._registry}
        self._tasks = set()
        self._requests = prometheus.Counter(
            "requests", "Requests by task and status.", ("task", "verb", "code"), **options)
        self._seconds = prometheus.Histogram(
            "request_seconds", "Time of a request.", ("verb",), buckets=_SECONDS, **options)
        self._batch_rows = prometheus.Histogram(
            "batch_rows", "Rows of a batch.", buckets=_ROWS, **options)
        self._batch_seconds = prometheus.Histogram(
            "batch_seconds", "Time of a batch.", buckets=_SECONDS, **options)
        prometheus.Gauge("queue_rows", "Rows that wait.", **options).set_function(waiting)
        prometheus.Gauge("packs_loaded", "Packs that can be asked.", **options).set_function(loaded)

    def request(self, task, verb, code, seconds):
        """Counts a request.

        Args:
          task: name of a task that is loaded, or "" where no such task was asked.
          verb: one of a few words.
          code: int, its status.
          seconds: float.
        """
        if task and task not in self._tasks and len(self._tasks) >= MOST_TASKS:
            task = OTHERS
        self._tasks.add(task)
        self._requests.labels(task, verb, str(code)).inc()
        self._seconds.labels(verb).observe(seconds)

    def batch(self, rows, seconds):
        """Counts a batch."""
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def text(self):
        """All of it in Prometheus' text form, bytes."""
        return prometheus.generate_latest(self._registry)
