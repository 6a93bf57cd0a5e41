"""Compiled kernels against the plain formulas: values, gradients, odd shapes, extreme inputs."""
import functools
import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from adapter_bert import kernels
from adapter_bert.bert import modeling
from adapter_bert.compute import Places
from adapter_bert.kernels import library, ops, packing

TYPES = (tf.float32, tf.bfloat16)
# Largest difference, as a share of the largest value: rounding of the type that goes in and out.
TOLERANCE = {tf.float32: 3e-6, tf.bfloat16: 1e-2}
SHAPES = ([1, 1, 1], [2, 3, 16], [1, 5, 17], [3, 1, 40], [2, 7, 100])


@pytest.fixture(name="loaded", autouse=True, scope="module")
def fixture_loaded():
    try:
        kernels.load()
    except kernels.UnavailableError as error:
        pytest.skip(f"no compiled kernels: {error}")


def fused():
    return kernels.fused_formulas(Places(0).next_seed)


def normal(seed, shape, dtype, scale=1.0):
    """Numbers that both types hold, so that only what a kernel does can differ."""
    values = np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)
    return tf.cast(tf.cast(values, tf.bfloat16), dtype)


def values_and_gradients(function, arguments, upstream):
    result = function(*arguments)
    gradients = tf.gradients(result, arguments, upstream)
    return [tf.cast(tensor, tf.float32) for tensor in (result, *gradients)]


def assert_equal(function, plain, arguments, upstream, tolerance, record_property):
    """`plain` is computed in float32, from the same numbers."""
    exact = [tf.cast(argument, tf.float32) for argument in arguments]
    pairs = [values_and_gradients(function, arguments, upstream),
             values_and_gradients(plain, exact, tf.cast(upstream, tf.float32))]
    with tf.Session() as session:
        found, wanted = session.run(pairs)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape and np.isfinite(one).all()
        if one.size:
            difference = np.abs(one - other).max() / max(np.abs(other).max(), 1e-30)
            record_property("largest difference, relative", float(difference))
            assert difference <= tolerance


@pytest.mark.parametrize("dtype,name", itertools.product(TYPES, ops.FORMS))
@pytest.mark.parametrize("rows,inner,width", [
    ([1, 1], 32, 32), ([2, 3], 7, 20), ([3, 11], 64, 160), ([1, 64], 96, 32), ([1, 5], 1600, 448)])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_linear(dtype, name, rows, inner, width, is_frozen, record_property):
    kernel = tf.get_variable("kernel", initializer=normal(1, [inner, width], dtype, inner ** -0.5),
                             trainable=not is_frozen)
    x, bias = normal(0, [*rows, inner], dtype), normal(2, [width], tf.float32)
    residual, formulas = normal(4, [*rows, width], dtype), fused()
    arguments = [x, bias, residual] + [kernel] * (not is_frozen)
    upstream = normal(3, [*rows, width], dtype)
    y = formulas.linear(x, kernel, bias, name, residual=residual)
    found = [y, *tf.gradients(y, arguments, upstream)]
    exact = [tf.cast(argument, tf.float32) for argument in (x, bias, residual, kernel)]
    y = modeling.plain_formulas().linear(exact[0], exact[3], exact[1], name, residual=exact[2])
    wanted = [y, *tf.gradients(y, exact[:len(arguments)], tf.cast(upstream, tf.float32))]
    on_tiles = any(op.type == "AdapterBertLinear" for op in x.graph.get_operations())
    assert on_tiles == (dtype == tf.bfloat16 and inner % 32 == 0 and library.has_tiles())
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        pairs = list(zip(*session.run([found, wanted]), strict=True))
    for one, other in pairs:
        difference = np.abs(np.float32(one) - other).max() / np.abs(other).max()
        record_property("largest difference, relative", float(difference))
        assert one.shape == other.shape and difference <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype,shape,name", itertools.product(TYPES, SHAPES, ops.FORMS))
def test_activate(dtype, shape, name, record_property):
    arguments = [normal(0, shape, dtype, 3), normal(1, shape[-1:], tf.float32)]
    assert_equal(functools.partial(ops.activate, name=name),
                 functools.partial(modeling.activate, name=name), arguments,
                 normal(2, shape, dtype), TOLERANCE[dtype], record_property)


