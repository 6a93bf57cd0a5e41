"""Many tasks in a graph that serves them: a base and its packs, and each row says whose it is.

Letters: B batch, T tokens, C classes of the largest head, S slots, one a task.
"""
import dataclasses

import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert import network
from adapter_bert.bert import adapters, checkpoint_io, modeling, tokenization, tuning_modes
from adapter_bert.errors import InputError
from adapter_bert.export import graph_tokenizer
from adapter_bert.export.savedmodel_single import KINDS, REGRESS, of_bounded_length
from adapter_bert.kinds.heads import width
from adapter_bert.serve import task_graph

NAMES_SHOWN = 20   # in the error of an unknown task


class ManyTasks:
    """What `signatures` asks of whatever is served, here for packs of one base.

    Args:
      located: checkpoint_io.BertFiles of the base.
      packs: list of store.Pack made on it, of tasks of different names.
      ids_only: no text comes in, only ids.

    Attributes:
      has_texts: whether texts can be put in.
      has_task: whether a row says which task it is for; True.
      takes_pairs: whether a text may have a second one; True.
      needs_pair: whether a request has a column of second texts: a task of pairs is among them.
      of_examples: how tf.train.Examples are asked about, savedmodel_single.CLASSIFY or REGRESS.

    Raises:
      InputError: two tasks of one name, or packs that one graph cannot serve.
    """

    def __init__(self, located, packs, ids_only=False):
        self._located, self._packs = located, packs
        self._manifests = manifests = [pack.manifest for pack in packs]
        check_names([manifest.task for manifest in manifests])
        self._form, self._config = common_form(manifests), manifests[0].base.config
        self.has_texts, self.has_task = not ids_only, True
        self.needs_pair = any(manifest.pair for manifest in manifests)
        self.takes_pairs, self.of_examples = True, KINDS[manifests[0].head].of_examples
        self._shapes = task_graph.shapes_of(self._form, self._config)
        with tf.variable_scope("slots"):
            self._slots = task_graph.Slots(self._shapes, len(packs), False, tf.float32,
                                      changes=False)
        self._variables: dict[str, tf.Variable] = {}
        self._getter = tuning_modes.tuning_getter(
            [tuning_modes.REST_FROZEN], tf.GraphKeys.GLOBAL_VARIABLES, self._variables)
        vocab = {} if ids_only else tokenization.load_vocab(located.vocab_file)
        self._tokenizers = {} if ids_only else {
            lower: graph_tokenizer.GraphTokenizer(vocab, lower) for lower in sorted(
                {manifest.do_lower_case for manifest in manifests})}

    def features(self, text_a, text_b, is_pair=None, task=None):
        """What texts are to the model, each cut and cased as its task wants it.

        Args:
          text_a: string [B].
          text_b: string [B].
          is_pair: bool [B], whether a row has a second text; None where nobody says: then all rows
            of tasks of pairs have, and of other tasks those of which text_b is not empty.
          task: string [B], names of tasks.

        Returns:
          {"input_ids", "input_mask", "segment_ids"} int32 [B, T], and None.
        """
        slots = self._slots_of(task, text_a)
        if is_pair is None:
            is_pair = tf.not_equal(text_b, "") | self._of_rows(
                slots, [bool(manifest.pair) for manifest in self._manifests])
        lower = self._of_rows(slots, [manifest.do_lower_case for manifest in self._manifests])
        most = self._of_rows(slots, [manifest.max_seq_length for manifest in self._manifests])
        return graph_tokenizer.features(self._tokenizer(lower), text_a, text_b, is_pair, most), None

    def outputs(self, features, asked=None, task=None):
        """What the tasks say of rows, and the same of texts.

        Args:
          features: {"input_ids", "input_mask", "segment_ids"} int32 [B, T].
          asked: None.
          task: string [B], names of tasks.

        Returns:
          Twice {"label": string [B], "probabilities": float32 [B, C], "labels": string [B, C]},
          labels in the order of the probabilities, those of a smaller head padded with 0 and "";
          or {"score": float32 [B]}.
        """
        features = of_bounded_length(features, self._config.max_position_embeddings)
        slots = self._slots_of(task, features["input_ids"])
        made = task_graph.build(self._form, self._config, self._slots, {**features, "slots": slots},
                           modeling.plain_formulas(), 1, self._getter, "float32")
        if self.of_examples == REGRESS:
            of_rows = {"score": made["logits"][:, 0]}
            return of_rows, of_rows
        labels = self._of_rows(slots, [padded(manifest.labels, self._form.classes)
                                       for manifest in self._manifests])    # [B, C]
        best = tf.argmax(made["probabilities"], axis=1)
        of_rows = {"label": tf.gather(labels, best, batch_dims=1),
                   "probabilities": made["probabilities"], "labels": labels}
        return of_rows, of_rows

    def restore(self, session):
        """Gives the variables their values: of the base, and in each slot of its pack."""
        network.start_from(self._located.init_checkpoint, self._variables)
        session.run(tf.global_variables_initializer())
        base_values = checkpoint_io.Checkpoint(self._located.init_checkpoint)
        for name, shape in self._shapes.items():   # one at a time, for the sake of memory
            values = [task_graph.values_of(pack, {name: shape}, base_values)[name]
                      for pack in self._packs]
            self._slots.stacks[name].load(np.stack(values), session)

    def _slots_of(self, task, rows):
        """The slots of tasks, string [B] -> int32 [B], for as many rows; else an error says so."""
        names = [manifest.task for manifest in self._manifests]
        is_it = tf.equal(task[:, None], tf.constant(names))                 # [B, S]
        is_known = tf.reduce_any(is_it, axis=1)
        shown = ", ".join(names[:NAMES_SHOWN]) + ", ..." * (len(names) > NAMES_SHOWN)
        known = tf.debugging.Assert(tf.reduce_all(is_known), [
            f"unknown task; there are {shown} (assets/tasks.txt of the SavedModel names all), and "
            "not", tf.boolean_mask(task, ~is_known)[:1]])
        fits = tf.debugging.assert_equal(
            tf.shape(task)[0], tf.shape(rows)[0], message="not one name of a task for each row")
        with tf.control_dependencies([known, fits]):
            return tf.argmax(tf.cast(is_it, tf.int32), axis=1, output_type=tf.int32)

    def _of_rows(self, slots, values):
        """The values of the rows' tasks: a list of S, int32 [B] -> [B, ...]."""
        return tf.gather(tf.constant(values), slots)

    def _tokenizer(self, is_lower):
        if len(self._tokenizers) == 1:
            return next(iter(self._tokenizers.values()))
        return _EitherCase(self._tokenizers, is_lower)


