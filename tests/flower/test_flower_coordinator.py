import json
from typing import Any

import numpy as np
import pytest

from fedasync_jax.flower.coordinator import Coordinator
from fedasync_jax.flower.limits import Limits
from fedasync_jax.schedule.trace import LOSS_REASONS


def make(**limits):
    return Coordinator(Limits(**limits), np.random.default_rng(0))


def give(coordinator, nodes, version=0, now=0.0):
    """Give out and send as many tasks as possible."""
    tasks = []
    while (task := coordinator.give_task(nodes, version, now)) is not None:
        coordinator.note_sent(task, f"message {task.number}")
        tasks.append(task)
    return tasks


def answer(coordinator, task, now=1.0) -> Any:
    return coordinator.take(f"message {task.number}", task.node, now)


def test_every_node_gets_a_task_before_one_gets_a_second():
    tasks = give(make(max_in_flight=6, max_per_node=2), [7, 8, 9])
    assert sorted(task.node for task in tasks[:3]) == [7, 8, 9]
    assert len(tasks) == 6
    assert [task.number for task in tasks] == list(range(6))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_in_flight": 3, "max_per_node": 2}, 3),
        ({"max_in_flight": 9, "max_per_node": 1}, 4),
        ({"max_in_flight": 9, "max_per_node": 2}, 8),
    ],
)
def test_tasks_in_flight_are_limited_in_all_and_per_node(limits, expected):
    coordinator = make(**limits)
    assert len(give(coordinator, range(4))) == expected
    assert len(coordinator.in_flight) == expected


def test_all_ready_nodes_are_drawn_about_equally():
    coordinator, counts = make(max_in_flight=1), dict.fromkeys(range(4), 0)
    for _ in range(400):
        (task,) = give(coordinator, range(4))
        counts[task.node] += 1
        coordinator.accept(answer(coordinator, task), 1.0)
    assert min(counts.values()) > 70


def test_a_task_is_answered_once():
    coordinator = make()
    (task,) = give(coordinator, [5])
    assert answer(coordinator, task) == task
    assert answer(coordinator, task) is None
    assert coordinator.give_task([5], 0, 1.0) is None  # before it is mixed
    coordinator.accept(task, 1.0)
    assert coordinator.give_task([5], 1, 1.0) is not None
    assert coordinator.take("never sent", 5, 1.0) is None
    assert coordinator.counts == {"unasked": 2}


def test_a_reply_of_another_node_is_nobodys():
    coordinator = make()
    (task,) = give(coordinator, [5])
    assert coordinator.take("message 0", 6, 1.0) is None
    assert coordinator.counts == {"wrong node": 1}
    assert coordinator.in_flight == [] and coordinator.lost[0].task == task


def test_staleness_is_limited_from_the_version_that_was_sent():
    coordinator = make(max_staleness=2)
    (task,) = give(coordinator, [5], version=3)
    assert [coordinator.is_too_stale(task, v) for v in (3, 5, 6)] == [False] * 2 + [
        True
    ]
    assert not make().is_too_stale(task, 10**6)


def test_what_is_past_its_deadline_is_lost_and_its_reply_late():
    coordinator = make(deadline=10.0)
    (task,) = give(coordinator, [5])
    assert coordinator.expire(9.9) == []
    assert coordinator.expire(10.0) == [task]
    assert coordinator.waiting() == ["message 0"]
    assert answer(coordinator, task, 12.0) is None
    assert coordinator.counts == {"deadline": 1, "late": 1}
    assert LOSS_REASONS[coordinator.lost[0].reason] == "timed out"
    assert len(coordinator.lost) == 1


def test_the_reply_to_a_task_that_was_given_up_is_not_waited_for_for_ever():
    coordinator = make(deadline=10.0)
    give(coordinator, [5])
    coordinator.expire(10.0)
    coordinator.expire(19.9)
    assert coordinator.waiting() == ["message 0"]
    coordinator.expire(20.0)
    assert coordinator.waiting() == []


def test_lost_work_goes_to_another_node_at_once():
    coordinator = make(max_in_flight=1)
    (task,) = give(coordinator, [5])
    coordinator.fail(answer(coordinator, task), "node left", 1.0)
    (again,) = give(coordinator, [5, 6], now=1.0)
    assert again.node == 6 and again.number == 1


def test_a_node_that_fails_is_asked_ever_more_rarely():
    coordinator, now, asked = make(back_off=2.0, max_back_off=16.0), 0.0, []
    while now < 60:
        for task in give(coordinator, [5], now=now):
            asked.append(now)
            coordinator.fail(answer(coordinator, task, now), "client error", now)
        now += 1.0
    assert asked == [0, 2, 6, 14, 30, 46]


def test_a_good_reply_forgives_the_faults_before_it():
    coordinator = make(back_off=2.0)
    for now in (0.0, 2.0):
        (task,) = give(coordinator, [5], now=now)
        coordinator.fail(answer(coordinator, task, now), "client error", now)
    (task,) = give(coordinator, [5], now=6.0)
    coordinator.accept(answer(coordinator, task, 6.0), 6.0)
    (task,) = give(coordinator, [5], now=6.0)
    coordinator.fail(answer(coordinator, task, 6.0), "client error", 6.0)
    assert not give(coordinator, [5], now=7.9) and give(coordinator, [5], now=8.0)


