"""Processes that share a real key-value store of JAX; threads stand for two of them."""

import functools
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from jax._src import distributed
from jax.sharding import Mesh

from fedasync_jax.engine.processes import (
    Processes,
    ProcessFailed,
    find_processes,
    find_processes_of,
)
from fedasync_jax.engine.sharing import share_arrays, take_local


class _Agreed(ValueError):
    is_agreed = True


def _in_both(first, second):
    """Return what two functions return, or raise, at the same time."""

    def try_it(fn):
        try:
            return fn()
        except BaseException as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(try_it, (first, second)))


@pytest.fixture
def pair():
    """Two processes of one run."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    states = [distributed.State(), distributed.State()]
    join = functools.partial(
        distributed.State.initialize,
        coordinator_address=address,
        num_processes=2,
        cluster_detection_method="deactivate",
    )
    service = jax.config.values["jax_enable_preemption_service"]
    jax.config.update("jax_enable_preemption_service", False)
    _in_both(*[functools.partial(join, s, process_id=i) for i, s in enumerate(states)])
    jax.config.update("jax_enable_preemption_service", service)
    yield [Processes(state.client, i, 2) for i, state in enumerate(states)]
    _in_both(*[state.shutdown for state in states])


def test_one_process_decides_alone():
    alone = find_processes()
    assert (alone.index, alone.count, alone.is_first) == (0, 1, True)
    assert alone.lead(lambda: 3) == 3
    assert alone.gather((1, 2)) == [(1, 2)]
    assert alone.agree_to_stop(True) and not alone.agree_to_stop(False)
    assert alone.try_in_all(lambda: 4) == 4
    with pytest.raises(KeyError), alone.together():
        raise KeyError
    assert share_arrays("any") == "any" and take_local("any") == "any"


def test_all_hear_what_process_0_says(pair):
    first, second = pair
    for value in (3, {"a": [1.5, None]}, [0.1 + 0.2]):
        heard = _in_both(
            lambda v=value: first.lead(lambda: v), lambda: second.lead(lambda: 0)
        )
        assert heard == [value, value]
    for values in ((1, 2), ((0.5, 1), None)):  # as JSON has them, in all alike
        own = [
            functools.partial(p.gather, v) for p, v in zip(pair, values, strict=True)
        ]
        assert _in_both(*own) == [[*map(_as_json, values)]] * 2


def _as_json(value):
    return list(value) if isinstance(value, tuple) else value


def test_many_messages_are_forgotten_only_when_they_were_heard(pair, monkeypatch):
    monkeypatch.setattr("fedasync_jax.engine.processes._BLOCK", 4)
    first, second = pair
    for number in range(30):
        heard = _in_both(
            lambda n=number: first.lead(lambda: n), lambda: second.lead(lambda: -1)
        )
        assert heard == [number, number]
    kept = first._client.key_value_dir_get("fedasync/said/")
    assert 4 <= len(kept) <= 12


@pytest.mark.parametrize("who", [0, 1])
def test_any_process_stops_all(pair, who):
    def ask(index, wants):
        return functools.partial(pair[index].agree_to_stop, wants)

    assert _in_both(ask(0, False), ask(1, False)) == [False, False]
    stops = [False, False]
    for _ in range(2):  # process 0 may be ahead of the other's wish, once
        stops = _in_both(ask(0, who == 0), ask(1, who == 1))
        if any(stops):
            break
    assert stops == [True, True]
    assert _in_both(ask(0, False), ask(1, False)) == [False, False]  # heeded once


def test_a_failure_of_process_0_ends_the_other_wherever_it_waits(pair):
    first, second = pair

    def fail():
        with first.together():
            raise OSError("disk full")

    def wait():
        with second.together():
            second.gather(1)

    errors = _in_both(fail, wait)
    assert isinstance(errors[0], OSError)
    assert isinstance(errors[1], ProcessFailed)
    assert str(errors[1]) == "process 0: disk full"


@pytest.mark.parametrize("waits_in", ["gather", "agree_to_stop"])
def test_a_failure_of_another_process_ends_process_0(pair, waits_in):
    first, second = pair

    def wait():
        with first.together():
            if waits_in == "gather":
                first.gather(1)
            while not first.agree_to_stop(False):
                time.sleep(0.01)

    def fail():
        with second.together():
            raise KeyboardInterrupt

    errors = _in_both(wait, fail)
    assert str(errors[0]) == "process 1: it was interrupted"
    # A third one hears it too, after what process 0 has said before.
    with pytest.raises(ProcessFailed, match="process 1: it was interrupted"):
        for _ in range(1000):
            second.lead(lambda: None)


def test_what_one_process_cannot_do_none_does(pair):
    def refuse():
        raise ValueError("no such file")

    first, second = pair
    errors = _in_both(
        lambda: first.try_in_all(lambda: 1), lambda: second.try_in_all(refuse)
    )
    assert str(errors[0]) == "process 1: no such file"
    assert isinstance(errors[1], ValueError) and str(errors[1]) == "no such file"
    done = _in_both(*[lambda p=p: p.try_in_all(lambda: p.index) for p in pair])
    assert done == [0, 1]  # they go on in step


def test_what_all_raise_is_told_to_nobody(pair):
    def stop(processes):
        with processes.together():
            raise _Agreed

    _in_both(*[functools.partial(stop, p) for p in pair])
    heard = _in_both(*[lambda p=p: p.lead(lambda: p.index) for p in pair])
    assert heard == [0, 0]


def test_process_0_leaves_last(pair):
    first, second = pair
    begin = time.monotonic()
    first.part(0.05)  # nobody else does
    assert time.monotonic() - begin >= 0.04  # the store counts in milliseconds
    order = []

    def leave(processes, seconds):
        time.sleep(seconds)
        processes.part(60)
        order.append(processes.index)

    _in_both(lambda: leave(first, 0), lambda: leave(second, 1))
    assert order == [1, 0]


def test_a_mesh_of_this_process_needs_no_other():
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    assert find_processes_of(mesh).count == find_processes_of(None).count == 1
