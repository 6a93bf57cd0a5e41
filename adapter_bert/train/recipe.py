"""Hyper-parameters that learn: what a run uses for the flags that were not given.

`--recipe=reference` keeps the flags' defaults, which are those of the reference adapter-bert.
`--recipe=auto` chooses from the tuning mode, the method and the size of the training set:

    learning rate    by method (PEAK_RATES), for adapters scaled by 384 / hidden_size
    epochs           as many as make TARGET_STEPS steps, from 5 (3 for large sets) to 30
    warm-up          a tenth of the steps
    bias correction  on: without it the first steps are about three times as long, and small tasks
                     fail (Zhang et al., 2021; Mosbach et al., 2021)
    initial weights  standard deviation 0.02 (0.0227 before truncation at two deviations): the
                     paper's figure 6 is flat up to 1e-2, but at 1e-3 adapters hardly learn in the
                     first hundreds of steps, which are all that a small task has
    head's bias      the log-frequencies of the labels, so that adapters need not learn them
    pooler           trained where the base's own never was, see `adapter_bert.train.pooler`

Sources: Mosbach et al., On the Stability of Fine-tuning BERT (ICLR 2021); Zhang et al., Revisiting
Few-sample BERT Fine-tuning (ICLR 2021); Houlsby et al. (ICML 2019), section 3.6; the sweeps in
docs/paper and docs/recipes.
"""
import dataclasses
import math
from collections.abc import Collection
from typing import Any, NamedTuple

from adapter_bert.bert import tuning_modes

# Peak learning rates: of tuning modes without adapters, and of the kinds of adapter.
MODE_RATES = {"full": 5e-5, "top_layers": 1e-4, "layer_norm": 3e-3, "bias": 3e-3, "head": 3e-3}
ADAPTER_RATES = {"feedforward_adapter": 1e-3, "parallel_adapter": 1e-3, "lora": 2e-3, "ia3": 1e-2,
                 "prefix": 1e-2}
WIDTH_OF_RATES = 384   # hidden size of the base that ADAPTER_RATES were measured on
TARGET_STEPS = 600
MOST_EPOCHS = 30
# The fewest passes: five, or three over sets of more than this many examples.
LARGE_SET, FEWEST_EPOCHS, FEWEST_OF_LARGE = 20_000, 5, 3
INIT_STDDEV = 0.02
# A normal distribution cut at two deviations has this share of the deviation it was given.
TRUNCATED = 0.8796
# What `auto` may choose; a run that is resumed keeps what it started with.
FLAGS = ("learning_rate", "num_train_epochs", "warmup_proportion", "bias_correction",
         "adapter_init_stddev", "head_bias_init", "tuning")


class Facts(NamedTuple):
    """What the choices depend on besides the flags.

    examples: training examples; of SQuAD, windows.
    examples_per_step: of a batch, a mean where batches are filled by tokens.
    hidden_size: D of the base.
    reads_pooler: whether the task's head reads the pooled output.
    pooler_is_trained: whether that of the base was.
    """

    examples: int
    examples_per_step: float
    hidden_size: int
    reads_pooler: bool
    pooler_is_trained: bool


class Choice(NamedTuple):
    """The value that a flag gets, and why."""

    flag: str
    value: Any
    reason: str


def choose(settings, explicit: Collection[str], facts: Facts) -> list[Choice]:
    """What `--recipe=auto` chooses for the flags that are not explicit.

    Args:
      settings: train.settings.RunSettings with the method's fields filled in.
      explicit: names of the flags that were given on the command line.
      facts: Facts.
    """
    candidates = [
        learning_rate(settings, facts), epochs(facts),
        Choice("warmup_proportion", 0.1, "share of the steps in which the rate rises"),
        Choice("bias_correction", True, "keeps the first steps of Adam short"),
        Choice("head_bias_init", "labels", "the head starts at the frequencies of the labels")]
    if tuning_modes.uses_adapters(settings.tuning):
        candidates.append(Choice("adapter_init_stddev", round(INIT_STDDEV / TRUNCATED, 4),
                                 f"{INIT_STDDEV:g} after truncation at two deviations"))
    chosen = [choice for choice in candidates if choice.flag not in explicit]
    return chosen + pooler(settings, explicit, facts)


