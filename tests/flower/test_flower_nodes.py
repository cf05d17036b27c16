"""Who is asked: silent, slow and greedy nodes have bounded parts."""

import numpy as np
import pytest

from fedasync_jax.flower.coordinator import Coordinator
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.nodes import Roster

HONEST = range(1, 21)


def make(**limits):
    limits = {"min_deadline": 20.0, "deadline": 100.0, "back_off": 1.0, **limits}
    return Coordinator(Limits(**limits), np.random.default_rng(0))


def play(coordinator, seconds, seconds_of, nodes, begin=0.0):
    """Let nodes answer after their seconds, None never; return who answered when."""
    due, answered = {}, []
    for now in np.arange(begin, begin + seconds, 0.5):
        coordinator.expire(now)
        for message in [m for m, (at, _) in due.items() if at <= now]:
            _, task = due.pop(message)
            taken = coordinator.take(message, task.node, now)
            if taken is not None:
                coordinator.accept(taken, now)
                answered.append((now, task.node))
        while (task := coordinator.give_task(nodes, 0, now)) is not None:
            message = f"message {task.number}"
            coordinator.note_sent(task, message)
            if seconds_of(task.node) is not None:
                due[message] = now + seconds_of(task.node), task
    return answered


def five_seconds(node):
    return 5.0 if node in HONEST else None


def test_the_deadline_follows_what_is_seen_within_its_bounds():
    coordinator = make()
    assert coordinator.seconds_for(1) == 100.0  # nothing is known
    play(coordinator, 30, lambda node: 7.0, HONEST)
    assert coordinator.seconds_for(1) == 28.0
    quick, slow = make(), make()
    play(quick, 30, lambda node: 1.0, HONEST)
    play(slow, 200, lambda node: 60.0, HONEST)
    assert quick.seconds_for(1) == 20.0 and slow.seconds_for(1) == 100.0


def test_a_few_nodes_cannot_move_the_deadline_of_all():
    coordinator = make(max_in_flight=20)
    play(coordinator, 300, lambda node: 20.0 if node <= 4 else 6.0, HONEST)
    assert coordinator.seconds_for(20) == 24.0 and coordinator.seconds_for(1) == 80.0


def test_nobody_stretches_the_deadline_of_all_by_being_late():
    coordinator = make(max_in_flight=20)
    play(coordinator, 30, five_seconds, HONEST)
    play(coordinator, 900, lambda n: 90.0 if n <= 9 else 5.0, HONEST, begin=30.0)
    assert coordinator.counts["late"] >= 9
    assert coordinator.seconds_for(20) == 20.0 and coordinator.seconds_for(1) == 100.0


def test_silent_nodes_cost_their_own_part_only():
    """A third of the nodes never answer: four fifths of the updates stay."""
    nodes = range(1, 31)  # 21 to 30 are silent
    undisturbed = play(make(), 3600, five_seconds, HONEST)
    answered = play(make(), 3600, five_seconds, nodes)
    assert len(answered) >= 0.8 * len(undisturbed)
    assert np.diff([now for now, _ in answered]).max() <= 3 * 20


def test_silent_nodes_share_a_bounded_part_of_the_places():
    coordinator = make(max_silences=1000)
    nodes = range(1, 200)  # far more silent nodes than honest ones
    play(coordinator, 1500, five_seconds, nodes)
    silent = [t for t in coordinator.in_flight if t.node not in HONEST]
    assert len(silent) <= 2
    late = play(coordinator, 600, five_seconds, nodes, begin=1500.0)
    assert len(late) >= 0.7 * 600 / 5 * 8


def test_new_nodes_get_their_part_next_to_silent_ones():
    coordinator = make(max_silences=1000)
    play(coordinator, 300, five_seconds, [*HONEST, 77])

    def seconds_of(node):
        return 5.0 if node != 77 else None

    answered = play(coordinator, 600, seconds_of, [*HONEST, 77, 88], begin=300.0)
    assert sum(node == 88 for _, node in answered) > 10


def test_until_somebody_is_silent_all_are_drawn_alike():
    """Whoever was asked first has no advantage over those who were not."""
    coordinator = make()
    answered = play(coordinator, 2000, lambda node: 5.0, HONEST)
    counts = np.bincount([node for _, node in answered])[1:]
    assert counts.min() > 0.7 * counts.mean()


def test_a_silent_node_is_banned_after_a_while():
    coordinator = make(max_silences=2, max_bad_replies=2, max_back_off=1.0)
    play(coordinator, 1000, five_seconds, [*HONEST, 77])
    assert coordinator.is_banned(77)
    assert coordinator.counts["deadline"] == 4  # two for free, two bad ones


def test_nobody_is_blamed_while_nobody_answers():
    """The network may be gone."""
    coordinator = make(max_silences=0, max_bad_replies=1)
    play(coordinator, 20, five_seconds, HONEST)
    play(coordinator, 1000, lambda node: None, HONEST, begin=20.0)
    assert not any(coordinator.is_banned(node) for node in HONEST)
    assert play(coordinator, 600, five_seconds, HONEST, begin=1020.0)


