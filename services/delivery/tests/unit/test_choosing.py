"""Who goes next: rules of a claim."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from koinonia.ids import new_id
from koinonia_delivery.domain.choosing import HORIZON_SECONDS, Candidate, Choice, Clock, choose

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BIG, SMALL = UUID(int=1), UUID(int=2)


def clock_of(number_id: UUID, church_id: UUID = BIG, *, rate: float = 1000.0, free_in: float = 0.0) -> Clock:
    return Clock(
        number_id=number_id,
        church_id=church_id,
        next_free_at=NOW + timedelta(seconds=free_in),
        segments_per_second=rate,
        sender="+12055550100",
        messaging_profile_id="profile",
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
    return choose({each.number_id: each for each in clocks}, candidates, now=NOW, places=places)


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


def test_what_a_person_waits_for_goes_before_broadcasts() -> None:
    number = clock_of(UUID(int=10))
    broadcast = candidate(number, due_at=NOW - timedelta(hours=1))
    reply = candidate(number, priority=0)
    assert [taken.candidate for taken in chosen([broadcast, reply], number).taken] == [reply, broadcast]


def test_texts_of_a_number_begin_at_its_rate() -> None:
    number = clock_of(UUID(int=10), rate=20.0)
    choice = chosen([candidate(number) for _ in range(50)], number)
    assert [round(taken.begins_after_seconds, 3) for taken in choice.taken] == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert choice.next_free_at == {number.number_id: NOW + timedelta(seconds=0.25)}


def test_the_clock_counts_segments() -> None:
    number = clock_of(UUID(int=10), rate=10.0)
    choice = chosen([candidate(number, segments=3), candidate(number)], number)
    assert len(choice.taken) == 1
    assert choice.next_free_at == {number.number_id: NOW + timedelta(seconds=0.3)}


def test_a_number_that_is_not_free_within_the_horizon_gives_nothing() -> None:
    assert not chosen([candidate(n := clock_of(UUID(int=10), free_in=HORIZON_SECONDS + 0.01))], n).taken
    assert chosen([candidate(n := clock_of(UUID(int=10), free_in=HORIZON_SECONDS))], n).taken


def test_time_that_a_number_did_not_use_is_not_made_up_for() -> None:
    number = clock_of(UUID(int=10), rate=10.0, free_in=-60.0)
    choice = chosen([candidate(number) for _ in range(10)], number)
    assert len(choice.taken) == 3


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