@pytest.mark.parametrize("dtype,shape", itertools.product(TYPES, SHAPES[1:]))
def test_add_norm(dtype, shape, record_property):
    arguments = [normal(0, shape, dtype), normal(1, shape, dtype),
                 normal(2, shape[-1:], tf.float32), normal(3, shape[-1:], tf.float32)]
    assert_equal(fused().add_norm, modeling.add_norm, arguments, normal(4, shape, dtype),
                 TOLERANCE[dtype], record_property)


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("shape", [[], [0], [5], [2, 7, 33]])
def test_sums_of_bfloat16_by_tensorflows_own_name(count, shape):
    """What is summed is left as it was, though the sum may lie in the place of an input."""
    arrays = [normal(seed, shape, tf.bfloat16) for seed in range(count)]
    total = tf.raw_ops.AddN(inputs=[array + 0 for array in arrays])
    with tf.Session() as session:
        found, *given = session.run([tf.cast(x, tf.float32) for x in (total, *arrays)])
    assert found.shape == tuple(shape)
    assert np.allclose(found, np.sum(given, axis=0), atol=0.02 * (count - 1), rtol=0)


def test_a_sum_of_other_sizes_is_refused():
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match="same size"):
        session.run(tf.raw_ops.AddN(inputs=[tf.placeholder_with_default(tf.ones(
            [size], tf.bfloat16), None) for size in (3, 4)]))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("batch,tokens,heads,width", [
    (1, 1, 1, 16), (2, 5, 3, 8), (2, 16, 2, 32), (3, 49, 2, 24), (1, 97, 1, 64), (1, 130, 2, 32),
    (2, 1, 2, 32), (2, 15, 3, 32), (2, 17, 2, 32), (2, 33, 2, 64), (2, 40, 3, 32), (2, 49, 2, 32)])
