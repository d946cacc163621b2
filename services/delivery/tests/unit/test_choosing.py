"""Who goes next: rules of a claim."""

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia.ids import new_id
from koinonia_delivery.domain.choosing import (
    BEGIN_SECONDS,
    HORIZON_SECONDS,
    LEAD_SECONDS,
    LOOK_AGAIN_SECONDS,
    PACE,
    Candidate,
    Choice,
    Clock,
    Waking,
    choose,
)
from koinonia_delivery.domain.priorities import BROADCAST, PERSON, URGENT_BROADCAST

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BIG, SMALL = UUID(int=1), UUID(int=2)


def clock_of(
    number_id: UUID,
    church_id: UUID = BIG,
    *,
    rate: float = 1000.0,
    free_in: float = 0.0,
    following: tuple[float | None, float | None] = (None, None),
) -> Clock:
    """``following``: in how many seconds the next text is due that is no candidate, an urgent one and a broadcast's."""
    urgent, broadcast = (None if each is None else NOW + timedelta(seconds=each) for each in following)
    return Clock(
        number_id=number_id,
        church_id=church_id,
        next_free_at=NOW + timedelta(seconds=free_in),
        segments_per_second=rate,
        sender="+12055550100",
        messaging_profile_id="profile",
        following_at={PERSON: urgent, BROADCAST: broadcast},
    )


def candidate(number: Clock, **fields: Any) -> Candidate:
    values = {
        "recipient_id": new_id(),
        "church_id": number.church_id,
        "number_id": number.number_id,
        "phone_index": new_id().bytes,
        "priority": 1,
        "due_at": NOW,
        "segments": 1,
        "is_repeat": False,
        **fields,
    }
    return Candidate(**values)


def chosen(candidates: list[Candidate], *clocks: Clock, places: int = 50) -> Choice:
    church_ids = list(dict.fromkeys(each.church_id for each in clocks))
    return choose(church_ids, {each.number_id: each for each in clocks}, candidates, now=NOW, places=places)


def seconds_of(choice: Choice, number: Clock) -> float:
    """Until when its clock has advanced, from now."""
    return (choice.next_free_at[number.number_id] - NOW).total_seconds()


def test_no_more_are_taken_than_there_are_places() -> None:
    number = clock_of(UUID(int=10))
    waiting = [candidate(number) for _ in range(5)]
    assert [taken.candidate for taken in chosen(waiting, number, places=3).taken] == waiting[:3]


def test_a_small_church_does_not_wait_behind_a_big_one() -> None:
    big, small = clock_of(UUID(int=10)), clock_of(UUID(int=11), SMALL)
    waiting = [candidate(big) for _ in range(100)] + [candidate(small) for _ in range(5)]
    churches = [taken.candidate.church_id for taken in chosen(waiting, big, small, places=10).taken]
    assert churches.count(SMALL) == 5


def test_a_church_with_many_numbers_has_no_more_turns_than_another() -> None:
    numbers = [clock_of(UUID(int=10 + each)) for each in range(5)]
    small = clock_of(UUID(int=99), SMALL)
    waiting = [candidate(number) for number in numbers for _ in range(20)] + [candidate(small) for _ in range(20)]
    churches = [taken.candidate.church_id for taken in chosen(waiting, *numbers, small, places=20).taken]
    assert churches.count(SMALL) == 10


def test_a_churchs_numbers_take_turns_the_longest_unused_first() -> None:
    busy, idle = clock_of(UUID(int=10), free_in=-1.0), clock_of(UUID(int=11), free_in=-9.0)
    waiting = [candidate(busy, due_at=NOW - timedelta(hours=1)) for _ in range(20)]
    waiting += [candidate(idle) for _ in range(20)]
    numbers = [taken.candidate.number_id for taken in chosen(waiting, busy, idle, places=3).taken]
    assert numbers == [idle.number_id, busy.number_id, idle.number_id]


def test_an_urgent_broadcast_goes_before_its_churchs_others_and_after_what_a_person_waits_for() -> None:
    number = clock_of(UUID(int=10))
    broadcast = candidate(number, due_at=NOW - timedelta(hours=1), priority=BROADCAST)
    urgent = candidate(number, priority=URGENT_BROADCAST)
    reply = candidate(number, priority=PERSON)
    taken = [taken.candidate for taken in chosen([broadcast, urgent, reply], number).taken]
    assert taken == [reply, urgent, broadcast]