class _EitherCase:
    """Word-piece ids of texts of which each row is cased as its task wants it.

    Args:
      tokenizers: {do_lower_case: graph_tokenizer.GraphTokenizer}.
      is_lower: bool [B].
    """

    def __init__(self, tokenizers, is_lower):
        self._tokenizers, self._is_lower = tokenizers, is_lower
        self.cls, self.sep = tokenizers[True].cls, tokenizers[True].sep

    def __call__(self, texts):
        """See graph_tokenizer.GraphTokenizer; string [2 B], first texts and second texts."""
        is_lower = tf.tile(self._is_lower, [2])
        lower = self._tokenizers[True](tf.where_v2(is_lower, texts, ""))
        cased = self._tokenizers[False](tf.where_v2(is_lower, "", texts))
        return tf.concat([lower, cased], axis=1)   # one of the two is empty


def check_names(names):
    """InputError where two tasks have one name."""
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{names.count(name)} packs of the task {name}, and a row is sent to "
                             "its task by name; give one another name with adapter-bert pack "
                             "describe --task")


def common_form(manifests):
    """The task_graph.Form that holds all packs: slots as wide as the widest adapter and head.

    Raises:
      InputError: there is none.
    """
    for manifest in manifests:
        if not KINDS[manifest.head].of_examples:
            raise InputError(f"{manifest.task}: a head for {manifest.head} is exported alone")
    scores = [manifest.head == "regression" for manifest in manifests]
    if any(scores) and not all(scores):
        raise InputError(f"{manifests[scores.index(True)].task} gives scores and "
                         f"{manifests[scores.index(False)].task} labels; export them apart")
    size = max((manifest.adapter.size for manifest in manifests if manifest.adapter), default=1)
    classes = max(width(manifest.head, manifest.labels) for manifest in manifests)
    forms = [task_graph.form_of(manifest, size, classes) for manifest in manifests]
    with_adapters = [place for place, manifest in enumerate(manifests) if manifest.adapter]
    first = with_adapters[0] if with_adapters else 0
    for manifest, form in zip(manifests, forms, strict=True):
        _check_fits(manifest, form.adapter, manifests[first].task, forms[first].adapter)
    return forms[first]._replace(pooler=any(form.pooler for form in forms))


def _check_fits(manifest, adapter, task, wanted):
    """InputError where a pack's adapters are not computed as those of a task."""
    if manifest.adapter is None and adapters.zeros_are_none(wanted):
        return
    if manifest.adapter is None:
        raise InputError(f"{manifest.task} has no adapters, and those of {task} change what is "
                         "computed even if they are zeros (prefixes do, and residual_before_ln "
                         "false); export them apart")
    differing = [f"{field.name} {getattr(wanted, field.name)} and {getattr(adapter, field.name)}"
                 for field in dataclasses.fields(adapter)
                 if field.compare and getattr(wanted, field.name) != getattr(adapter, field.name)]
    if differing:
        raise InputError(f"the adapters of {task} and {manifest.task} differ: "
                         f"{', '.join(differing)}; export them apart")


def padded(labels, count):
    """The labels as a list of `count`, "" after the last."""
    return [*labels, *[""] * (count - len(labels))]
