"""Where the first values of variables come from, strictly."""
import functools
import os
import re
import time
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from absl import logging

from adapter_bert import network, paths
from adapter_bert.bert import checkpoint_io, tuning_modes
from adapter_bert.errors import InputError

OUTPUT_BIAS = "output_bias"   # of the heads of tasks
SETTLED_SECONDS = 2   # after its last change a file is taken to be at rest
PRETRAINING_HEADS = ("cls/predictions", "cls/seq_relationship")


class Start(NamedTuple):
    """Where first values come from.

    task: prefix of a checkpoint that holds only what trained, or None; it goes before the base.
    base: prefix of a checkpoint that holds a whole BERT; None where all weights start anew.
    fingerprint: hex sha256 of the base's encoder (checkpoint_io.fingerprint); None without one.
    output_bias: initial bias of the head where no checkpoint has one; () for zeros.
    """

    task: str | None
    base: str | None
    fingerprint: str | None
    output_bias: tuple[float, ...] = ()

    @property
    def prefixes(self):
        """The checkpoints in the order in which a variable is looked for."""
        return [prefix for prefix in (self.task, self.base) if prefix]


def find_start(init_checkpoint, config, base_checkpoint=None):
    """The start that `init_checkpoint` stands for.

    Args:
      init_checkpoint: prefix of a whole BERT, with adapters and head or without, or of an adapter
        run's checkpoint, which holds only what trained; None for no checkpoint at all.
      config: dict of a bert_config.json.
      base_checkpoint: prefix of the base of such a run; where None, what the run wrote down.

    Raises:
      InputError: variables are missing or of another shape, or the base is missing or another.
    """
    if init_checkpoint is None:
        return Start(None, None, None)
    prefix = base_of(init_checkpoint, config, base_checkpoint)
    if prefix == init_checkpoint:
        return Start(None, prefix, checkpoint_io.fingerprint(prefix))
    return Start(init_checkpoint, prefix, checkpoint_io.check_base_of_run(
        checkpoint_io.Checkpoint(init_checkpoint), checkpoint_io.Checkpoint(prefix)))


def base_of(init_checkpoint, config, base_checkpoint=None):
    """Prefix of the base that training from `init_checkpoint` has: itself, or that of its run.

    Arguments and errors as for `find_start`.
    """
    shapes = checkpoint_io.Checkpoint(init_checkpoint).shapes
    is_whole = checkpoint_io.variable_shapes(config).keys() <= shapes.keys()
    prefix = init_checkpoint
    if not is_whole and checkpoint_io.FINGERPRINT_VARIABLE in shapes:
        prefix = checkpoint_io.base_of_run(init_checkpoint, base_checkpoint)
    check_encoder(prefix, config)
    return prefix


def check_encoder(prefix, config):
    """InputError where a checkpoint lacks encoder variables of a config, or has other shapes."""
    found = checkpoint_io.Checkpoint(prefix).shapes
    wrong = [
        f"{name} {list(shape)}: {list(found[name]) if name in found else 'missing'}"
        for name, shape in checkpoint_io.variable_shapes(config).items()
        if found.get(name) != shape
    ]
    extra = sorted(name for name in found.keys() - checkpoint_io.variable_shapes(config).keys()
                   if checkpoint_io.is_encoder_variable(name))
    wrong += [f"{name} {list(found[name])}: not in this BERT" for name in extra]
    if wrong:
        raise InputError(
            f"{prefix}: does not fit bert_config.json: {checkpoint_io.some_of(wrong)}; "
            "give the checkpoint and the config of one model"
        )


def fingerprint_variable(fingerprint):
    """Puts the base's fingerprint into every checkpoint, as an int64 [4] variable, if not None."""
    if fingerprint:
        tf.get_variable(checkpoint_io.FINGERPRINT_VARIABLE, trainable=False,
                        initializer=checkpoint_io.fingerprint_as_int64(fingerprint))


