"""Tables and figures of what benchmarks/meta_quality.py measured."""
import pathlib

from adapter_bert import files
from adapter_bert.research.meta import meta_figures, start_comparison
from adapter_bert.research.meta.intervals import mean_and_interval

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "results" / "meta"
ZERO_SHOT, GAINS = 0.75, {"zero-shot": 0.057, "one domain": 0.022}   # the least that is claimed
TUNINGS = ("adapters", "full")
STARTS = ("plain", "meta", "trained")
NAMED = {"plain": "plain base", "meta": "meta-trained",
         "trained": "plain base after all training domains"}


def lines(results=RESULTS):
    """The section of docs/results.md, from the result files alone; [] without any."""
    found = [text for part in (_few_shots, _domains) for tuning in _tunings(results)
             for text in part(results, tuning)]
    if not found:
        return []
    runs = {path.name: files.read_json(path) for path in sorted(results.glob("*.json"))}
    commands = [f"- `{run['command']}` ({name}, commit {run['commit']})"
                for name, run in runs.items() if "command" in run]
    return ["", "## New domains from a few examples", "",
            "Written by `make meta-quality`; `experiments/meta.json` names the domains and what",
            "was tried. Checkpoints and learning rates are chosen on the validation domains.",
            "Accuracy in percent with its 95 % interval over the means of the seeds: each has its",
            "own draws of texts and training on domains, and the plain base a new head. All seeds",
            "share the one meta-training, which brings its head along, and the test domains: of",
            "others the interval says nothing.",
            *found, "",
            "### Commands of these", "", *commands]


def verdict(results=RESULTS):
    """What of the claims does not hold or is not measured, a line each; [] where all is well."""
    return [f"{tuning}: {line}" for tuning in TUNINGS for line in _missed(results, tuning)]


def _missed(results, tuning):
    """The claims that do not hold for a tuning mode."""
    few, one_domain = ([results / f"{what}-{start}-{tuning}.json" for start in ("meta", "plain")]
                       for what in ("shots", "domains1"))
    if not all(path.exists() for path in few + one_domain):
        yield "not measured yet"
        return
    compared = {row[0]: row for row in start_comparison.compare(*few)}
    (_, _, _, low_resource), = start_comparison.compare(*one_domain)
    _, zero, _, zero_gain = compared[0]
    if zero.mean <= ZERO_SHOT:
        yield f"zero-shot accuracy {zero.percent()}, not {ZERO_SHOT:.0%}"
    for what, gain in (("zero-shot", zero_gain), ("one domain", low_resource)):
        if gain.mean < GAINS[what]:
            yield f"{what}: gain {gain.percent(True)}, not {100 * GAINS[what]:.1f}"
    if compared[8][3].low <= 0:
        yield f"8 shots: gain {compared[8][3].percent(True)}"


def _few_shots(results, tuning):
    """A table of accuracy by shots for each start, and the gain of meta-training."""
    paths = _curves_of(results, tuning)
    if not paths:
        return []
    curves = {start: dict(start_comparison.estimates(path)) for start, path in paths.items()}
    gains = [{row[0]: row[3] for row in start_comparison.compare(paths["meta"], paths[other])}
             for other in ("plain", "trained")]
    domains = ", ".join(files.read_json(paths["meta"])["test_domains"])
    return ["", f"### Few shots, {tuning}: {domains}", "",
            f"| shots | {' | '.join(NAMED[start] for start in STARTS)} | meta-trained minus plain "
            "| minus the third |", "|---|---|---|---|---|---|",
            *[f"| {shots} | " + " | ".join(curves[start][shots].percent() for start in STARTS)
              + f" | {gains[0][shots].percent(True)} | {gains[1][shots].percent(True)} |"
              for shots in curves["plain"]],
            "", f"![query accuracy against shots](results/meta/{figure(tuning)})",
            *_answers(results / f"zero-meta-{tuning}.json")]


def _answers(path):
    """A line on what a meta-trained start answers without an example of the domain."""
    if not path.exists():
        return []
    told = [f"of {draw['domain']} it answers " + ", ".join(
        f"{label} to {100 * share:.1f} % ({100 * draw['labels'][label]:.1f} % are)"
        for label, share in draw["answers"].items())
            for draw in files.read_json(path)["points"][0]["draws"]]
    return ["", f"The meta-trained start without an example, all texts asked: {'; '.join(told)}."]


def _domains(results, tuning):
    """Meta-BERT's comparison: fine-tuning on some domains, then others are asked."""
    rows = []
    for count in _counts(results, tuning):
        paths = [results / f"domains{count}-{start}-{tuning}.json" for start in ("meta", "plain")]
        if all(path.exists() for path in paths):
            (_, meta, plain, gain), = start_comparison.compare(*paths)
            named = f"{count}, low-resource" if count == 1 else f"up to {count}"
            rows.append(f"| {named} | {plain.percent()} | {meta.percent()} | {gain.percent(True)} "
                        f"| {gain.size} |")
    if not rows:
        return []
    return ["", f"### Fine-tuned on training domains, {tuning}", "",
            "A seed draws the training domains, and a new head of the plain base; all examples of",
            "the test domains are asked.", "",
            "| training domains | plain base | meta-trained | difference | seeds |",
            "|---|---|---|---|---|", *rows]


def _counts(results, tuning):
    """The counts of training domains that were measured, ascending."""
    names = [path.name.removeprefix("domains").split("-")[0]
             for path in results.glob(f"domains*-plain-{tuning}.json")]
    return sorted(map(int, names))


def _tunings(results):
    """The tuning modes of which something is measured."""
    return sorted({path.stem.split("-")[-1] for what in ("shots", "domains")
                   for path in results.glob(f"{what}*-*-*.json")})


def _curves_of(results, tuning):
    """{start: path of the result of its few-shot curve}; {} where one is not measured."""
    paths = {start: results / f"shots-{start}-{tuning}.json" for start in STARTS}
    return paths if all(path.exists() for path in paths.values()) else {}


def figure(tuning):
    """Name of the figure of a tuning mode."""
    return f"few-shot-{tuning}.png"


def draw(results=RESULTS):
    """Draws the figures: accuracy against shots, by tuning and together; each outer loop."""
    together = {}
    for tuning in _tunings(results):
        if not (paths := _curves_of(results, tuning)):
            continue
        domains = files.read_json(paths["meta"])["test_domains"]
        curves = {NAMED[start]: start_comparison.estimates(path) for start, path in paths.items()}
        meta_figures.few_shot_curves(str(results / figure(tuning)), curves, domains)
        together |= {f"{NAMED[start]}, {tuning}": curves[NAMED[start]]
                     for start in ("plain", "meta")}
    if together:
        meta_figures.few_shot_curves(str(results / "few-shot.png"), together, domains)
    for path in sorted(results.glob("meta-*.json")):
        history = files.read_json(path)["history"]
        meta_figures.learning_curve(
            str(path.with_suffix(".png")), [(row["step"], row["query_loss"]) for row in history],
            [(row["step"], mean_and_interval(row["accuracies"])) for row in history
             if row.get("accuracies")])
