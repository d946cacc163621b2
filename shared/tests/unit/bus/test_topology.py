"""The table of queues, and what a subscription asks of the broker."""

from typing import Any

import pytest

from koinonia.bus import Subscription
from koinonia.bus.declare import DELAY_SECONDS, dead_queue, dead_queue_arguments, delay_exchange
from koinonia.bus.topology import QUEUES, service_of
from koinonia.db.roles import SERVICES


@pytest.mark.parametrize("queue", QUEUES)
def test_each_queue_belongs_to_a_service_and_gets_something_once(queue: str) -> None:
    assert service_of(queue) in SERVICES
    assert QUEUES[queue]
    assert len(set(QUEUES[queue])) == len(QUEUES[queue])


def test_names_of_delays_and_dead_queues_are_fixed() -> None:
    assert [delay_exchange(seconds) for seconds in DELAY_SECONDS] == [
        "koinonia.delay.1s", "koinonia.delay.2s", "koinonia.delay.4s",
    ]  # fmt: skip
    assert dead_queue("billing.usage") == "billing.usage.dead"


@pytest.mark.parametrize(
    ("version", "limit"),
    [
        ({"version": "3.10.8"}, {}),
        ({"version": "3.13.7"}, {}),
        ({"version": "4.0.0"}, {"x-delivery-limit": -1}),
        ({"version": "4.1.3"}, {"x-delivery-limit": -1}),
        ({"version": "10.0"}, {"x-delivery-limit": -1}),
        ({}, {}),
    ],
)
def test_a_dead_queue_has_no_delivery_limit_on_any_broker(version: dict[str, Any], limit: dict[str, Any]) -> None:
    assert dead_queue_arguments(version) == {"x-queue-type": "quorum"} | limit


def test_no_more_is_prefetched_than_is_handled_at_once_or_fills_the_next_batch() -> None:
    assert Subscription("q", {}).prefetch_count == Subscription("q", {}).workers == 4
    assert Subscription("q", {}, prefetch=1).workers == 1
    batch = Subscription("q", {}, batch=500)
    assert (batch.workers, batch.prefetch_count) == (1, 1000)