def encoder_values(start, model):
    """{name: float32 tensor} of the encoder's variables that the checkpoints of `start` have.

    With them a graph is built faster than with `scaffold` alone, which has to replace the values
    that initializers made; it still checks that they are complete.

    Args:
      start: Start.
      model: network.Model.
    """
    wanted, values = checkpoint_io.variable_shapes(model.bert_config.to_dict()), {}
    for prefix in start.prefixes:
        found = checkpoint_io.Checkpoint(prefix)
        shapes = {name: shape for name, shape in wanted.items() if name not in values
                  and found.shapes.get(name) == shape and found.dtypes[name] == tf.float32}
        values |= network.restored(prefix, shapes, lambda name: tuning_modes.group_of(
            name, model.rules) != tuning_modes.FROZEN)
    return values


def scaffold(variables, start, fresh_allowed, make=tf.train.Scaffold, started=()):
    """A Scaffold after every variable got its first value from the checkpoints of `start`.

    Args:
      variables: list of a model's variables.
      start: Start.
      fresh_allowed: whether adapters and head may start anew where no checkpoint has them.
      make: function () -> tf.train.Scaffold.
      started: names of variables that were made with their first values.

    Raises:
      InputError: variables that no checkpoint has, or has in another shape.
    """
    matched = match(variables, start, fresh_allowed) if start.prefixes else {}
    for prefix, names in matched.items():
        network.start_from(prefix, {name: variable for name, variable in names.items()
                                    if name not in started})
    if start.output_bias and not any(OUTPUT_BIAS in names for names in matched.values()):
        for variable in variables:
            if variable.op.name == OUTPUT_BIAS:
                network.start_with(variable, start.output_bias)
    return make()


def scaffold_without_checks() -> tf.train.Scaffold:
    """A Scaffold for the one process of a run, which does not ask whether variables have values.

    The question takes an operation per variable. It is for workers that wait for their chief; here
    every variable has its value from the init op or from the checkpoint, which must have them all.
    """
    ready = tf.constant([], tf.string)   # names of variables without a value
    return tf.train.Scaffold(ready_op=ready, ready_for_local_init_op=ready)


def match(variables, start, fresh_allowed):
    """{checkpoint prefix: {name: variable}} for every variable that is not made anew.

    Arguments and errors as for `scaffold`.
    """
    matched = {prefix: {} for prefix in start.prefixes}
    opened = {prefix: checkpoint_io.Checkpoint(prefix) for prefix in start.prefixes}
    missing, wrong = [], []
    other_heads = heads_of_other_tasks(variables, start, opened) if fresh_allowed else {}
    for variable in variables:
        name, wanted = variable.op.name, describe(variable.shape.as_list(), tf.float32)
        prefix = next((p for p in start.prefixes if name in opened[p].shapes
                       and name not in other_heads), None)
        found = prefix and describe(opened[prefix].shapes[name], opened[prefix].dtypes[name])
        if prefix is None:
            missing.append(name)
        elif found != wanted:
            wrong.append(f"{name} {wanted}: {found}")
        else:
            matched[prefix][name] = variable
    refuse_lost(variables, start, opened[start.prefixes[0]].shapes.keys() - other_heads.keys(),
                fresh_allowed)
    refuse_partial(start.prefixes[0], missing, [v.op.name for v in variables], fresh_allowed)
    if wrong:
        raise InputError(f"{start.prefixes[0]}: variables of another shape or type: "
                         f"{checkpoint_io.some_of(wrong)}; give the flags that it was trained with")
    return {prefix: names for prefix, names in matched.items() if names}


