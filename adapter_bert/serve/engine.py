"""Many tasks on one base, answered together: packs come and go while the graph stays.

Letters: B batch, C classes, S slots, T tokens.
"""
import collections
import functools
import threading
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert import compute, network
from adapter_bert.bert import checkpoint_io, tokenization, tuning_modes
from adapter_bert.data import padding
from adapter_bert.errors import InputError
from adapter_bert.kernels import ops
from adapter_bert.packs import store
from adapter_bert.packs.answers import ANSWERS
from adapter_bert.packs.bases import base_of, check_base
from adapter_bert.serve import task_graph

BATCH_SIZE = 32
CHARACTERS_IN_TURN = 10_000   # which take some milliseconds


class Task:
    """A pack in host memory, as the slots of its lane hold it.

    Attributes:
      name: what clients call it.
      manifest: manifest.Manifest of its pack.
      lane: Lane that answers it.
      values: {name of a variable: contiguous array}.
      addresses: int64 [variables], where those lie that go into slots, in the order of the stacks.
      packed: int64 [variables], where those lie that the kernel reads.
    """

    def __init__(self, name, manifest, lane, values):
        self.name, self.manifest, self.lane, self.values = name, manifest, lane, values
        self.addresses, self.packed = (
            np.array([values[one].ctypes.data for one in names], np.int64)
            for names in (lane.slots.stacks, lane.slots.packed))


class Row(NamedTuple):
    """A text, or a part of one, that waits for its answer: word pieces, and of which task.

    It keeps its task, so that the answer is that of the pack that was there when it was asked.
    """

    task: Task
    input_ids: np.ndarray
    segment_ids: np.ndarray

    @property
    def length(self):
        """Tokens."""
        return len(self.input_ids)


class Part(NamedTuple):
    """Texts that were cut into word pieces together: see packs.answers.Kind."""

    rows: list[Row]
    asked: Any


class InOrder:
    """A lock that is given in the order in which it is waited for; threading.Lock is not, so that a
    thread that takes it again and again keeps the others out."""

    def __init__(self):
        self._change, self._is_held = threading.Lock(), False
        self._waiting: collections.deque[threading.Event] = collections.deque()

    def __enter__(self):
        with self._change:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def __exit__(self, *_):
        with self._change:
            if self._waiting:
                self._waiting.popleft().set()   # it is held by that thread now
            else:
                self._is_held = False


def in_turns(texts):
    """Lists of texts, or pairs, of about CHARACTERS_IN_TURN: no other request waits for more."""
    some, count = [], 0
    for text in texts:
        some.append(text)
        count += len(text) if isinstance(text, str) else sum(map(len, text))
        if count >= CHARACTERS_IN_TURN:
            yield some
            some, count = [], 0
    if some:
        yield some


def zeroed(variable, shape):
    """The operation that gives a variable zeros of a shape, which may be another than its own."""
    return tf.assign(variable, tf.zeros(shape, variable.dtype.base_dtype), validate_shape=False)


class Lane:
    """Tasks of one task_graph.Form: its slots, and which tasks are in them.

    The slots take memory while a task is in one of them.

    Attributes:
      shapes: {name: shape tuple} of a slot.
      slots: task_graph.Slots.
    """

    def __init__(self, bank, form, name):
        self.shapes = task_graph.shapes_of(form, bank.base.config)
        with tf.variable_scope(name):
            self.slots = task_graph.Slots(self.shapes, bank.slots, bank.engine.fused,
                                     tf.as_dtype(bank.precision))
        self.outputs = task_graph.build(
            form, bank.base.config, self.slots, bank.inputs, bank.formulas, bank.engine.towers,
            bank.getter, bank.precision)
        self._places = tf.placeholder(tf.int32, [None])
        self._feed, self._update = (self._by_address if bank.engine.fused else self._by_value)(
            self.slots.stacks)
        self._slot_of = collections.OrderedDict()   # of a task; the least recently used one first
        self._free = list(range(bank.slots - 1, -1, -1))
        stacks = self.slots.stacks.values()
        self._open = tf.group([zeroed(stack, stack.shape) for stack in stacks])
        self._close = tf.group([zeroed(stack, [0]) for stack in stacks])
        self._is_open = True   # its initializers have made the slots

    def place(self, session, tasks):
        """Puts tasks into slots, in the place of those that were not used for the longest time.

        Args:
          session: tf.Session.
          tasks: list of Task, not more than there are slots.

        Returns:
          {Task: its slot}.
        """
        if not self._is_open:
            session.run(self._open)
            self._is_open = True
        for task in tasks:
            if task in self._slot_of:
                self._slot_of.move_to_end(task)
        missing = [task for task in tasks if task not in self._slot_of]
        for task in missing:
            slot = self._free.pop() if self._free else self._slot_of.popitem(last=False)[1]
            self._slot_of[task] = slot
        if missing:
            try:
                self._fill(session, missing)
            except BaseException:   # nobody knows what lies there now
                for task in missing:
                    self.forget(task)
                raise
        return self._slot_of

    def _fill(self, session, tasks):
        session.run(self._update, {
            self._places: [self._slot_of[task] for task in tasks], **self._feed(tasks)})

    def _by_value(self, stacks):
        """A function (tasks) -> feed of their values, and the op that puts these into slots."""
        values = {name: tf.placeholder(stack.dtype.base_dtype, [None, *self.shapes[name]])
                  for name, stack in stacks.items()}

        def feed(tasks):
            return {values[name]: np.stack([task.values[name] for task in tasks])
                    for name in values}
        return feed, tf.group([tf.scatter_update(stack, self._places, values[name])
                               for name, stack in stacks.items()])

    def _by_address(self, stacks):
        """The same by our kernel, which copies the values from where they are."""
        addresses = tf.placeholder(tf.int64, [len(stacks), None])

        def feed(tasks):
            return {addresses: np.stack([task.addresses for task in tasks], axis=1)}
        return feed, tf.group([ops.fill(stack, self._places, row) for stack, row in zip(
            stacks.values(), tf.unstack(addresses), strict=True)])

    def forget(self, task):
        """Frees the slot of a task that is gone."""
        if task in self._slot_of:
            self._free.append(self._slot_of.pop(task))

    def close(self, session):
        """Frees the memory of the slots; they are made again for the next task."""
        if self._is_open:
            session.run(self._close)
            self._is_open = False