def learning_rate(settings, facts: Facts) -> Choice:
    """The peak rate of a tuning mode or kind of adapter.

    Wider models take smaller rates: the published ones for adapters fall from 1e-3 for small bases
    to 3e-4 for BERT-large.
    """
    if not tuning_modes.uses_adapters(settings.tuning):
        mode = settings.tuning.removesuffix("_pooler").partition("=")[0]
        return Choice("learning_rate", MODE_RATES[mode], f"for --tuning={mode}")
    rate = ADAPTER_RATES[settings.adapter_fn] * min(1.0, WIDTH_OF_RATES / facts.hidden_size)
    return Choice("learning_rate", float(f"{rate:.2g}"),
                  f"for {settings.adapter_fn} on a base of width {facts.hidden_size}")


def epochs(facts: Facts) -> Choice:
    """As many passes as make TARGET_STEPS steps, within bounds."""
    steps_per_epoch = facts.examples / facts.examples_per_step
    wanted = math.ceil(TARGET_STEPS / steps_per_epoch)
    fewest = FEWEST_OF_LARGE if facts.examples > LARGE_SET else FEWEST_EPOCHS
    value = float(min(MOST_EPOCHS, max(fewest, wanted)))
    steps = int(steps_per_epoch * value)
    return Choice("num_train_epochs", value, f"{steps:,} steps of {facts.examples:,} examples")


def may_train_pooler(settings, explicit: Collection[str], reads_pooler: bool) -> bool:
    """Whether the recipe decides if the pooler trains, so that the base's must be measured."""
    return (settings.recipe == "auto" and reads_pooler and "train_pooler" not in explicit
            and tuning_modes.with_pooler(settings.tuning) != settings.tuning)


def pooler(settings, explicit: Collection[str], facts: Facts) -> list[Choice]:
    """The tuning mode that also trains the pooler, where that of the base never was."""
    if facts.pooler_is_trained or not may_train_pooler(settings, explicit, facts.reads_pooler):
        return []
    wanted = tuning_modes.with_pooler(settings.tuning)
    return [Choice("tuning", wanted, "the base's pooler was never trained, so it trains too; "
                                     "--notrain_pooler keeps it frozen")]


def apply(settings, explicit: Collection[str], facts: Facts,
          recorded: dict[str, Any]) -> tuple[Any, list[Choice]]:
    """The settings that a run trains with, and what was chosen for it.

    Args:
      settings, explicit, facts: as for `choose`.
      recorded: the flags that the run was started with, where it is resumed; else {}.
    """
    choices = []
    if settings.recipe == "auto":
        choices = [keep_recorded(choice, recorded)
                   for choice in choose(settings, explicit, facts)]
    settings = dataclasses.replace(settings, **{one.flag: one.value for one in choices})
    if settings.train_pooler:
        settings = dataclasses.replace(settings, tuning=tuning_modes.with_pooler(settings.tuning))
    return settings, choices


def keep_recorded(choice: Choice, recorded: dict[str, Any]) -> Choice:
    """A choice, or what the run was started with: another version may choose otherwise."""
    value = recorded.get(choice.flag, choice.value)
    if value == choice.value:
        return choice
    return Choice(choice.flag, value, "as this run was started")


def lines(choices: list[Choice], recipe: str) -> list[str]:
    """The block that says what was chosen, a line per flag."""
    if recipe != "auto":
        return [f"recipe: {recipe}; flags that are not given have the reference's defaults"]
    width = max((len(shown(one)) for one in choices), default=0)
    return ["***** Recipe: auto (give a flag to override it) *****",
            *(f"  {shown(one):<{width}}  {one.reason}" for one in choices)]


def shown(choice: Choice) -> str:
    """The flag of a choice as it is typed."""
    if isinstance(choice.value, bool):
        return f"--{choice.flag}" if choice.value else f"--no{choice.flag}"
    value = f"{choice.value:g}" if isinstance(choice.value, float) else choice.value
    return f"--{choice.flag}={value}"
