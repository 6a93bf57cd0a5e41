"""An outer step of meta-training: tasks side by side, one after the other, and with full tuning.

    python benchmarks/meta_speed.py --bert_dir=DIR --reviews=dataset.json [--smoke]

Five tasks of 80 + 20 reviews, cut at 128 word pieces, in batches of 16. The three ways are the same
program with the same kernels, measured in turn. A task passes over its examples twice in the place
of ten times; what a step does else is the smaller part of it even so.

The limit: the seconds that a step's matrix products take at the rate of products alone, measured
between the steps. No way to arrange the tasks is faster, as each task has activations of its own.
"""
import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import sides
import step_profile
import tensorflow.compat.v1 as tf

from adapter_bert import compute, network
from adapter_bert.bert import adapters, checkpoint_io, tokenization
from adapter_bert.research.meta import adaptation, domains, outer
from adapter_bert.research.meta.learner import Inner, Learner
from adapter_bert.train.initial_values import Start

TASKS, SUPPORT, QUERY, BATCH, PASSES, ROUNDS, LENGTH = 5, 80, 20, 16, 2, 5, 128
WAYS = {"side by side": ("adapters", TASKS), "one after the other": ("adapters", 1),
        "full tuning, one after the other": ("full", 1)}
PRODUCTS = "the products of adapters alone"
FLOORS = {"one after the other": 3, "full tuning, one after the other": 8}


class Way:
    """A way to take outer steps.

    Args:
      bert_dir: folder of the base.
      tuning: tuning mode.
      count: tasks that learn side by side.
    """

    def __init__(self, bert_dir, tuning, count):
        located = checkpoint_io.locate(bert_dir)
        adapter = adapters.AdapterConfig(init_stddev=2e-2) if tuning == "adapters" else None
        model = network.Model(network.read_config(located.bert_config_file), "classification", 2,
                              tuning, adapter, compute.choose_precision("auto", False))
        self.engine = compute.choose_engine("auto", False, BATCH)
        self._count = count
        self._learner = Learner(model, Start(None, located.init_checkpoint, ""), self.engine,
                                Inner("adam", 5e-5 if tuning == "full" else 1e-3), count)
        self._adam = outer.Adam(1e-4, self._learner.values)

    def step(self, episodes, number):
        """Seconds of an outer step, of the clock and of all cores together."""
        start, used = time.perf_counter(), time.process_time()
        self._learner.load(self._adam.values)
        gradient, _ = outer.outer_gradient(
            self._learner, self._count, episodes, adaptation.Steps(PASSES, BATCH), "fomaml",
            [0, number])
        self._adam.step(gradient)
        return {"seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - used}


def episodes_of(dataset, tokenizer, sizes, number):
    """The tasks of an outer step: list of (support, query), lists of Row."""
    random = np.random.default_rng(number)
    drawn = [domains.draw_training(dataset, list(dataset.domains), *sizes, random)
             for _ in range(TASKS)]
    rows = adaptation.encode([example for one in drawn for example in one.support + one.query],
                             tokenizer, LENGTH, dataset.labels)
    return [tuple([rows[example] for example in part] for part in (one.support, one.query))
            for one in drawn]


def flop_of(config, episodes):
    """FLOP of an outer step's products with adapters, without those of padding."""
    return sum(step_profile.step_flop(config, len(row.input_ids)) / step_profile.BATCH
               for support, query in episodes for row in support * PASSES + query)


def measure(options, sizes, rounds):
    """{way: list of what Way.step returns} of rounds in turn, and the engine's line.

    PRODUCTS is one of the ways: an outer step's products with adapters, and nothing else. The first
    round, in which TensorFlow prepares its graphs, does not count.
    """
    dataset = domains.read_dataset(options.reviews)
    located = checkpoint_io.locate(options.bert_dir)
    config = network.read_config(located.bert_config_file)
    tokenizer = tokenization.FullTokenizer(located.vocab_file)
    cores, precision = len(os.sched_getaffinity(0)), compute.choose_precision("auto", False)
    limits = step_profile.limits(config, BATCH * LENGTH, precision, cores).values()
    ways = {name: Way(options.bert_dir, *way) for name, way in WAYS.items()}
    found = {name: [] for name in [*ways, PRODUCTS]}
    for number in range(rounds + 1):
        episodes = episodes_of(dataset, tokenizer, sizes, number)
        for name, way in ways.items():
            found[name].append(way.step(episodes, number))
        found[PRODUCTS].append({"seconds": flop_of(config, episodes) / max(
            limit.rate() for limit in limits)})
    return ({name: steps[1:] for name, steps in found.items()},
            next(iter(ways.values())).engine.line(precision))


def claims_of(found):
    """The claims of the measurements, see sides.write."""
    ours = next(iter(WAYS))
    claims = [(f"outer step of {TASKS} tasks, adapters {ours}: seconds",
               sides.median(found[ours], "seconds"), None)]
    ratio, most = (sides.ratios(found, fast, FLOORS, "seconds") for fast in (ours, PRODUCTS))
    for name, floor in FLOORS.items():
        claims += [(f"outer step, adapters {ours}: times as fast as {name}", ratio[name][0], floor),
                   (f"outer step, {PRODUCTS}: times as fast as {name}", most[name][0], None)]
    return claims


def main():
    """Prints and writes the seconds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--reviews", required=True, help="a dataset.json of domains")
    parser.add_argument("--smoke", action="store_true", help="a round of 4 + 2 examples a task")
    options = parser.parse_args()
    tf.disable_eager_execution()
    sizes = (4, 2) if options.smoke else (SUPPORT, QUERY)
    found, line = measure(options, sizes, 1 if options.smoke else ROUNDS)
    claims = claims_of(found)
    for what, number, floor in claims:
        print(f"{what} {number:.3g}" + (f", floor {floor}" if floor else ""))
    if not options.smoke:
        sides.write("meta", {"steps": found, "passes": PASSES, "engine": line}, claims)


if __name__ == "__main__":
    main()
