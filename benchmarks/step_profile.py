"""Where the time of a training step goes, by kind of operation, and how far that is from the limit.

    python benchmarks/step_profile.py --bert_dir=DIR [--tokens=56] [--precision=auto]

The limit: the rate of this machine's matrix products in that precision, measured in the same call
on every core at once, in the shapes of this BERT: TensorFlow's own product, and ours.
"""
import argparse
import collections
import concurrent.futures
import math
import os
import statistics
import sys
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import graph
import numpy as np
import sides
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from adapter_bert.kernels import ops, packing
from adapter_bert.network import read_config

BATCH, WIDTH = 32, 64
SHOWN, STEPS, WARM_UP, ROUNDS, COPIED_BYTES = 20, 5, 3, 9, 1 << 28


def step_flop(config, tokens, trains=True):
    """FLOP of a step's products: forward, gradients of inputs, and gradients of adapters.

    The two products of attention are counted; those of the pooler and the head are left out. In the
    last layer only keys and values are made of all tokens, the rest of the first. A step that does
    not train is the forward pass alone.
    """
    width, inner = config.hidden_size, config.intermediate_size
    frozen, trained = (2, 3) if trains else (1, 1)
    for_all = frozen * 2 * width * width
    for_wanted = (frozen * (2 * width * width + 2 * width * inner)
                  + trained * (2 * tokens * width + 2 * 2 * width * WIDTH))
    wanted = (config.num_hidden_layers - 1) * tokens + 1
    return 2 * BATCH * (config.num_hidden_layers * tokens * for_all + wanted * for_wanted)


def random_batch(tokens, vocab_size):
    """A batch of random ids, full but for a few tokens."""
    random = np.random.default_rng(0)
    lengths = random.integers(max(1, tokens - 8), tokens + 1, BATCH)
    columns = {"input_ids": random.integers(0, vocab_size, [BATCH, tokens]),
               "input_mask": np.arange(tokens) < lengths[:, None],
               "segment_ids": np.zeros([BATCH, tokens]), "label_ids": random.integers(0, 2, BATCH)}
    return {name: tf.placeholder_with_default(
        tf.constant(column.astype(np.int32)), [None] * column.ndim)
        for name, column in columns.items()}


class Work(NamedTuple):
    """An operation, and the FLOP of its products."""

    session: tf.Session
    operation: tf.Operation
    flop: float

    def seconds(self, count):
        """The median seconds of one of `count` times."""
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self.session.run(self.operation)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def rate(self):
        """FLOP a second."""
        return self.flop / self.seconds(STEPS)


def by_kind(session, step):
    """[(kind of operation, milliseconds, count)] of one step, the longest first."""
    traced = tf.RunMetadata()
    session.run(step, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
                run_metadata=traced)
    micros, counts = collections.Counter(), collections.Counter()
    for device in traced.step_stats.dev_stats:
        for node in device.node_stats:
            label = node.timeline_label
            kind = label.split(" = ")[1].split("(")[0] if " = " in label else node.node_name
            micros[kind] += node.op_end_rel_micros - node.op_start_rel_micros
            counts[kind] += 1
    return [(kind, total / 1000, counts[kind]) for kind, total in micros.most_common()]


def products(config, rows, precision, cores, on_tiles):
    """Feed-forward products, `cores` of them at once on a thread each, as a Work.

    `on_tiles`: with our own kernel over packed weights instead of TensorFlow's product.
    """
    shape, repeats = (rows, config.hidden_size, config.intermediate_size), 8
    off = tf.GraphOptions(rewrite_options=rewriter_config_pb2.RewriterConfig(
        disable_meta_optimizer=True))   # else equal products are computed once
    with tf.Graph().as_default():
        last = []
        for _ in range(cores):
            left, right = (tf.cast(tf.random.normal(size), tf.as_dtype(precision))
                           for size in (shape[:2], shape[1:]))
            left, right = tf.Variable(left), tf.Variable(ops.pack(right) if on_tiles else right)
            chain = []
            for _ in range(repeats):
                with tf.control_dependencies(chain[-1:]):
                    chain.append((tile_product if on_tiles else tf.matmul)(left, right).op)
            last.append(chain[-1])
        session = tf.Session(config=tf.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores, graph_options=off))
        session.run(tf.global_variables_initializer())
        return Work(session, tf.group(last), 2 * math.prod(shape) * repeats * cores)