def test_a_church_whose_broadcasts_are_all_urgent_has_no_more_turns_than_another() -> None:
    hasty, calm = clock_of(UUID(int=10)), clock_of(UUID(int=11), SMALL)
    waiting = [candidate(hasty, priority=URGENT_BROADCAST) for _ in range(20)] + [candidate(calm) for _ in range(20)]
    churches = [taken.candidate.church_id for taken in chosen(waiting, hasty, calm, places=10).taken]
    assert churches.count(SMALL) == 5


def test_what_a_person_waits_for_goes_before_broadcasts() -> None:
    number = clock_of(UUID(int=10))
    broadcast = candidate(number, due_at=NOW - timedelta(hours=1))
    reply = candidate(number, priority=0)
    assert [taken.candidate for taken in chosen([broadcast, reply], number).taken] == [reply, broadcast]


def test_texts_of_a_number_begin_at_its_rate() -> None:
    number = clock_of(UUID(int=10), rate=20.0)
    choice = chosen([candidate(number) for _ in range(50)], number)
    gap = 0.05 / PACE
    assert [taken.begins_after_seconds for taken in choice.taken] == pytest.approx([0, gap, 2 * gap, 3 * gap], abs=1e-5)
    assert seconds_of(choice, number) == pytest.approx(4 * gap, abs=1e-5)


def test_the_clock_counts_segments() -> None:
    number = clock_of(UUID(int=10), rate=10.0)
    choice = chosen([candidate(number, segments=3), candidate(number)], number)
    assert len(choice.taken) == 1
    assert seconds_of(choice, number) == pytest.approx(0.3 / PACE, abs=1e-5)


def test_a_number_that_is_not_free_within_the_horizon_gives_nothing() -> None:
    assert not chosen([candidate(n := clock_of(UUID(int=10), free_in=HORIZON_SECONDS + 0.01))], n).taken
    assert chosen([candidate(n := clock_of(UUID(int=10), free_in=HORIZON_SECONDS))], n).taken


def test_time_that_a_number_did_not_use_is_not_made_up_for() -> None:
    number = clock_of(UUID(int=10), rate=20.0, free_in=-60.0)
    choice = chosen([candidate(number) for _ in range(10)], number)
    assert len(choice.taken) == 4


def test_a_person_gets_one_text_at_a_time_in_their_order() -> None:
    number = clock_of(UUID(int=10))
    first, second = candidate(number, phone_index=b"p"), candidate(number, phone_index=b"p")
    assert [taken.candidate for taken in chosen([second, first], number).taken] == [first]


def test_what_was_accepted_later_does_not_overtake_on_another_number() -> None:
    slow, quick = clock_of(UUID(int=10), free_in=9.0), clock_of(UUID(int=11))
    first, second = candidate(slow, phone_index=b"p"), candidate(quick, phone_index=b"p")
    assert not chosen([first, second], slow, quick).taken


@pytest.mark.parametrize("obstacle", ["suppressed", "cancelled", "expired"])
def test_what_shall_never_go_is_closed_unless_it_may_have_gone(obstacle: str) -> None:
    number = clock_of(UUID(int=10))
    fresh, repeated = candidate(number, obstacle=obstacle), candidate(number, obstacle=obstacle, is_repeat=True)
    choice = chosen([fresh, repeated], number)
    assert choice.closed == [(fresh, obstacle)]
    assert choice.doubtful == [repeated]
    assert not choice.taken


def test_what_is_held_is_postponed_and_what_is_busy_left_alone() -> None:
    number = clock_of(UUID(int=10))
    held, busy = candidate(number, obstacle="held"), candidate(number, obstacle="busy")
    choice = chosen([held, busy], number)
    assert choice.postponed == [held]
    assert (choice.taken, choice.closed, choice.doubtful) == ([], [], [])


def waking(choice: Choice, church_id: UUID = BIG) -> tuple[float | None, float | None]:
    """In how many seconds its lane wakes, and its urgent texts wake it."""
    lane = choice.lanes[church_id]
    return _seconds(lane.wake_at), _seconds(lane.urgent_at)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else round((at - NOW).total_seconds(), 3)


def test_a_lane_without_work_sleeps() -> None:
    number = clock_of(UUID(int=10))
    assert waking(chosen([], number)) == (None, None)
    assert waking(chosen([candidate(number)], number)) == (None, None)
    assert choose([BIG], {}, [], now=NOW, places=5).lanes == {BIG: Waking(wake_at=None, urgent_at=None)}


