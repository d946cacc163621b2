"""The event contract: every type survives the wire, and nothing else is taken for an event."""

from typing import Any

import jsonschema
import msgspec
import pytest

from koinonia.bus.topology import QUEUES, service_of
from koinonia.contracts.events import asyncapi, event_example, event_schema
from koinonia.contracts.samples import sample
from koinonia.db.roles import SERVICES
from koinonia.events import ALL, Envelope, Event, UnknownEvent, Unreadable, decode, encode, schema_name
from koinonia.events import envelope as envelopes
from koinonia.events.audit import ActionRecorded
from koinonia.events.conversation import ReplyRequestedForTest
from koinonia.events.messaging import MembersChanged, MessageAccepted, RecipientsResolvedForTest
from koinonia.ids import id_time, new_id

TYPES = pytest.mark.parametrize("event_type", ALL, ids=lambda each: each.TYPE)


def envelope(data: Event) -> Envelope[Any]:
    event_id = new_id()
    return Envelope(id=event_id, time=id_time(event_id), data=data, church_id=new_id(), service="messaging")


@TYPES
def test_an_event_survives_the_wire(event_type: type[Event]) -> None:
    sent = envelope(sample(event_type))
    assert decode(encode(sent)) == sent


@TYPES
def test_the_example_fits_the_schema_and_the_code(event_type: type[Event]) -> None:
    example = event_example(event_type)
    jsonschema.Draft202012Validator(event_schema(event_type)).validate(example)
    assert isinstance(decode(msgspec.json.encode(example)).data, event_type)


@TYPES
def test_an_old_reader_bears_a_new_field(event_type: type[Event]) -> None:
    example = event_example(event_type)
    example["data"]["addedLater"] = {"x": [1]}
    assert isinstance(decode(msgspec.json.encode(example)).data, event_type)


@pytest.mark.parametrize("event_type", [RecipientsResolvedForTest, ReplyRequestedForTest])
def test_a_tests_text_is_not_read_by_a_process_that_knows_no_tests(
    event_type: type[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = msgspec.json.encode(event_example(event_type))
    assert decode(body).data.test
    monkeypatch.delitem(envelopes._decoders, schema_name(event_type))
    with pytest.raises(UnknownEvent):
        decode(body)
    live = event_example(event_type)
    live["data"]["test"] = False
    monkeypatch.undo()
    with pytest.raises(Unreadable):
        decode(msgspec.json.encode(live))


def test_types_are_named_after_their_publisher_and_unique() -> None:
    names = [(each.TYPE, each.VERSION) for each in ALL]
    assert len(set(names)) == len(names)
    publishers = {each.TYPE.split(".")[0] for each in ALL}
    assert publishers == {*SERVICES, "carrier", "audit"}
    assert all(each.TYPE.count(".") == 2 for each in ALL)


def test_every_queue_belongs_to_a_service_and_takes_known_types() -> None:
    assert {service_of(queue) for queue in QUEUES} <= set(SERVICES)
    assert all(set(types) <= set(ALL) and types for types in QUEUES.values())


def test_an_audit_event_names_the_service_it_came_from() -> None:
    assert decode(encode(envelope(sample(ActionRecorded)))).source == "/koinonia/messaging"


VALID = event_example(MessageAccepted)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "messaging.message.invented"},
        {"type": "messaging.message.due"},
        {"dataschema": "urn:koinonia:event:messaging.message.accepted:99"},
        {"specversion": "0.3"},
        {"id": "not-a-uuid"},
        {"time": "yesterday"},
        {"data": {}},
        {"data": None},
        {"data": {**VALID["data"], "recipientCount": "many"}},
        {"churchid": 7},
    ],
    ids=str,
)
def test_an_altered_event_is_unreadable(change: dict[str, Any]) -> None:
    decode(msgspec.json.encode(VALID))
    with pytest.raises(Unreadable):
        decode(msgspec.json.encode({**VALID, **change}))


def test_an_event_of_another_version_is_unknown_and_one_that_contradicts_itself_is_no_event() -> None:
    later = VALID["dataschema"].rpartition(":")[0] + ":99"
    with pytest.raises(UnknownEvent):
        decode(msgspec.json.encode({**VALID, "dataschema": later}))
    with pytest.raises(Unreadable) as raised:
        decode(msgspec.json.encode({**VALID, "type": "billing.thing.happened"}))
    assert not isinstance(raised.value, UnknownEvent)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"id": ' + b"9" * 5000 + b"}"])
def test_rubbish_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(body)


def test_an_unreadable_event_tells_no_value() -> None:
    with pytest.raises(Unreadable) as raised:
        decode(msgspec.json.encode({**VALID, "data": {**VALID["data"], "messageId": "+12055550100"}}))
    assert "2055550100" not in str(raised.value)


def test_a_change_holds_five_hundred_members_at_most() -> None:
    example = event_example(MembersChanged)
    example["data"]["members"] *= 501
    with pytest.raises(Unreadable, match="length"):
        decode(msgspec.json.encode(example))


def test_the_page_for_integrators_names_every_event_and_queue() -> None:
    page = asyncapi()
    assert set(page["channels"]) == {each.TYPE for each in ALL}
    assert len(page["operations"]) == sum(map(len, QUEUES.values()))
