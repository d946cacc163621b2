"""How the parts of a trail are put together."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from koinonia import clock
from koinonia.api.messages import Actor, TrailEntry, TrailEvent
from koinonia.trail import Act, Part, actors, merge, trace_id

NOW = clock.now()
RUTH, KEY = UUID(int=1), UUID(int=2)
NAMES = {
    RUTH: Actor(id=RUTH, kind="admin", name="Ruth Miller"),
    KEY: Actor(id=KEY, kind="api_key", name="The API key “Program”"),
}


def entry(event: TrailEvent, seconds: float, service: Any = "delivery") -> TrailEntry:
    return TrailEntry(at=NOW + timedelta(seconds=seconds), service=service, event=event, sentence="Somebody did.")


def act(event: TrailEvent, seconds: float, actor_id: UUID = RUTH) -> Act:
    return Act(event=event, at=NOW + timedelta(seconds=seconds), actor_id=actor_id)


def events(*entries: TrailEntry) -> list[str]:
    return [each.event for each in merge([Part(entries=[each]) for each in entries], {})]


def test_entries_come_in_the_order_of_time_whoever_tells_them() -> None:
    asked, sent = entry("requested", 0, "messaging"), entry("accepted", 2)
    assert events(sent, entry("metered", 3, "billing"), asked) == ["requested", "accepted", "metered"]


def test_at_one_moment_they_come_in_the_order_of_the_work() -> None:
    assert events(entry("scheduled", 0), entry("requested", 0)) == ["requested", "scheduled"]


def test_a_receipt_never_stands_before_its_acceptance() -> None:
    assert events(entry("delivered", 1), entry("accepted", 2)) == ["accepted", "delivered"]


def test_a_first_copys_receipt_stays_before_the_second_copy() -> None:
    told = (entry("accepted", 0), entry("unconfirmed", 1), entry("resent", 5), entry("delivered", 6))
    assert events(*told, entry("accepted", 7)) == ["accepted", "unconfirmed", "resent", "accepted", "delivered"]


def test_who_did_it_is_named_where_it_is_told() -> None:
    told = [entry("requested", 0, "messaging"), entry("resent", 10), entry("resent", 20), entry("closed", 30)]
    acts = [act("requested", 0.3, KEY), act("resent", 20.2), act("closed", 30.1), act("resent", 10.1, KEY)]
    merged = merge([Part(entries=told), Part(acts=acts)], NAMES)
    assert [each.sentence for each in merged] == [
        "The API key “Program” asked for it.",
        "The API key “Program” decided to send it once more.",
        "Ruth Miller decided to send it once more.",
        "Ruth Miller decided to leave it at that.",
    ]
    assert actors([Part(acts=acts)]) == [RUTH, KEY]


def test_who_cancelled_the_message_did_not_cancel_each_copy() -> None:
    told = [entry("cancelled", 0, "messaging"), entry("cancelled", 0.2)]
    merged = merge([Part(entries=told), Part(acts=[act("cancelled", 0.2)])], NAMES)
    assert [each.actor is not None for each in merged] == [True, False]


def test_nobody_is_named_for_what_somebody_else_did_at_another_time() -> None:
    merged = merge([Part(entries=[entry("resent", 0)]), Part(acts=[act("resent", 90)])], NAMES)
    assert merged[0].actor is None
    merged = merge([Part(entries=[entry("resent", 0)]), Part(acts=[act("resent", 0, UUID(int=9))])], NAMES)
    assert merged[0].sentence == "Somebody did."


def test_an_operator_is_given_the_id_of_the_trace() -> None:
    parts = [Part(), Part(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    assert trace_id(parts) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_id([Part()]) is None
