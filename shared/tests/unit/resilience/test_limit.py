"""How many calls at once a dependency bears, by a simulated clock."""

import heapq
import random
from collections.abc import Callable

import pytest

from koinonia.resilience.limit import BREATH_SECONDS, FLOOR, Limit


class Dependency:
    """So many servers that take so long for a call; who finds none free waits for one."""

    def __init__(self, servers: int, seconds: float, *, noise: Callable[[], float] = lambda: 1.0) -> None:
        self.servers, self.seconds, self.noise = servers, seconds, noise
        self.now = 0.0
        self.answered = 0

    def run(self, limit: Limit, seconds: float, *, offered: int = 10_000) -> None:
        """Keep as many calls under way as the limit allows, or as there are to make, for so long."""
        until, free_at = self.now + seconds, [self.now] * self.servers
        calls: list[tuple[float, float, int]] = []  # a heap: ends at, began at, under way
        while self.now < until:
            while len(calls) < min(limit.size, offered):
                ends_at = max(free_at[0], self.now) + self.seconds * self.noise()
                heapq.heapreplace(free_at, ends_at)
                heapq.heappush(calls, (ends_at, self.now, len(calls) + 1))
            ends_at, began_at, under_way = heapq.heappop(calls)
            self.now = max(self.now, ends_at)
            self.answered += 1
            limit.note(ends_at - began_at, under_way)


def limit_of(dependency: Dependency, most: int = 200) -> Limit:
    return Limit(most, clock=lambda: dependency.now)


@pytest.mark.parametrize("servers", [20, 60, 150])
def test_it_finds_as_many_places_as_keep_the_servers_busy_and_at_most_as_many_more(servers: int) -> None:
    dependency = Dependency(servers, 0.05)
    limit = limit_of(dependency, most=1000)
    dependency.run(limit, 20.0)
    assert servers <= limit._grown <= 2.3 * servers
    before = dependency.answered
    dependency.run(limit, 20.0)
    assert dependency.answered - before >= 0.9 * 20.0 / 0.05 * servers


def test_it_grows_to_the_setting_where_nothing_queues() -> None:
    dependency = Dependency(1000, 0.05)
    limit = limit_of(dependency)
    assert limit.size == FLOOR
    dependency.run(limit, 2.0)
    assert limit.size == 200


def test_answers_that_differ_by_nature_are_no_queue() -> None:
    chance = random.Random(7)
    dependency = Dependency(1000, 0.1, noise=lambda: chance.choice([0.3, 1.0, 1.0, 1.0, 5.0]))
    limit = limit_of(dependency)
    dependency.run(limit, 60.0)
    assert limit._grown == 200


def test_it_shrinks_when_answers_get_slow_and_never_below_the_floor() -> None:
    dependency = Dependency(1000, 0.05)
    limit = limit_of(dependency)
    dependency.run(limit, 2.0)
    assert limit.size == 200
    dependency.servers = 10
    dependency.run(limit, 60.0)
    assert FLOOR <= limit._grown <= 3 * FLOOR
    assert Limit(5).size == 5


def test_it_grows_again_when_the_queue_is_gone() -> None:
    dependency = Dependency(20, 0.05)
    limit = limit_of(dependency)
    dependency.run(limit, 10.0)
    assert limit._grown < 60
    dependency.servers = 1000
    dependency.run(limit, 10.0)
    assert limit._grown == 200


def test_a_dependency_that_is_slower_for_good_is_judged_by_what_it_is_now() -> None:
    dependency = Dependency(1000, 0.05)
    limit = limit_of(dependency)
    dependency.run(limit, 2.0)
    dependency.seconds = 0.3
    dependency.run(limit, 5.0)
    assert limit._grown < 200  # at first it looks like a queue
    dependency.run(limit, 3 * BREATH_SECONDS)
    assert limit._grown == 200


def test_it_stays_as_it_is_while_rates_bound_the_work() -> None:
    dependency = Dependency(1000, 0.05)
    limit = limit_of(dependency)
    dependency.run(limit, 30.0, offered=FLOOR // 2)
    assert limit.size == FLOOR
    dependency.run(limit, 2.0)
    dependency.seconds = 0.5
    dependency.run(limit, 30.0, offered=50)
    assert limit.size == 200


def test_a_breath_takes_little() -> None:
    quiet, dependency = Dependency(1000, 0.05), Dependency(1000, 0.05)
    limit = limit_of(dependency)
    dependency.run(limit, 2.0)
    before = dependency.answered
    dependency.run(limit, 30.0)
    assert limit.size == 200
    quiet.run(Limit(200, floor=200, clock=lambda: quiet.now), 30.0)
    assert dependency.answered - before >= 0.97 * quiet.answered