class Bank:
    """The tasks of one base.

    Args:
      bert_dir: folder of the base, in Google's form.
      slots: S, tasks that lie beside the graph at once; others wait in host memory.
      precision: "auto", "float32" or "bfloat16", as the flag of run_classifier.py.
      kernels: "auto", "plain" or "fused", likewise.
      max_adapter_size: width of the widest adapter that will be added.
      max_labels: classes of the largest head that will be added.
      max_graphs: graphs that may be built, one for each kind of pack, see task_graph.Form.

    Attributes:
      base: manifest.Base.

    Raises:
      InputError: there is no such base.
    """

    def __init__(self, bert_dir, slots=100, precision="auto", kernels="auto", max_adapter_size=64,
                 max_labels=16, max_graphs=16):
        located = checkpoint_io.locate(bert_dir)
        self.base, self._checkpoint = (
            base_of(bert_dir),
            checkpoint_io.Checkpoint(located.init_checkpoint),
        )
        self._base_values = {name: self._checkpoint[name] for name in self._checkpoint
                             if "/LayerNorm/" in name or name.startswith("bert/pooler/")}
        self.slots, self._room = slots, (max_adapter_size, max_labels)
        self._max_graphs = max_graphs
        self.precision = compute.choose_precision(precision, use_tpu=False)
        self.engine = compute.choose_engine(kernels, use_tpu=False, rows=BATCH_SIZE)
        self._tokenizer_of = functools.lru_cache(
            functools.partial(tokenization.FullTokenizer, located.vocab_file))
        self._tasks, self._lanes, self._variables, self._started = {}, {}, {}, set()
        self._batch_size = min(BATCH_SIZE, slots)
        self._lock, self._tokenizing = threading.RLock(), InOrder()
        with tf.Graph().as_default() as self._graph:
            tf.train.get_or_create_global_step()
            self.inputs = {name: tf.placeholder(tf.int32, [None, None], name)
                           for name in ("input_ids", "input_mask", "segment_ids")}
            self.inputs["slots"] = tf.placeholder(tf.int32, [None], "slots")
            self.inputs["addresses"] = tf.placeholder(tf.int64, [None, None], "addresses")
            self.formulas = self.engine.formulas(trains=False)
            self._session = tf.Session(config=self.engine.session_config())
        self.getter = tuning_modes.tuning_getter(
            [tuning_modes.REST_FROZEN], made=self._variables,
            dtype=tf.as_dtype(self.precision))

    def add(self, name, pack):
        """Adds a task, or puts another pack in the place of its own.

        Args:
          name: str, what clients call it.
          pack: store.Pack, or the path of one.

        Raises:
          InputError: the pack is not sound, stands on another base, or is too large.
        """
        pack = store.opened(pack)
        form = self.check(pack.manifest)
        ANSWERS[pack.manifest.head].prepare()
        with self._lock:
            lane = self._lane_of(form, pack.manifest.task)
            values = task_graph.values_of(pack, lane.shapes, self._base_values)
            task = Task(name, pack.manifest, lane, lane.slots.as_stored(values))
            before = self._tasks.get(name)
            self._tasks[name] = task
            if before:
                before.lane.forget(before)
                self._close_unused()

    def check(self, manifest):
        """The task_graph.Form of a pack with a Manifest; InputError where it cannot be added."""
        check_base(self.base, manifest)
        return task_graph.form_of(manifest, *self._room)

    def remove(self, name):
        """Removes a task; KeyError where there is none of that name."""
        with self._lock:
            task = self._tasks.pop(name)
            task.lane.forget(task)
            self._close_unused()

    def _close_unused(self):
        """Frees the slots of lanes that no task uses any more."""
        used = {task.lane for task in self._tasks.values()}
        for lane in self._lanes.values():
            if lane not in used:
                lane.close(self._session)

    def names(self):
        """The names of the tasks, sorted."""
        return sorted(self._tasks)

    def manifest(self, name):
        """The manifest.Manifest of a task; KeyError where there is none of that name."""
        return self._tasks[name].manifest

    def encode(self, name, texts, most=None):
        """Rows to predict; any thread may ask.

        Args:
          name: of the task; KeyError where there is none.
          texts: list of what the task is asked about, see packs.predictor.Predictor.predict.
          most: rows that may be made of them; None for any number.

        Returns:
          List of Part, all texts in their order.

        Raises:
          InputError: the task cannot be asked about one of these.
        """
        task = self._tasks[name]
        rows = functools.partial(ANSWERS[task.manifest.head].rows, task.manifest)
        parts: list = []
        for some in in_turns(texts):
            left = most and most - sum(len(found) for found, _ in parts)
            with self._tokenizing:   # its memory of words is not for two threads
                parts += rows(self._tokenizer_of(task.manifest.do_lower_case), some, left)
        return [Part([Row(task, *ids) for ids in found], asked) for found, asked in parts]

    def predict(self, rows):
        """The answers to rows of any tasks, one call at a time.

        Args:
          rows: list of Row.

        Returns:
          For each the predictions of its head, {name: array}, as packs.answers takes them.
        """
        answers, by_lane = [None] * len(rows), collections.defaultdict(list)
        for place, row in enumerate(rows):
            by_lane[row.task.lane].append(place)
        with self._lock:
            for lane, places in by_lane.items():
                own = [rows[place] for place in places]
                for some in padding.by_length([row.length for row in own], self._batch_size):
                    for number, answer in zip(some, self._run(lane, [own[one] for one in some]),
                                              strict=True):
                        answers[places[number]] = answer
        return answers

    def _run(self, lane, rows):
        slot_of = lane.place(self._session, list({row.task: None for row in rows}))
        batch = padding.padded([row[1:] for row in rows])
        batch["slots"] = np.array([slot_of[row.task] for row in rows], np.int32)
        batch["addresses"] = np.stack([row.task.packed for row in rows])
        outputs = self._session.run(
            lane.outputs, {self.inputs[name]: value for name, value in batch.items()})
        gone = [row.task for row in rows if self._tasks.get(row.task.name) is not row.task]
        for task in gone:   # answered for the last time, or for one that was asked before
            lane.forget(task)
        if gone:
            self._close_unused()
        return [_PREDICTIONS[row.task.manifest.head](row.task.manifest, outputs, number)
                for number, row in enumerate(rows)]

    def _lane_of(self, form, task):
        """The Lane of a form; a new one takes a second, while which nothing is predicted."""
        if form not in self._lanes:
            if len(self._lanes) >= self._max_graphs:
                raise InputError(f"{task}: its kind of adapter or head needs a graph of its own; "
                                 f"there are {len(self._lanes)} graphs already, start with a "
                                 "higher --max_graphs")
            with self._graph.as_default():
                self._lanes[form] = Lane(self, form, f"lane_{len(self._lanes)}")
                self._start()
        return self._lanes[form]

    def _start(self):
        """Gives the variables that are new in the graph their first values."""
        new = [variable for variable in tf.global_variables() + tf.local_variables()
               if variable.name not in self._started]
        self._started.update(variable.name for variable in new)
        names = {variable.op.name for variable in new}
        network.start_from(self._checkpoint.prefix, self._variables,
                           lambda variable: variable.op.name in names)
        self._session.run(tf.variables_initializer(new))

    def close(self):
        """Ends the session and frees its memory."""
        self._session.close()


def _class(manifest, outputs, number):
    return {"probabilities": outputs["probabilities"][number, :len(manifest.labels)]}


def _score(manifest, outputs, number):
    return {"scores": outputs["logits"][number, 0]}


def _tags(manifest, outputs, number):
    return {name: outputs[name][number] for name in ("label_ids", "probabilities")}


def _ends(manifest, outputs, number):
    return {name: outputs[name][number] for name in ("start_logits", "end_logits")}


# Of a kind of head the function (Manifest, outputs of a batch, number of a row) -> its predictions.
_PREDICTIONS = {"classification": _class, "regression": _score, "spans": _ends, "tokens": _tags}