def limits(config, rows, precision, cores):
    """{name: Work} of products alone: TensorFlow's, and ours where there is one; see `products`."""
    works = {"TensorFlow's product": products(config, rows, precision, cores, False)}
    shape = [config.hidden_size, config.intermediate_size]
    if packing.can_pack(shape, tf.as_dtype(precision)):
        works["our product"] = products(config, rows, precision, cores, True)
    return works


def tile_product(left, packed):
    """The product alone, without bias, activation or dropout."""
    none = tf.zeros([0, 0], left.dtype)
    return ops.linear(left, packed, none, tf.zeros([0]), None, "linear", 0.0,
                      tf.constant(0, tf.int64), trains=False)


def copy_rate(cores):
    """Bytes a second, read and written, of copies of large arrays, a thread a core."""
    pairs = [(np.ones(COPIED_BYTES, np.uint8), np.ones(COPIED_BYTES, np.uint8))
             for _ in range(cores)]
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        times = []
        for _ in range(STEPS):
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(*pair), pairs))
            times.append(time.perf_counter() - start)
    return 2 * COPIED_BYTES * cores / statistics.median(times)


def measure(works):
    """What is measured of {name: Work}, in turn, the first being the step.

    Returns:
      [{name: FLOP a second}] a round, their medians {name: FLOP a second}, and the medians of the
      step's share of the others, {name: share}.
    """
    for work in works.values():
        work.seconds(WARM_UP)
    rounds = [{name: work.rate() for name, work in works.items()} for _ in range(ROUNDS)]
    step, *others = works
    return (rounds, {name: statistics.median(rates[name] for rates in rounds) for name in works},
            {name: statistics.median(rates[step] / rates[name] for rates in rounds)
             for name in others})


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=56)
    graph.add_options(parser)
    parser.add_argument("--name", help="write docs/benchmarks/CPU/NAME.json")
    parser.add_argument("--least_share", type=float, default=0.0,
                        help="exit with 1 where the products' share of the limit is below")
    options = parser.parse_args()
    tf.disable_eager_execution()
    config = read_config(f"{options.bert_dir}/bert_config.json")
    session, step, model, chosen = graph.build(
        options, random_batch(options.tokens, config.vocab_size), BATCH)
    precision = model.precision
    cores, rows = len(os.sched_getaffinity(0)), BATCH * options.tokens // chosen.towers
    works = {"a step": Work(session, step, step_flop(config, options.tokens)),
             **limits(config, rows, precision, cores)}
    rounds, rates, shares = measure(works)
    seconds, memory = works["a step"].flop / rates["a step"], copy_rate(cores)
    kinds = by_kind(session, step)
    total = sum(milliseconds for _, milliseconds, _ in kinds)
    print(f"{chosen.line(precision)}, {BATCH} x {options.tokens} tokens")
    for kind, milliseconds, count in kinds[:SHOWN]:
        print(f"  {kind:<28} {milliseconds:8.2f} ms {milliseconds / total:6.1%} {count:5}")
    print(f"a step {seconds * 1000:.1f} ms, {BATCH / seconds:.0f} examples/s, "
          f"{rates['a step'] / 1e9:.0f} GFLOP/s of products; memory is copied at "
          f"{memory / 1e9:.1f} GB/s")
    for name, share in shares.items():
        print(f"  {name} alone does {rates[name] / 1e9:.0f} GFLOP/s; a step does {share:.1%} of it")
    share = min(shares.values())
    if options.name:
        sides.write(options.name, {
            "engine": chosen.line(precision), "tokens": options.tokens, "seconds": seconds,
            "flop_per_second": rounds, "copied_bytes_per_second": memory,
            "milliseconds": {kind: [ms, count] for kind, ms, count in kinds}}, [
                (f"{options.name}: examples a second", BATCH / seconds, None),
                *((f"{options.name}: a step's products, share of the rate of {name} alone", value,
                   options.least_share if value == share else None)
                  for name, value in shares.items())])
    sys.exit(int(share < options.least_share))


if __name__ == "__main__":
    main()