def heads_of_other_tasks(variables, start: Start, opened) -> dict[str, list[int]]:
    """{name: shape} of the heads in a whole model that are not those of the task to train.

    A head is another one where a variable of it has another shape, as with another count of
    classes, or where the task has no variable of that name. Training starts with a new head then,
    which is logged. Heads of pre-training are in every published BERT and are not mentioned.

    Args:
      variables: list of the model's variables.
      start: Start; of a run's checkpoint, which fixes its head, there are none.
      opened: {prefix: checkpoint_io.Checkpoint}.
    """
    if start.task or not start.base:
        return {}
    wanted = {v.op.name: tuple(v.shape.as_list()) for v in variables}
    shapes = {name: shape for name, shape in opened[start.base].shapes.items()
              if part_of(name) not in (None, "adapters", *PRETRAINING_HEADS)
              and not checkpoint_io.is_training_state(name)}
    others = {part_of(name) for name, shape in shapes.items() if wanted.get(name) != shape}
    found = {name: list(shape) for name, shape in sorted(shapes.items())
             if part_of(name) in others}
    if found:
        say_new_head(
            start.base, checkpoint_io.some_of(f"{name} {shape}" for name, shape in found.items())
        )
    return found


@functools.cache
def say_new_head(prefix: str, head: str) -> None:
    """Logs once that the head of a checkpoint is left out."""
    logging.info("%s: its head (%s) is for another task; training starts from its encoder with a "
                 "new head", prefix, head)


def describe(shape, dtype):
    """A shape and a type for a message: `[2, 384] float32`."""
    return f"{list(shape)} {dtype.base_dtype.name}"


def is_unread(name):
    """Whether a model may leave a variable out: of the training, or of the heads of a base."""
    return checkpoint_io.is_training_state(name) or name.startswith("cls/")


def refuse_lost(variables, start, found, fresh_allowed):
    """InputError where a checkpoint holds trained values that this model would drop or lose.

    Training may start from a whole model and leave its adapters and head out; it says so.
    """
    kept = {v.op.name for v in variables if v.trainable or not fresh_allowed or not start.task}
    extra = sorted(name for name in found if name not in kept and not is_unread(name))
    if extra and fresh_allowed and not start.task:
        logging.info(
            "%s: not used in this tuning mode: %s", start.base, checkpoint_io.some_of(extra)
        )
    elif extra:
        raise InputError(
            f"{start.prefixes[0]}: holds {checkpoint_io.some_of(extra)}, which this model "
            "lacks or would freeze and lose; give the flags of its training"
        )


def refuse_partial(prefix, missing, names, fresh_allowed):
    """InputError where variables are missing that may not be made anew.

    Adapters may start anew all together, and so may a head, where `fresh_allowed`.
    """
    groups = {name: part_of(name) for name in names}
    held = {groups[name] for name in names if name not in missing} | {None}
    bad = [name for name in missing if not fresh_allowed or groups[name] in held]
    if bad:
        raise InputError(f"{prefix}: lacks {checkpoint_io.some_of(bad)}; "
                         "give a checkpoint that was trained with these flags")


def part_of(name):
    """What a variable is made anew with: "adapters" or a head, as "cls/predictions"; or None."""
    if "/adapters/" in name:
        return "adapters"
    return None if name.startswith("bert/") else "/".join(name.split("/")[:-1][:2])


def all_of(folder):
    """Prefixes of the checkpoints whose files are in a folder, the oldest first.

    TensorFlow's own look-up believes the file `checkpoint`, which may name files that are gone.
    """
    found = {int(match[1]): match[0] for match in map(
        re.compile(r"model\.ckpt-(\d+)(?=\.index$)").match, paths.names_in(folder)) if match}
    return [os.path.join(folder, found[step]) for step in sorted(found)]


def latest(folder):
    """Prefix of the newest sound checkpoint in a folder; None where there is none.

    A damaged one is passed over for the one before it, which is said. That of step 0 alone may be
    missing, as nothing was trained with it.

    Raises:
      InputError: there are checkpoints, and none is sound.
    """
    damaged = {}
    for prefix in reversed(all_of(folder)):
        reason = damage_of(prefix)
        if not reason:
            for newer, why in damaged.items():
                say_damaged(newer, why, prefix)
            return prefix
        damaged[prefix] = reason
    for prefix, reason in damaged.items():
        if not prefix.endswith("-0"):
            raise InputError(f"{reason}; and no other checkpoint is there. Remove {prefix}.*, and "
                             "the same command goes on without it")
    return None