def test_a_late_reply_forgives_silence_and_gives_more_time():
    coordinator = make(max_silences=0, max_bad_replies=1)
    play(coordinator, 20, five_seconds, [*HONEST])
    answered = play(
        coordinator, 400, lambda n: 40.0 if n == 77 else 5.0, [*HONEST, 77], begin=20.0
    )
    assert coordinator.counts["late"] == 1 and not coordinator.is_banned(77)
    assert coordinator.seconds_for(77) == 100.0 and coordinator.seconds_for(1) == 20.0
    assert any(node == 77 for _, node in answered)


def test_only_the_node_itself_can_break_its_silence():
    coordinator = make(deadline=20.0, max_silences=0)
    play(coordinator, 10, five_seconds, HONEST)
    task = coordinator.give_task([77], 0, 10.0)
    assert task is None  # all places are taken
    coordinator.finish(10.0)
    task = coordinator.give_task([77], 0, 10.0)
    assert task is not None
    coordinator.note_sent(task, "x")
    other = coordinator.give_task([1], 0, 10.5)
    assert other is not None
    coordinator.note_sent(other, "y")
    coordinator.accept(coordinator.take("y", 1, 15.0) or other, 15.0)
    assert coordinator.expire(40.0) == [task]
    assert coordinator.count_silences(77) == 1
    assert coordinator.take("x", None, 41.0) is None
    assert coordinator.count_silences(77) == 1


def test_those_who_hold_places_long_share_the_part_of_the_unproven():
    """They answer once in good time, and then as late as they may."""
    limits = {"deadline": 600.0, "max_share": 100.0}
    slow = range(101, 117)
    asked = dict.fromkeys(slow, 0)

    def seconds_of(node):
        if node in HONEST:
            return 5.0
        asked[node] += 1
        return 5.0 if asked[node] <= 2 else 590.0

    undisturbed = play(make(**limits), 3600, five_seconds, HONEST)
    answered = play(make(**limits), 3600, seconds_of, [*HONEST, *slow])
    honest = sum(node in HONEST for _, node in answered)
    assert honest >= 0.6 * len(undisturbed)


def test_a_node_has_no_more_than_its_share_of_the_weight():
    limits = {"max_in_flight": 20, "max_share": 3.0}
    quick = 20

    def seconds_of(node):
        return 0.5 if node == quick else 10.0

    def share(**more):
        coordinator = make(**{**limits, **more})
        answered = play(coordinator, 2000, seconds_of, HONEST)
        nodes = [node for now, node in answered if now > 1000]
        return nodes.count(quick) / len(nodes)

    assert share() <= 3.1 / len(HONEST) and share(max_share=100.0) > 0.4


def test_a_node_that_works_alone_is_not_held_back_by_its_share():
    coordinator = make(max_share=1.0)
    nodes = [1, 2, 3, 4]
    play(coordinator, 400, lambda node: 5.0, nodes)
    answered = play(
        coordinator, 4000, lambda n: 5.0 if n == 1 else None, nodes, begin=400.0
    )
    assert sum(node == 1 for _, node in answered) > 500


def test_a_new_run_knows_who_is_proven_and_who_is_silent():
    first = make(max_silences=2, max_bad_replies=9)
    play(first, 300, five_seconds, [*HONEST, 77])
    second = make(max_silences=2, max_bad_replies=9)
    second.restore(first.to_json(), first.lost)
    assert second.seconds_for(1) == first.seconds_for(1) == 20.0
    assert second.count_silences(77) == first.count_silences(77) > 0


def test_books_of_before_are_read():
    coordinator = make(max_bad_replies=2)
    content = {"next_number": 7, "nodes": [[5, 2], [6, 0]], "counts": {"late": 1}}
    coordinator.restore(content, [])
    assert coordinator.is_banned(5) and not coordinator.is_banned(6)
    assert coordinator.seconds_for(6) == 100.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_deadline", 0.0),
        ("deadline_factor", 1.0),
        ("unproven_share", 0.0),
        ("unproven_share", 1.5),
        ("max_silences", -1),
        ("clip_norm_ratio", 0.5),
        ("max_norm_ratio", 0.5),
        ("max_share", 0.5),
        ("max_undos", -1),
        ("hang_seconds", 0.0),
    ],
)
def test_limits_of_nodes_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


def test_who_was_mixed_before_explosions_more_often_than_others_falls_behind():
    roster = Roster(Limits(back_off=5.0, max_bad_replies=3))

    def drawn(nodes, now):
        rng = np.random.default_rng(0)
        return {roster.draw(nodes, now, rng) for _ in range(60)}

    roster.note_undone([1, 2], 0.0)
    roster.note_undone([1, 3], 100.0)
    assert drawn([1, 2, 3, 4], 101.0) == {2, 4}  # what 2 did is long ago
    assert drawn([1, 2, 3, 4], 105.0) == {2, 3, 4}
    assert drawn([1, 2, 3, 4], 110.0) == {1, 2, 3, 4}
    assert drawn([1], 101.0) == {1}  # nobody is there to be preferred
    assert drawn([1, 3], 101.0) == {3}
    roster[3].bad = 3  # and is banned
    assert drawn([1, 3], 101.0) == {1}
