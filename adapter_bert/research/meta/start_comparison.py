"""Results of run_finetuning.py, and what one start is better than another by."""
import collections

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.research.meta.intervals import mean_and_interval

KEYS = ("data", "draws_of", "test_domains", "points")
WHOLE = "all examples of the test domains"
DRAW = ("seed", "domain", "draw")


def point(shots, draws):
    """The entry of results.json of one number of shots.

    Args:
      shots: int, or None where whole domains were asked.
      draws: list of {"seed", "domain", "draw", "accuracy"}.
    """
    return {"shots": shots, "accuracy": mean_of(draws).to_dict(), "draws": draws}


def mean_of(draws):
    """The statistics.Estimate of the accuracy of draws, see `independent`."""
    return mean_and_interval(independent(
        (draw["seed"], draw["accuracy"]) for draw in draws))


def independent(values):
    """What an interval may take for independent values: of several seeds the mean of each.

    The draws of a seed share its training and its first head, and err together.

    Args:
      values: (seed, float) pairs, of every seed equally many.

    Returns:
      list of floats: one a seed; of a single seed every value.
    """
    by_seed = collections.defaultdict(list)
    for seed, value in values:
        by_seed[seed].append(value)
    if len(by_seed) == 1:
        return list(*by_seed.values())
    return [sum(found) / len(found) for found in by_seed.values()]


def table(points):
    """The lines of a Markdown table of points."""
    yield "| shots | accuracy, % (95 % interval) | n |"
    yield "|---|---|---|"
    for one in points:
        mean = mean_of(one["draws"])
        yield f"| {_named(one['shots'])} | {mean.percent()} | {mean.size} |"


def compare(path, other_path):
    """What the first of two results is better by, point by point on the same draws.

    Args:
      path, other_path: of results.json files.

    Returns:
      list of (shots, Estimate of the first, Estimate of the second, Estimate of the difference).

    Raises:
      InputError: a file is none, or the two have other draws or no shots in common.
    """
    first, second = (_read(name) for name in (path, other_path))
    for key in KEYS[:3]:
        if first[key] != second[key]:
            raise InputError(f"{path} and {other_path}: were measured on other draws, {key} is "
                             f"{first[key]} and {second[key]}; measure both alike")
    pairs = [(one, other) for one in first["points"] for other in second["points"]
             if one["shots"] == other["shots"]]
    if not pairs:
        raise InputError(f"{path} and {other_path}: have no number of shots in common")
    return [_compared((path, other_path), one, other) for one, other in pairs]


def _compared(names, one, other):
    first, second = ({tuple(draw[key] for key in DRAW): draw["accuracy"] for draw in part["draws"]}
                     for part in (one, other))
    if first.keys() != second.keys():
        raise InputError(f"{names[0]} and {names[1]}: were measured on other draws of "
                         f"{asked_after(one['shots'])}; measure both alike")
    difference = mean_and_interval(independent(
        (draw[0], accuracy - second[draw]) for draw, accuracy in first.items()))
    return one["shots"], mean_of(one["draws"]), mean_of(other["draws"]), difference


def difference_table(names, compared):
    """The lines of a Markdown table of what `compare` returns; `names` are those of the two."""
    yield f"| shots | {names[0]}, % | {names[1]}, % | difference, points (95 % interval) | n |"
    yield "|---|---|---|---|---|"
    for shots, first, second, difference in compared:
        yield (f"| {_named(shots)} | {first.percent()} | {second.percent()} | "
               f"{difference.percent(signed=True)} | {difference.size} |")


def estimates(path):
    """[(shots, Estimate)] of a results.json, for a line of plots.few_shot_curves."""
    return [(one["shots"], mean_of(one["draws"]))
            for one in _read(path)["points"] if one["shots"] is not None]


def _read(path):
    """The object in a results.json; InputError where its points are not those of `point`."""
    result = files.read_object(path, *KEYS)
    try:
        points = [{"shots": one["shots"], "draws": [
            {**{key: draw[key] for key in DRAW}, "accuracy": float(draw["accuracy"])}
            for draw in one["draws"]]} for one in result["points"]]
        counts = [set(collections.Counter(draw["seed"] for draw in one["draws"]).values())
                  for one in points]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its points are not as run_finetuning.py writes them "
                         f"({error!r}); measure it again") from error
    for one, found in zip(points, counts, strict=True):
        if len(found) != 1 or not all(0 <= draw["accuracy"] <= 1 for draw in one["draws"]):
            raise InputError(f"{path}: {asked_after(one['shots'])}: expected draws, of each seed "
                             "equally many, with accuracies from 0 to 1; measure it again")
    return {**result, "points": points}


def asked_after(shots):
    """What a point is of, for a line."""
    return WHOLE if shots is None else f"{shots} shots"


def _named(shots):
    return WHOLE if shots is None else shots