def damage_of(prefix):
    """What is wrong with a checkpoint, in words; None where all its values are as written.

    TensorFlow holds each block of the index and each variable against the checksum written with it.
    A process reads a checkpoint once, as long as its files stay the same. Files written just now
    are read each time, since two changes within a tick of the clock leave the same time on a file.
    """
    if paths.is_remote(prefix):
        return _damage_in(prefix)
    states = list(map(os.stat, files_of(prefix)))
    if any(state.st_mtime > time.time() - SETTLED_SECONDS for state in states):
        return _damage_in(prefix)
    return _damage_of_state(prefix, tuple(
        (state.st_ino, state.st_size, state.st_mtime_ns) for state in states))


@functools.lru_cache(maxsize=64)
def _damage_of_state(prefix: str, state: tuple) -> str | None:
    """`_damage_in` of a checkpoint whose files are in a certain state."""
    del state
    return _damage_in(prefix)


def _damage_in(prefix: str) -> str | None:
    """Reads every variable of a checkpoint; what is wrong with one of them, or None."""
    try:
        for _ in checkpoint_io.Checkpoint(prefix).values():
            pass
    except InputError as error:
        return str(error).partition("; fetch")[0]
    return None


@functools.cache
def say_damaged(prefix, reason, used):
    """Says once that a checkpoint is passed over for another one."""
    del prefix
    logging.info("%s; %s is used in its place", reason, used)


def prune(folder, keep=5):
    """Removes all but the newest `keep` checkpoints; TensorFlow forgets older stretches'."""
    for prefix in all_of(folder)[:-keep]:
        remove(prefix)


def remove(prefix):
    """Removes the files of a checkpoint."""
    for path in reversed(files_of(prefix)):
        paths.remove(path)


def files_of(prefix):
    """Paths of a checkpoint's files, the index last: without it the others are no checkpoint.

    So files are copied in this order and removed in the other one.
    """
    folder, name = os.path.split(prefix)
    found = [os.path.join(folder, file) for file in paths.names_in(folder or ".")
             if file.startswith(f"{name}.")]
    return sorted(found, key=lambda path: path.endswith(".index"))


def latest_step(folder):
    """Prefix and global step of the newest checkpoint of a run; (None, 0) where there is none."""
    prefix = latest(folder)
    return prefix, global_step(prefix) if prefix else 0


def point_to(folder, prefix):
    """Makes TensorFlow go on from `prefix`, or start anew where that is None.

    Checkpoints after it go, which are damaged, and what a killed process left of writing one. The
    checkpoint of step 0, with which nothing was trained yet, goes where `prefix` is None.
    """
    every = all_of(folder)
    for damaged in every[every.index(prefix) + 1:] if prefix else every:
        remove(damaged)
    for name in paths.names_in(folder):
        if re.fullmatch(r"model\.ckpt-\d+(_temp|\..*tempstate.*)", name):
            paths.remove_all(os.path.join(folder, name))
    if prefix:
        tf.train.update_checkpoint_state(folder, prefix)
    elif "checkpoint" in paths.names_in(folder):
        paths.remove(os.path.join(folder, "checkpoint"))


def best_or_latest(output_dir):
    """Prefix of a run's best checkpoint where that is kept, else of its newest; or None."""
    return latest(os.path.join(output_dir, checkpoint_io.BEST_FOLDER)) or latest(output_dir)


def global_step(prefix):
    """The global step of a checkpoint; 0 where it has none."""
    checkpoint = checkpoint_io.Checkpoint(prefix)
    return int(checkpoint["global_step"]) if "global_step" in checkpoint.shapes else 0


def has_head(prefix):
    """Whether a checkpoint holds a trained head."""
    return "output_weights" in checkpoint_io.Checkpoint(prefix).shapes


def counts(variables, rules):
    """{group: {"variables", "parameters", "trained"}} of a model, see docs of tuning_rules."""
    rows = tuning_modes.count_parameters(variables, rules)
    return {group: {**row, "trained": group != tuning_modes.FROZEN}
            for group, row in rows.items()}
