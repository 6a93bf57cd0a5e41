"""Where the time of a training step goes, by kind of operation, and how far that is from the limit.

    python benchmarks/step_profile.py --bert_dir=DIR [--tokens=56] [--precision=auto]

The limit: the rate of this machine's matrix products in that precision, measured in the same call
on every core at once, in the shapes of this BERT: TensorFlow's own product, and ours.
"""
import argparse
import collections
import concurrent.futures
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import graph
import numpy as np
import sides
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from adapter_bert.kernels import ops, packing
from adapter_bert.training import setup

BATCH, WIDTH, ADAPTER_PRODUCTS = 32, 64, 3
SHOWN, STEPS, WARM_UP, COPIED_BYTES = 20, 15, 3, 1 << 28


def step_flop(config, tokens):
    """FLOP of a step's products: forward, gradients of inputs, and gradients of adapters.

    The two products of attention are counted; those of the pooler and the head are left out.
    """
    width, inner = config.hidden_size, config.intermediate_size
    frozen = 4 * width * width + 2 * width * inner
    adapters = 2 * 2 * width * WIDTH
    attention = 2 * tokens * width
    a_token = 2 * frozen + ADAPTER_PRODUCTS * adapters + 3 * attention
    return 2 * a_token * config.num_hidden_layers * BATCH * tokens


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


def seconds_of(session, step, count):
    """The median seconds of a step."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        session.run(step)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


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


def product_rate(config, rows, precision, cores, on_tiles):
    """FLOP a second of the feed-forward products, `cores` of them at once on a thread each.

    `on_tiles`: with our own kernel over packed weights instead of TensorFlow's product.
    """
    shape, repeats = (rows, config.hidden_size, config.intermediate_size), 8
    off = tf.GraphOptions(rewrite_options=rewriter_config_pb2.RewriterConfig(
        disable_meta_optimizer=True))   # else equal products are computed once
    with tf.Graph().as_default():
        products = []
        for _ in range(cores):
            left, right = (tf.cast(tf.random.normal(size), tf.as_dtype(precision))
                           for size in (shape[:2], shape[1:]))
            left, right = tf.Variable(left), tf.Variable(ops.pack(right) if on_tiles else right)
            chain = []
            for _ in range(repeats):
                with tf.control_dependencies(chain[-1:]):
                    chain.append((tile_product if on_tiles else tf.matmul)(left, right).op)
            products += chain
        with tf.Session(config=tf.ConfigProto(
                intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores,
                graph_options=off)) as session:
            session.run(tf.global_variables_initializer())
            everything = tf.group(products)
            seconds_of(session, everything, WARM_UP)
            seconds = seconds_of(session, everything, STEPS)
    return 2 * np.prod(shape, dtype=float) * repeats * cores / seconds


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


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=56)
    graph.add_options(parser)
    parser.add_argument("--name", help="write docs/benchmarks/NAME.json")
    parser.add_argument("--least_share", type=float, default=0.0,
                        help="exit with 1 where the products' share of the limit is below")
    options = parser.parse_args()
    tf.disable_eager_execution()
    config = setup.read_config(f"{options.bert_dir}/bert_config.json")
    session, step, model, chosen = graph.build(
        options, random_batch(options.tokens, config.vocab_size), BATCH)
    precision = model.precision
    seconds_of(session, step, WARM_UP)
    seconds, cores = seconds_of(session, step, STEPS), len(os.sched_getaffinity(0))
    rows = BATCH * options.tokens // chosen.towers
    limits = {"TensorFlow's": product_rate(config, rows, precision, cores, False)}
    if packing.can_pack([config.hidden_size, config.intermediate_size], tf.as_dtype(precision)):
        limits["our own"] = product_rate(config, rows, precision, cores, True)
    rate, memory = step_flop(config, options.tokens) / seconds, copy_rate(cores)
    kinds = by_kind(session, step)
    total = sum(milliseconds for _, milliseconds, _ in kinds)
    print(f"{chosen.line(precision)}, {BATCH} x {options.tokens} tokens")
    for kind, milliseconds, count in kinds[:SHOWN]:
        print(f"  {kind:<28} {milliseconds:8.2f} ms {milliseconds / total:6.1%} {count:5}")
    print(f"a step {seconds * 1000:.1f} ms, {BATCH / seconds:.0f} examples/s, "
          f"{rate / 1e9:.0f} GFLOP/s of products; memory is copied at {memory / 1e9:.1f} GB/s")
    for whose, limit in limits.items():
        print(f"  {whose} product alone does {limit / 1e9:.0f} GFLOP/s; a step does "
              f"{rate / limit:.1%} of that")
    share = rate / max(limits.values())
    if options.name:
        sides.write(options.name, {
            "engine": chosen.line(precision), "tokens": options.tokens, "seconds": seconds,
            "product_flop": step_flop(config, options.tokens), "limits_flop_per_second": limits,
            "copied_bytes_per_second": memory,
            "milliseconds": {kind: [ms, count] for kind, ms, count in kinds}}, [
                (f"{options.name}: examples a second", BATCH / seconds, None),
                *((f"{options.name}: the products' share of the rate of {whose} product alone",
                   rate / limit, options.least_share if limit == max(limits.values()) else None)
                  for whose, limit in limits.items())])
    sys.exit(int(share < options.least_share))


if __name__ == "__main__":
    main()
