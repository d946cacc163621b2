"""A text that is repeated after keys were changed is the same request, byte for byte."""

import base64
from datetime import UTC, datetime
from unittest.mock import ANY
from uuid import UUID

import msgspec

from koinonia.ids import new_id
from koinonia.secret import Secret
from koinonia.security.keys import Keys
from koinonia_delivery.calls import Caller, carrier_breaker
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.store.claims import Claimed

OLD, NEW = (f"{name}:{base64.b64encode(name.encode() * 8).decode()}" for name in ("old1", "new2"))
CHURCH = new_id()


def keys(listed: str) -> Keys:
    index = base64.b64encode(bytes(32)).decode()
    return Keys.parse(encryption_keys=listed, token_keys=listed, blind_index_key=index)


def caller(listed: str) -> Caller:
    settings = DeliverySettings(
        database_url="postgresql://d@db/k",
        amqp_url="amqp://mq/",
        redis_url="redis://cache",
        encryption_keys=listed,
        token_keys=listed,
        blind_index_key="",
        telnyx_api_key=Secret("KEY"),
        public_url="http://127.0.0.1:8080",
    )
    return Caller(ANY, keys(listed), settings, carrier_breaker())


def test_a_repeat_is_the_same_request_whatever_key_its_phone_lies_under_by_then() -> None:
    first = Claimed(
        recipient_id=UUID(int=1),
        church_id=CHURCH,
        source_id=UUID(int=2),
        number_id=UUID(int=3),
        attempt=1,
        group_started_at=datetime(2026, 11, 21, tzinfo=UTC),
        phone_ciphertext=keys(OLD).encrypt("+13122000001", CHURCH, "phone"),
        sender="+13125550100",
        messaging_profile_id="profile",
        text="Hello",
        media_urls=(),
        webhook_url=caller(OLD).webhook_url(UUID(int=1), None),  # kept on the row, under the token key of then
        traceparent=None,
        correlation_id=None,
    )
    sealed_anew = keys(NEW).encrypt("+13122000001", CHURCH, "phone")
    repeat = msgspec.structs.replace(first, attempt=2, phone_ciphertext=sealed_anew)
    assert caller(NEW)._text(repeat) == caller(OLD)._text(first)