def test_attend(dtype, batch, tokens, heads, width, record_property):
    shape = [batch, tokens, heads * width]
    bias = np.zeros([batch, tokens], np.float32)
    bias[0, tokens // 2 + 1:] = modeling.MASKED
    arguments = [normal(seed, shape, dtype, 2) for seed in range(3)]
    settings = {"bias": tf.constant(bias), "heads": heads, "rate": 0.0}
    assert_equal(functools.partial(fused().attend, **settings),
                 functools.partial(modeling.plain_formulas().attend, **settings), arguments,
                 normal(3, shape, dtype), TOLERANCE[dtype], record_property)


@pytest.mark.parametrize("dtype,heads", itertools.product(TYPES, (1, 2)))
def test_dropout_of_attention_is_that_of_its_gradient(dtype, heads):
    """The context is linear in the values, so its gradient times them is the context's own sum."""
    shape = [2, 37, 32]
    query, key, value, upstream = (normal(seed, shape, dtype) for seed in range(4))
    context = fused().attend(query, key, value, tf.zeros([2, 37]), heads, 0.3)
    again = fused().attend(query, key, value, tf.zeros([2, 37]), heads, 0.3)
    undropped = fused().attend(query, key, value, tf.zeros([2, 37]), heads, 0.0)
    gradient = tf.gradients(context, value, upstream)[0]
    tf.train.get_or_create_global_step()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        found = session.run([context, again, undropped, value, upstream, gradient])
    context, again, undropped, value, upstream, gradient = (np.float64(x) for x in found)
    assert np.array_equal(context, again) and np.abs(context - undropped).max() > 0.1
    assert abs((context * upstream).sum() - (value * gradient).sum()) < (
        1e-3 if dtype == tf.float32 else 0.3)


def test_slopes_of_attention_with_dropout(record_property):
    """Against differences of values; the seed, and so the mask, is that of both."""
    shape, step = [1, 6, 16], 1e-2
    tensors = [normal(seed, shape, tf.float32) for seed in range(3)]
    upstream, seed = normal(3, shape, tf.float32), tf.constant(5, tf.int64)

    def score(arguments):
        return tf.reduce_sum(upstream * ops.attend(*arguments, tf.zeros([1, 6]), 1, 0.2, seed))
    gradients = tf.gradients(score(tensors), tensors)
    with tf.Session() as session:
        for position, gradient in enumerate(gradients):
            direction = normal(7, shape, tf.float32)
            ends = [score([x + sign * step * direction * (i == position)
                           for i, x in enumerate(tensors)]) for sign in (1, -1)]
            up, down, slope = session.run([*ends, tf.reduce_sum(gradient * direction)])
            record_property("difference", float(abs((up - down) / (2 * step) - slope)))
            assert abs((up - down) / (2 * step) - slope) < 2e-3 * max(1, abs(slope))


@pytest.mark.parametrize("dtype,width", itertools.product(TYPES, (3, 16, 48, 1000)))
def test_dropout_drops_its_share_and_its_gradient_the_same(dtype, width):
    x = tf.ones([300, width], dtype)
    bias = tf.zeros([width])
    dropped = ops.dropout(x, bias, 0.1, tf.constant(3, tf.int64))
    other = ops.dropout(x, bias, 0.1, tf.constant(4, tf.int64))
    gradient = tf.gradients(dropped, x, tf.ones_like(x))[0]
    with tf.Session() as session:
        first, second, slope = (np.float32(y) for y in session.run([dropped, other, gradient]))
    assert np.array_equal(first, slope)
    assert np.allclose(first[first > 0], 1 / 0.9, rtol=5e-3)
    assert abs((first == 0).mean() - 0.1) < 4 * (0.09 / first.size) ** 0.5
    agreement = np.mean((first == 0) == (second == 0))
    assert abs(agreement - 0.82) < 5 * (0.15 / first.size) ** 0.5


@pytest.mark.parametrize("dtype", TYPES)
def test_dropout_of_a_product_and_its_gradient_drop_the_same(dtype):
    """With the identity for a weight, rows of 1 become the mask, and so does a gradient of 1."""
    x = tf.ones([3, 15, 64], dtype)
    kernel = tf.eye(64, dtype=dtype)
    dropped = fused().linear(x, kernel, tf.zeros([64]), rate=0.1)
    undropped = fused().linear(x, kernel, tf.zeros([64]))
    slopes = tf.gradients(dropped, x)[0]
    tf.train.get_or_create_global_step()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        mask, ones, slopes = (np.float32(y) for y in session.run([dropped, undropped, slopes]))
    assert np.array_equal(mask, slopes) and (ones == 1).all()
    assert abs((mask == 0).mean() - 0.1) < 4 * (0.09 / mask.size) ** 0.5


def test_masks_of_neighbours_in_place_step_and_row_are_unlike():
    seeds = [(place << 32) + step for place in (7, 8) for step in (0, 1, 2)]
    masks = [ops.dropout(tf.ones([64, 384]), tf.zeros([0]), 0.5, tf.constant(seed, tf.int64))
             for seed in seeds]
    with tf.Session() as session:
        masks = [mask.ravel() > 0 for mask in session.run(masks)]
    count = masks[0].size
    shifts = (0, 1, 16, 32, 384)
    for one, other in itertools.combinations_with_replacement(range(len(masks)), 2):
        for shift in shifts[one == other:]:
            agreement = np.mean(masks[one][shift:] == masks[other][:count - shift])
            assert abs(agreement - 0.5) < 5 * 0.5 / count ** 0.5, (seeds[one], seeds[other], shift)


@pytest.mark.parametrize("dtype,name", itertools.product(TYPES, ("gelu", "gelu_erf")))
def test_extreme_inputs_make_no_nan(dtype, name):
    extremes = np.array([0.0, -0.0, 1e-38, -1e-38, 1e-45, 6.0, -6.0, 13.0, -13.0, 90.0, -90.0, 1e9,
                         -1e9, 1e19, -1e19, 3e38, -3e38], np.float32)
    x = tf.cast(extremes, dtype)
    y = ops.activate(x[None], tf.zeros([17]), name)
    slope = tf.gradients(y, x)[0]
    with tf.Session() as session:
        y, slope = (np.float64(value) for value in session.run([y[0], slope]))
    assert np.allclose(y[np.abs(extremes) > 10], np.maximum(extremes, 0)[np.abs(extremes) > 10],
                       rtol=1e-2)
    assert np.allclose(slope[np.abs(extremes) > 10], extremes[np.abs(extremes) > 10] > 0)
    assert np.isfinite(y).all() and np.isfinite(slope).all()


def test_a_nan_stays_a_nan():
    x = tf.constant([[np.nan, 1.0, 2.0]])
    with tf.Session() as session:
        found = session.run([
            ops.activate(x, tf.zeros([3]), "gelu"), ops.activate(x, tf.zeros([3]), "gelu_erf"),
            ops.add_norm(x, x, tf.ones([3]), tf.zeros([3])),
            tf.cast(ops.activate(tf.cast(x, tf.bfloat16), tf.zeros([3]), "gelu"), tf.float32)])
    assert all(np.isnan(y[0, 0]) for y in found)


@pytest.mark.parametrize("scale", [1e-20, 1e15])
def test_add_norm_of_tiny_and_large_rows(scale, record_property):
    x = normal(0, [4, 3, 48], tf.float32) * scale
    arguments = [x, tf.zeros_like(x), tf.ones([48]), tf.zeros([48])]
    assert_equal(fused().add_norm, modeling.add_norm, arguments, normal(4, [4, 3, 48], tf.float32),
                 1e-4, record_property)


@pytest.mark.parametrize("score", [1e4, -1e4, 1e30])
def test_attention_of_extreme_scores(score):
    query = tf.fill([1, 20, 16], tf.constant(abs(score) ** 0.5))
    value = normal(0, [1, 20, 16], tf.float32)
    context = fused().attend(query, query * np.sign(score), value, tf.zeros([1, 20]), 1, 0.0)
    gradients = tf.gradients(context, [query, value])
    with tf.Session() as session:
        context, value, gradients = session.run([context, value, gradients])
    assert np.allclose(context, value.mean(axis=1, keepdims=True), atol=1e-4)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_no_rows():
    x = tf.zeros([0, 5, 32])
    found = [fused().attend(x, x, x, tf.zeros([0, 5]), 2, 0.1),
             fused().add_norm(x, x, tf.ones([32]), tf.zeros([32])),
             fused().linear(x, tf.zeros([32, 32]), tf.zeros([32]), "gelu"),
             tf.cast(fused().linear(tf.cast(x, tf.bfloat16), tf.zeros([32, 32], tf.bfloat16),
                                    tf.zeros([32]), "gelu"), tf.float32),
             fused().dropout(x, 0.1)]
    tf.train.get_or_create_global_step()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert all(y.shape == (0, 5, 32) for y in session.run(found))


def test_what_kernels_do_not_cover_stays_plain():
    x = tf.ones([2, 3, 16])
    rows = tf.ones([2, 16])
    formulas = fused()
    results = [formulas.linear(x, tf.ones([16, 16]), rows, "gelu"),
               formulas.linear(x, tf.ones([2, 16, 16]), rows),
               formulas.linear(x, tf.ones([16, 16]), rows[0], "relu"),
               formulas.add_norm(x, x, rows, rows)]
    operations = {operation.type for operation in x.graph.get_operations()}
    assert results and not any(kind.startswith("AdapterBert") for kind in operations)


def test_a_missing_compiler_is_said(monkeypatch):
    monkeypatch.setattr(library, "COMPILERS", (("no-such-compiler",),))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(kernels.UnavailableError, match=r"no C compiler \(apt install gcc"):
        library.compiler()


def test_a_failing_compiler_is_said_and_nothing_left(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(kernels.UnavailableError, match="false cannot compile"):
        library.build(tmp_path / "kernels.so")
    assert not list(tmp_path.iterdir())


def test_the_cache_depends_on_the_source(monkeypatch, tmp_path):
    before = library.fingerprint()
    changed = tmp_path / "kernels.c"
    changed.write_bytes(library.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(library, "SOURCE", changed)
    assert library.fingerprint() != before


@pytest.mark.parametrize("dtype", TYPES)
def test_add_norm_with_weights_a_row(dtype):
    x, residual = normal(0, [3, 5, 40], dtype), normal(1, [3, 5, 40], dtype)
    gamma, beta = normal(2, [3, 40], tf.float32), normal(3, [3, 40], tf.float32)
    exact = [tf.cast(tensor, tf.float32) for tensor in (x, residual)]
    found = kernels.fused_formulas(None, trains=False).add_norm(x, residual, gamma, beta)
    with tf.Session() as session:
        one, other = session.run([tf.cast(found, tf.float32),
                                  modeling.add_norm(*exact, gamma, beta)])
    assert np.abs(one - other).max() <= TOLERANCE[dtype] * np.abs(other).max()
    assert found.op.type == "AdapterBertAddNorm"


needs_tiles = pytest.mark.skipif(
    not library.has_tiles(), reason="this CPU multiplies no pairs of bfloat16")


@needs_tiles
@pytest.mark.parametrize("name", [*ops.FORMS])
@pytest.mark.parametrize("batch,tokens,inner,width", [
    (1, 1, 32, 32), (3, 5, 64, 32), (4, 33, 32, 96), (5, 32, 384, 64), (0, 3, 32, 32)])
@pytest.mark.parametrize("has_residual", [True, False])
def test_linear_with_weights_a_row(name, batch, tokens, inner, width, has_residual):
    random = np.random.default_rng(0)
    weights = normal(0, [7, inner, width], tf.bfloat16, 0.1)
    x = normal(1, [batch, tokens, inner], tf.bfloat16)
    bias = normal(2, [batch, width], tf.float32)
    residual = normal(3, [batch, tokens, width], tf.bfloat16) if has_residual else None
    slots = random.integers(0, 7, batch).astype(np.int32)
    with tf.Session() as session:
        packed = [packing.packed_array(one) for one in session.run(weights)]
    addresses = np.array([one.ctypes.data for one in packed])
    found = ops.linear_rows(x, addresses[slots], bias, residual, name)
    exact = modeling.linear(modeling.random_dropout, tf.cast(x, tf.float32),
                            tf.gather(tf.cast(weights, tf.float32), slots), bias, name,
                            residual=None if residual is None else tf.cast(residual, tf.float32))
    with tf.Session() as session:
        one, other = session.run([tf.cast(found, tf.float32), exact])
    assert one.shape == other.shape == (batch, tokens, width)
    assert not batch or np.abs(one - other).max() <= 1e-2 * np.abs(other).max()


@needs_tiles
def test_no_rows_say_nothing_of_a_weight():
    kernel = tf.get_variable("kernel", initializer=normal(0, [64, 96], tf.bfloat16))
    y = fused().linear(tf.zeros([0, 5, 64], tf.bfloat16), kernel, tf.zeros([96]), "linear")
    gradient, = tf.gradients(y, kernel)
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        assert not session.run(gradient).any()


@needs_tiles
@pytest.mark.parametrize("shape", [(32, 32), (64, 96), (384, 64)])
def test_numpy_packs_as_the_kernel_does(shape):
    weights = normal(0, shape, tf.bfloat16)
    with tf.Session() as session:
        plain, packed = session.run([weights, ops.pack(weights)])
    found = packing.packed_array(plain)
    assert np.array_equal(found, packed) and found.ctypes.data % 64 == 0


@pytest.mark.parametrize("dtype", TYPES)
def test_fill_copies_rows_into_their_slots(dtype):
    first = np.zeros([5, 3, 4], np.float32)
    stack = tf.get_variable("stack", initializer=tf.cast(first, dtype), use_resource=False)
    rows = np.random.default_rng(0).normal(size=[2, 3, 4]).astype(dtype.as_numpy_dtype)
    filled = ops.fill(stack, tf.constant([4, 1]), tf.constant(
        [rows[0].ctypes.data, rows[1].ctypes.data], tf.int64))
    outside = ops.fill(stack, tf.constant([5]), tf.constant([rows.ctypes.data], tf.int64))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(filled).tolist() == [4, 1]
        found = session.run(tf.cast(stack, tf.float32))
        with pytest.raises(tf.errors.OutOfRangeError, match="slot"):
            session.run(outside)
    assert np.array_equal(found[4], rows[0].astype(np.float32))
    assert np.array_equal(found[1], rows[1].astype(np.float32))
    assert not found[[0, 2, 3]].any()