def test_a_node_with_too_many_bad_replies_is_never_asked_again():
    coordinator, now = make(max_bad_replies=2, back_off=1.0), 0.0
    for expected in (False, True):
        (task,) = give(coordinator, [5], now=now)
        taken = answer(coordinator, task, now)
        assert coordinator.reject(taken, "not finite", now) == expected
        now += 100
    assert not give(coordinator, [5], now=1e9)
    assert give(coordinator, [5, 6], now=1e9)[0].node == 6
    assert coordinator.counts == {"not finite": 2}
    assert [LOSS_REASONS[lost.reason] for lost in coordinator.lost] == ["failed"] * 2


def test_a_task_that_could_not_be_sent_is_a_fault_of_its_node():
    coordinator = make(back_off=5.0)
    task = coordinator.give_task([5], 0, 0.0)
    assert task is not None
    coordinator.note_unsent(task, 0.0)
    assert coordinator.in_flight == [] and coordinator.waiting() == []
    assert coordinator.give_task([5], 0, 4.9) is None
    assert LOSS_REASONS[coordinator.lost[0].reason] == "left"


def test_a_stale_reply_is_lost_without_blame():
    coordinator = make()
    (task,) = give(coordinator, [5])
    coordinator.drop(answer(coordinator, task), "too stale", 1.0)
    assert LOSS_REASONS[coordinator.lost[0].reason] == "late"
    assert give(coordinator, [5], now=1.0)


def test_nobody_there_and_nobody_ready_give_no_task():
    coordinator = make()
    assert coordinator.give_task([], 0, 0.0) is None
    assert give(coordinator, [5]) and coordinator.give_task([5], 0, 0.0) is None


def test_the_end_of_a_run_loses_what_is_in_flight():
    coordinator = make()
    give(coordinator, [5, 6])
    coordinator.finish(3.0)
    assert coordinator.in_flight == []
    assert {LOSS_REASONS[lost.reason] for lost in coordinator.lost} == {"unfinished"}


def test_a_new_run_knows_nodes_counts_and_task_numbers_but_no_tasks():
    first = make(max_bad_replies=1)
    tasks = give(first, [5, 6, 7])
    bad = next(task for task in tasks if task.node == 6)
    first.reject(answer(first, bad), "wrong shape", 1.0)
    second = make(max_bad_replies=1)
    second.restore(json.loads(json.dumps(first.to_json())), first.lost)
    assert second.nodes == first.nodes == [5, 6, 7]
    assert second.is_banned(6) and not second.is_banned(5)
    assert second.counts == first.counts and second.lost == first.lost
    assert second.in_flight == []
    given = give(second, [5, 6, 7, 8])
    assert sorted(task.node for task in given) == [5, 7, 8]
    assert min(task.number for task in given) == 3
    assert {task.node: task.client for task in given} == {5: 0, 7: 2, 8: 3}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_in_flight", 0),
        ("max_per_node", 0),
        ("max_staleness", -1),
        ("deadline", 0.0),
        ("deadline", float("nan")),
        ("max_bad_replies", 0),
        ("max_update_norm", 0.0),
        ("max_back_off", 1.0),
    ],
)
def test_limits_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


def test_random_lives_keep_the_books_in_order():
    """Whatever happens: limits hold, numbers are new, every task ends once."""
    rng = np.random.default_rng(1)
    limits = Limits(max_in_flight=5, max_per_node=2, deadline=9.0, back_off=1.0)
    coordinator = Coordinator(limits, rng)
    open_tasks, accepted, seen = {}, 0, set()
    for now in np.cumsum(rng.random(3000)):
        nodes = rng.choice(8, rng.integers(0, 8), replace=False).tolist()
        for task in give(coordinator, nodes, 0, now):
            assert task.number not in seen and task.node in nodes
            seen.add(task.number)
            open_tasks[task.number] = task
        assert len(coordinator.in_flight) <= 5
        per_node = [task.node for task in coordinator.in_flight]
        assert max(np.bincount(per_node), default=0) <= 2
        for task in coordinator.expire(now):
            del open_tasks[task.number]
        if open_tasks and rng.random() < 0.7:
            task = open_tasks.pop(int(rng.choice(list(open_tasks))))
            taken = answer(coordinator, task, now)
            assert taken == task
            match rng.integers(3):
                case 0:
                    coordinator.accept(taken, now)
                    accepted += 1
                case 1:
                    coordinator.fail(taken, "client error", now)
                case _:
                    coordinator.drop(taken, "too stale", now)
    lost = [task.task.number for task in coordinator.lost]
    assert accepted > 50 and len(lost) == len(set(lost))
    assert accepted + len(lost) + len(coordinator.in_flight) == len(seen)
