"""What a dead letter says of its death."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from koinonia.bus.dead_letters import _read

AT = datetime(2026, 11, 20, tzinfo=UTC)


def test_a_letter_that_the_broker_buried_has_the_time_of_its_last_death() -> None:
    deaths = [{"time": datetime(2026, 11, 1, tzinfo=UTC)}, {"time": AT}]
    headers = {"x-death": deaths, "x-first-death-reason": "delivery_limit"}
    message: Any = SimpleNamespace(headers=headers, message_id="m", routing_key="billing.usage", body=b"{}")
    letter = _read("billing.usage", message)
    assert letter.died_at == AT
    assert letter.reason == "broker: delivery_limit"


def test_a_letter_without_a_story_has_no_time() -> None:
    message: Any = SimpleNamespace(headers={}, message_id="m", routing_key="billing.usage", body=b"{}")
    assert _read("billing.usage", message).died_at is None
