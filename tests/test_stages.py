"""Stages of a request: order, errors, cancelling, and that nothing is kept."""
import concurrent.futures
import gc
import weakref

import pytest

from adapter_bert.serve.stages import Stages


class Result:
    """Something large."""


@pytest.fixture(name="pool")
def fixture_pool():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield pool


def test_each_stage_gets_all_results_before(pool):
    stages = Stages(lambda: pool.submit(lambda: 1), lambda one: pool.submit(lambda: one + 1),
                    lambda one, two: pool.submit(lambda: (one, two)))
    assert stages.outcome.result() == (1, 2)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_of_any_stage_is_the_outcome(pool, place):
    def stage(number):
        return lambda *_: pool.submit(lambda: 1 / (number != place))
    with pytest.raises(ZeroDivisionError):
        Stages(*map(stage, range(3))).outcome.result()


def test_a_stage_that_cannot_start_is_the_outcome(pool):
    with pytest.raises(ZeroDivisionError):
        Stages(lambda: pool.submit(int), lambda one: 1 / one).outcome.result()


def test_cancelling_cancels_what_waits_and_what_follows():
    first, second = concurrent.futures.Future(), concurrent.futures.Future()
    stages = Stages(lambda: first, lambda one: second, lambda *_: pytest.fail("was started"))
    assert stages.outcome.cancel() and first.cancelled()
    first = concurrent.futures.Future()
    first.set_running_or_notify_cancel()
    stages = Stages(lambda: first, lambda one: second, lambda *_: pytest.fail("was started"))
    assert stages.outcome.cancel() and not first.cancelled()
    first.set_result(1)
    assert second.cancelled()   # it was started, so that it gives up what it had reserved


@pytest.mark.parametrize("ending", ["result", "error", "cancel"])
def test_nothing_waits_for_the_garbage_collector(ending):
    first, second = concurrent.futures.Future(), concurrent.futures.Future()
    gc.disable()
    try:
        stages = Stages(lambda first=first: first, lambda one, second=second: second)
        result, other = Result(), Result()
        kept = [weakref.ref(result), weakref.ref(other), weakref.ref(stages)]
        first.set_result(result)
        if ending == "result":
            second.set_result(other)
        elif ending == "error":
            second.set_exception(ValueError("x"))
        else:
            assert stages.outcome.cancel()
        del stages, first, second, result, other
        assert [one() for one in kept] == [None, None, None]
    finally:
        gc.enable()