def test_a_lane_wakes_when_its_next_text_is_due_of_any_number() -> None:
    one, two = clock_of(UUID(int=10), following=(30.0, 9.0)), clock_of(UUID(int=11), following=(None, 7.0))
    assert waking(chosen([], one, two)) == (7.0, 30.0)


def test_a_lane_wakes_before_its_clock_runs_out() -> None:
    paused = clock_of(UUID(int=10), free_in=40.0, following=(None, -1.0))
    assert waking(chosen([], paused)) == (40.0 - LEAD_SECONDS, None)
    slow = clock_of(UUID(int=11), rate=1 / PACE, following=(None, -1.0))
    assert waking(chosen([candidate(slow), candidate(slow)], slow)) == (1.0 - LEAD_SECONDS, None)


def test_a_lane_whose_texts_all_wait_for_others_is_looked_at_again_soon() -> None:
    number = clock_of(UUID(int=10))
    assert waking(chosen([candidate(number, obstacle="busy")], number)) == (LOOK_AGAIN_SECONDS, None)
    locked = clock_of(UUID(int=10), following=(-1.0, None))  # due, and no candidate: another has it locked
    assert waking(chosen([], locked)) == (LOOK_AGAIN_SECONDS, LOOK_AGAIN_SECONDS)


def test_a_church_that_had_no_turn_keeps_its_place_and_goes_first_next_time() -> None:
    numbers = [clock_of(UUID(int=10 + each), UUID(int=100 + each), rate=1e6) for each in range(5)]
    order, turns = [each.church_id for each in numbers], []
    for _ in range(10):
        waiting = [candidate(number) for number in numbers for _ in range(3)]
        choice = choose(order, {each.number_id: each for each in numbers}, waiting, now=NOW, places=3)
        turns += [taken.candidate.church_id for taken in choice.taken]
        woken = {church_id: waking.wake_at for church_id, waking in choice.lanes.items()}
        order.sort(key=lambda each: woken.get(each) or NOW - timedelta(seconds=1))
    assert {turns.count(each.church_id) for each in numbers} == {6}


def test_turns_go_on_where_the_claim_before_ended() -> None:
    """Twenty-one places for eleven churches, time and again: nobody has two turns whenever another has one."""
    numbers = [clock_of(UUID(int=10 + each), UUID(int=100 + each), rate=1e6) for each in range(11)]
    order, turns = [each.church_id for each in numbers], []
    for _ in range(11):
        waiting = [candidate(number) for number in numbers for _ in range(3)]
        choice = choose(order, {each.number_id: each for each in numbers}, waiting, now=NOW, places=21)
        turns += [taken.candidate.church_id for taken in choice.taken]
        order.sort(key=lambda each: choice.lanes[each].wake_at or NOW)
    counts = [turns.count(each.church_id) for each in numbers]
    assert (min(counts), max(counts)) == (21, 21)


@pytest.mark.parametrize("rate", [0.25, 1.0, 40.0, 200.0])
@pytest.mark.parametrize("late", [0.0, 0.05, 0.09])
def test_ten_seconds_hold_at_most_their_worth_and_one_text_and_little_less(rate: float, late: float) -> None:
    """By a simulated clock: a claim whenever the lane wakes, or somewhat later; texts of one to three segments."""
    number, now, segments = clock_of(UUID(int=10), rate=rate), NOW, [1, 2, 1, 3]
    passed: list[tuple[float, int]] = []
    while now < NOW + timedelta(seconds=40):
        waiting = [candidate(number, segments=segments[each % 4]) for each in range(int(rate * HORIZON_SECONDS) + 3)]
        choice = choose([BIG], {number.number_id: number}, waiting, now=now, places=1000)
        since = (now - NOW).total_seconds()
        passed += [(since + each.begins_after_seconds, each.candidate.segments) for each in choice.taken]
        number = msgspec.structs.replace(number, next_free_at=choice.next_free_at[number.number_id])
        now = (choice.lanes[BIG].wake_at or now + timedelta(seconds=LOOK_AGAIN_SECONDS)) + timedelta(seconds=late)
    # The most that a carrier can see in ten seconds: what was timed in them and in the time that a call may be late.
    window: deque[tuple[float, int]] = deque()
    for at, parts in passed:
        window.append((at, parts))
        while window[0][0] < at - 10 - BEGIN_SECONDS:
            window.popleft()
        assert sum(parts for _, parts in window) <= 10 * rate + max(segments)
    assert sum(parts for at, parts in passed if 10 <= at < 40) >= 0.95 * 30 * rate - max(segments)
