"""What a search can vary: each parameter with its flag, its bounds, and where it applies."""
import math
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

from optuna import distributions
from optuna.distributions import BaseDistribution

from adapter_bert import fields
from adapter_bert.bert import tuning_modes
from adapter_bert.errors import InputError
from adapter_bert.train.settings import RunSettings

# The flag that each parameter of --search stands for.
FLAGS = {"learning_rate": "learning_rate", "epochs": "num_train_epochs", "size": "adapter_size",
         "method": "adapter_method"}
# Peak learning rates at which a tuning mode or method can learn, around those of the papers:
# Devlin et al. 2019 (full), Houlsby et al. 2019 (adapters, LayerNorms), Ben Zaken et al. 2022
# (bias), Liu et al. 2022 (ia3: 3e-3; prefix: 5e-3). The bounds are widened to the default.
RATES = {"full": (1e-5, 2e-4), "top_layers": (3e-5, 1e-3), "adapters": (1e-4, 3e-3),
         "layer_norm": (3e-4, 1e-2), "bias": (3e-4, 1e-2), "head": (1e-3, 3e-2)}
METHOD_RATES = {"ia3": (1e-3, 3e-2), "prefix": (1e-3, 2e-2)}
# Methods in which a size is a width or a rank and the same rates make sense. ia3 and prefix need
# rates of their own; --adapter_method=prefix searches the others for it.
METHODS = ("houlsby", "pfeiffer", "parallel", "lora")
SIZES = (8, 16, 64, 256)
METHOD_FLAGS = ("tuning", "adapter_fn", "adapter_placement", "adapter_activation",
                "adapter_original_ln_before", "adapter_residual_before_ln", "adapter_scale")
RATES_PER_DECADE = 2   # of the full grid that a search is compared with: 1e-4, 3e-4, 1e-3, ...


class Parameter(NamedTuple):
    """A searched parameter.

    distribution: its bounds or choices.
    first: its value in the first trial.
    """

    distribution: BaseDistribution
    first: Any


Space = Mapping[str, Parameter]


def choose(search: str | None, settings: RunSettings, explicit_flags: Set[str]) -> list[str]:
    """The names of the parameters to search.

    Args:
      search: value of --search, names with commas between; None for all that apply.
      settings: of a run, with its defaults filled in.
      explicit_flags: names of the flags on the command line; these are not searched.

    Raises:
      InputError: an unknown name, one that does not apply, or nothing to search.
    """
    reasons = {name: reason for name in FLAGS
               if (reason := _why_fixed(name, settings, explicit_flags))}
    if search is None:
        names = [name for name in FLAGS if name not in reasons]
        if not names:
            raise InputError("nothing to search: flags fix all of "
                             f"{', '.join(FLAGS)}; leave out the flag of one of them")
        return names
    names = fields.listed(search)
    if unknown := [name for name in names if name not in FLAGS]:
        raise InputError(f"--search={search}: unknown parameter {', '.join(unknown)}; choose from "
                         f"{', '.join(FLAGS)}")
    if not names:
        raise InputError(f"--search={search}: names no parameter; choose from {', '.join(FLAGS)}")
    for name in names:
        if name in reasons:
            raise InputError(f"--search={search}: {name} cannot be searched, because "
                             f"{reasons[name]}; leave one of the two out")
    return [name for name in FLAGS if name in names]


def _why_fixed(name: str, settings: RunSettings, explicit_flags: Set[str]) -> str | None:
    """Why a parameter cannot be searched, in words; None where it can."""
    if FLAGS[name] in explicit_flags:
        return f"--{FLAGS[name]} is set"
    if name not in ("size", "method"):
        return None
    if not tuning_modes.uses_adapters(settings.tuning):
        return f"--tuning={settings.tuning} has no adapters"
    start = next((flag for flag in ("pack", "init_pack") if getattr(settings, flag)), None)
    if start:
        return f"--{start} fixes the adapters"
    if name == "size" and settings.adapter_fn == "ia3":
        return "ia3 has no size"
    fixed = [flag for flag in METHOD_FLAGS if flag in explicit_flags] if name == "method" else []
    return f"--{fixed[0]} is set" if fixed else None


def make(names: list[str], settings: RunSettings) -> dict[str, Parameter]:
    """The Space of these parameters around the values in `settings`, which the first trial has."""
    epochs = max(1, round(settings.num_train_epochs))
    sizes = sorted({*SIZES, settings.adapter_size})
    methods = list(dict.fromkeys((settings.adapter_method, *METHODS)))
    every = {
        "learning_rate": Parameter(
            distributions.FloatDistribution(*_rates(settings), log=True), settings.learning_rate),
        "epochs": Parameter(distributions.IntDistribution(
            max(1, round(epochs / 2)), 2 * epochs, log=True), epochs),
        "size": Parameter(distributions.CategoricalDistribution(sizes), settings.adapter_size),
        "method": Parameter(
            distributions.CategoricalDistribution(methods), settings.adapter_method)}
    return {name: every[name] for name in names}


def _rates(settings: RunSettings) -> tuple[float, float]:
    """The lowest and the highest learning rate to try."""
    mode = settings.tuning.removesuffix("_pooler").partition("=")[0]
    group = "adapters" if tuning_modes.uses_adapters(mode) else mode
    low, high = METHOD_RATES.get(settings.adapter_method, RATES[group])
    rate = settings.learning_rate or low
    return min(low, rate), max(high, rate)


def flags_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """{flag: value} of {parameter: value}."""
    flags = {FLAGS[name]: value for name, value in values.items()}
    if "num_train_epochs" in flags:
        flags["num_train_epochs"] = float(flags["num_train_epochs"])
    return flags


def rounded(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The values with learning rates of three digits, which a command line can show."""
    result = dict(values)
    if "learning_rate" in result:
        bounds = space["learning_rate"].distribution
        assert isinstance(bounds, distributions.FloatDistribution)
        result["learning_rate"] = min(max(float(f"{result['learning_rate']:.3g}"), bounds.low),
                                      bounds.high)
    return result


class Grid(NamedTuple):
    """The full grid that a search replaces.

    settings: how many settings it has.
    epochs: passes over the training set in all of them together.
    """

    settings: int
    epochs: float


def full_grid(space: Space, num_train_epochs: float) -> Grid:
    """The Grid of a Space: two rates per decade; least, first and most epochs; every choice.

    Args:
      space: what is searched.
      num_train_epochs: of each run where epochs are not searched.
    """
    count, epochs = 1, [num_train_epochs]
    for parameter in space.values():
        distribution = parameter.distribution
        if isinstance(distribution, distributions.FloatDistribution):
            decades = math.log10(distribution.high / distribution.low)
            count *= 1 + max(1, math.ceil(RATES_PER_DECADE * decades - 0.05))
        elif isinstance(distribution, distributions.IntDistribution):
            epochs = sorted({distribution.low, parameter.first, distribution.high})
        elif isinstance(distribution, distributions.CategoricalDistribution):
            count *= len(distribution.choices)
    return Grid(count * len(epochs), count * sum(epochs))


def to_json(space: Space) -> dict[str, Any]:
    """A Space as JSON values."""
    return {name: {"distribution": distributions.distribution_to_json(parameter.distribution),
                   "first": parameter.first} for name, parameter in space.items()}


def from_json(value: Mapping[str, Any]) -> dict[str, Parameter]:
    """The Space that `to_json` wrote."""
    return {name: Parameter(distributions.json_to_distribution(row["distribution"]), row["first"])
            for name, row in value.items()}
