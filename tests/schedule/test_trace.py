"""Traces: slots hold what is read from them, waves are valid and the fewest."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedasync_jax.schedule.trace import (
    assign_slots,
    make_lost_tasks,
    make_trace,
    make_waves,
    widen_store,
)

_REPEATABLE = settings(deadline=None, derandomize=True, max_examples=200)

_START_VERSIONS = st.lists(st.integers(0, 10**6), min_size=1, max_size=60).map(
    lambda draws: np.array([draw % (t + 1) for t, draw in enumerate(draws)])
)


@st.composite
def _problems(draw):
    """Start versions and last readers, some of whose versions stay alive."""
    start = draw(_START_VERSIONS)
    last_reader = np.full(len(start) + 1, -1)
    last_reader[start] = np.arange(len(start))
    stay = draw(st.lists(st.integers(0, len(start)), max_size=5))
    last_reader[np.array(stay, int)] = len(start) + draw(st.integers(0, 3))
    return start, last_reader


def _num_alive(last_reader: np.ndarray) -> int:
    """Count versions alive at once: made up to row t, still to be read after it."""
    version = np.arange(len(last_reader))
    rows = range(-1, len(last_reader) - 1)
    return int(max(((version <= t + 1) & (last_reader > t)).sum() for t in rows))


def _longest_chain(start: np.ndarray) -> int:
    """Longest chain of updates each of which needs the one before it.

    Version v exists after all rows below v, so row t needs the latest of rows
    0 .. start[t] - 1.
    """
    depth: list[int] = []
    for version in start.tolist():
        depth.append(1 + max(depth[:version], default=0))
    return max(depth)


@_REPEATABLE
@given(_problems())
def test_every_read_finds_its_version_row_by_row(problem):
    start, last_reader = problem
    read, write, num_slots = assign_slots(start, last_reader)
    assert read.dtype == write.dtype == np.int32
    store = {0: 0}
    for t, version in enumerate(start.tolist()):
        assert store[int(read[t])] == version
        if write[t] < num_slots:
            store[int(write[t])] = t + 1
    kept = [v for v, last in enumerate(last_reader) if last >= len(start)]
    assert set(kept) <= set(store.values())


@_REPEATABLE
@given(_problems(), st.sampled_from([None, 1, 2, 3, 7]))
def test_every_read_finds_its_version_wave_by_wave(problem, max_width):
    """As the engine does it: all reads of a wave, then all its writes at once."""
    start, last_reader = problem
    read, write, num_slots = assign_slots(start, last_reader)
    store = {0: 0}
    for begin, end in make_waves(start, max_width):
        for t in range(begin, end):
            assert store[int(read[t])] == start[t]
        written = [int(slot) for slot in write[begin:end] if slot < num_slots]
        assert len(set(written)) == len(written)  # else the order would matter
        for t in range(begin, end):
            if write[t] < num_slots:
                store[int(write[t])] = t + 1


@_REPEATABLE
@given(_problems())
def test_no_fewer_slots_would_do(problem):
    start, last_reader = problem
    _, write, num_slots = assign_slots(start, last_reader)
    assert num_slots == _num_alive(last_reader)
    unread = last_reader[1:] < np.arange(1, len(start) + 1)
    np.testing.assert_array_equal(write == num_slots, unread)


def test_slots_of_an_example():
    """Two tasks in flight: version 0 twice, then each arrival starts the next."""
    start = np.array([0, 0, 1, 2])
    last_reader = np.array([1, 2, 3, 4, 4])
    read, write, num_slots = assign_slots(start, last_reader)
    assert read.tolist() == [0, 0, 1, 0]
    assert write.tolist() == [1, 0, 1, 0]
    assert num_slots == 2


@_REPEATABLE
@given(_START_VERSIONS, st.sampled_from([None, 1, 2, 3, 7]))
def test_waves_partition_the_rows_and_start_from_what_exists(start, max_width):
    waves = list(make_waves(start, max_width))
    assert waves[0][0] == 0
    assert waves[-1][1] == len(start)
    assert [end for _, end in waves[:-1]] == [begin for begin, _ in waves[1:]]
    for begin, end in waves:
        assert 0 < end - begin <= (max_width or len(start))
        assert (start[begin:end] <= begin).all()
        cut = end == len(start) or end - begin == max_width
        assert cut or start[end] > begin  # as long as it can be


@_REPEATABLE
@given(_START_VERSIONS)
def test_waves_are_as_many_as_the_longest_chain(start):
    assert len(list(make_waves(start))) == _longest_chain(start)


@_REPEATABLE
@given(_START_VERSIONS, st.sampled_from([None, 1, 3]), st.data())
def test_waves_resume(start, max_width, data):
    waves = list(make_waves(start, max_width))
    done = data.draw(st.integers(0, len(waves)))
    begin = waves[done][0] if done < len(waves) else len(start)
    assert list(make_waves(start, max_width, begin)) == waves[done:]


@_REPEATABLE
@given(_START_VERSIONS, st.data())
def test_waves_may_begin_at_any_row(start, data):
    first = data.draw(st.integers(0, len(start) - 1))
    rows = []
    for begin, end in make_waves(start, begin=first):
        assert (start[begin:end] <= begin).all()
        rows.extend(range(begin, end))
    assert rows == list(range(first, len(start)))


def test_waves_of_extremes():
    serial = np.arange(5)
    assert list(make_waves(serial)) == [(t, t + 1) for t in range(5)]
    assert list(make_waves(np.zeros(5, int))) == [(0, 5)]
    assert list(make_waves(np.zeros(5, int), 2)) == [(0, 2), (2, 4), (4, 5)]


@pytest.mark.parametrize("version", [-1, 3])
def test_waves_of_an_impossible_trace_are_an_error(version):
    with pytest.raises(ValueError) as error:
        list(make_waves(np.array([0, 1, version, 0])))
    assert str(error.value) == f"start_version[2] must be in 0..2, got {version}"


def test_trace_types_its_columns_and_defines_staleness():
    trace = make_trace(
        client=np.array([3, 1, 3]),
        task=np.array([1, 0, 2]),
        start_version=np.array([0, 0, 1]),
        start_time=np.array([0, 0, 1]),
        arrival_time=np.array([1, 2, 3]),
        num_steps=np.array([5, 5, 5]),
        last_reader=np.array([1, 2, -1, -1]),
    )
    assert trace.num_updates == 3
    assert trace.staleness.tolist() == [0, 1, 1]
    assert trace.staleness.dtype == np.int32
    assert set(trace.columns()) == {
        field.name for field in dataclasses.fields(trace)
    } - {"num_slots", "lost", "ended"}
    for name, column in trace.columns().items():
        is_time = name.endswith("_time")
        assert column.dtype == (np.float64 if is_time else np.int32), name
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.num_slots = 7  # pyright: ignore[reportAttributeAccessIssue]


def test_devices_are_counted_where_tasks_overlap_and_lost_ones_too():
    rows = np.arange(4)
    trace = make_trace(
        client=rows,
        task=rows,
        start_version=np.array([0, 0, 1, 2]),
        start_time=np.array([0, 0, 1, 2]),
        arrival_time=np.array([1, 2, 3, 4]),
        num_steps=np.ones(4),
        last_reader=np.array([1, 2, 3, -1, -1]),
    )
    assert trace.count_devices() == 2  # a task that ends gives its place to the next
    lost = make_lost_tasks(
        client=np.array([4, 5]),
        task=np.array([4, 5]),
        start_time=np.array([0.5, 1.5]),
        end_time=np.array([1.5, 2.5]),
    )
    assert dataclasses.replace(trace, lost=lost).count_devices() == 3


def test_the_ends_of_all_waves_are_found_in_one_search(monkeypatch):
    """A search per wave converts the whole column each time: quadratic in T."""
    searches, search = [], np.searchsorted

    def count(*args, **kwargs):
        searches.append(len(args[0]))
        return search(*args, **kwargs)

    monkeypatch.setattr(np, "searchsorted", count)
    starts = np.maximum(np.arange(1000) - 2, 0).astype(np.int32)
    assert len(list(make_waves(starts))) > 300
    assert searches.count(1000) == 1 and sum(searches) < 1100


def test_a_wider_store_changes_nothing_but_the_mark_of_what_nobody_reads():
    start = np.array([0, 0, 1, 1, 3])
    last_reader = np.array([1, 3, -1, 4, -1, -1])
    trace = make_trace(
        client=np.arange(5),
        task=np.arange(5),
        start_version=start,
        start_time=np.zeros(5),
        arrival_time=np.arange(5.0),
        num_steps=np.ones(5),
        last_reader=last_reader,
    )
    wide = widen_store(trace, trace.num_slots + 3)
    nobody = trace.write_slot == trace.num_slots
    assert nobody.any() and not nobody.all()
    assert np.array_equal(wide.write_slot == wide.num_slots, nobody)
    assert np.array_equal(wide.write_slot[~nobody], trace.write_slot[~nobody])
    assert wide.write_slot.dtype == trace.write_slot.dtype
    assert np.array_equal(wide.read_slot, trace.read_slot)
    with pytest.raises(ValueError, match=f"num_slots must be >= {trace.num_slots}"):
        widen_store(trace, trace.num_slots - 1)
