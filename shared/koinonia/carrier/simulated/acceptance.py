"""Whether a request for a text is accepted: Telnyx's checks in order, then the text in the record."""

import asyncio
import re
from typing import Literal

import msgspec
import uuid_utils

from koinonia import clock
from koinonia.carrier.contract import token_of
from koinonia.carrier.errors import STOP_CODE, STOP_TITLE
from koinonia.carrier.simulated import parts
from koinonia.carrier.simulated.errors import TelnyxError, missing
from koinonia.carrier.simulated.record import Text
from koinonia.carrier.simulated.registry import Number, Profile
from koinonia.carrier.simulated.world import World

MAX_PARTS = 10
MAX_MEDIA = 10
MAX_URL_LENGTH = 2000
_ADDRESS = re.compile(r"\+1[2-9][0-9]{9}|\+[2-9][0-9]{6,14}|[0-9]{5,6}")


class SendRequest(msgspec.Struct, rename={"sender": "from"}):
    """The body of ``POST /v2/messages``; unknown fields are ignored."""

    to: str | None = None
    sender: str | None = None
    messaging_profile_id: str | None = None
    text: str | None = None
    subject: str | None = None
    media_urls: list[str] = []
    webhook_url: str | None = None
    webhook_failover_url: str | None = None
    use_profile_webhooks: bool = True
    encoding: Literal["auto", "gsm7", "ucs2"] = "auto"


def accept(world: World, wanted: SendRequest, idempotency_key: str | None) -> Text:
    """Check a request and record its text.

    Raises:
        TelnyxError: it is not accepted, and nothing was recorded.
    """
    recipient = _recipient(wanted)
    number, profile = _sender(world, wanted)
    encoding, count = _content(wanted)
    if (profile.id, recipient) in world.registry.opt_outs:
        raise TelnyxError(400, STOP_CODE, STOP_TITLE, "The recipient has opted out of this messaging profile.")
    monotonic = asyncio.get_running_loop().time()
    wait_seconds = world.limits.take(number, count, world.behaviour.rate, monotonic)
    text = Text(
        id=str(uuid_utils.uuid4()),
        sender=number.phone,
        recipient=recipient,
        text=wanted.text,
        media_urls=tuple(wanted.media_urls),
        subject=wanted.subject,
        encoding=encoding,
        parts=count,
        profile_id=profile.id,
        webhook_urls=_webhook_urls(wanted, profile),
        webhook_url=wanted.webhook_url,
        webhook_failover_url=wanted.webhook_failover_url,
        token=token_of(wanted.webhook_url),
        idempotency_key=idempotency_key,
        accepted_at=clock.now(),
        accepted_monotonic=monotonic,
        wait_seconds=wait_seconds,
    )
    world.record.add(text)
    return text


def _recipient(wanted: SendRequest) -> str:
    if not wanted.to:
        raise missing("/to")
    if not _ADDRESS.fullmatch(wanted.to):
        raise TelnyxError(400, "40310", "Invalid 'to' address", "It must be a +E.164 number.", pointer="/to")
    return wanted.to


def _sender(world: World, wanted: SendRequest) -> tuple[Number, Profile]:
    """The sending number and its profile."""
    if not wanted.sender:
        raise missing("/from")
    number = world.registry.numbers.get(wanted.sender)
    profile = world.registry.profiles.get(number.profile_id) if number and number.profile_id else None
    if number is None or profile is None or wanted.messaging_profile_id not in {None, profile.id}:
        detail = "The 'from' address is not on the messaging profile."
        raise TelnyxError(400, "40305", "Invalid 'from' address", detail, pointer="/from")
    if not profile.enabled:
        raise TelnyxError(403, "40312", "Messaging profile is disabled", pointer="/messaging_profile_id")
    return number, profile


def _content(wanted: SendRequest) -> tuple[str | None, int]:
    """The encoding and the parts; a text with pictures is one part."""
    for url in (wanted.webhook_url, wanted.webhook_failover_url):
        if url is not None and len(url) > MAX_URL_LENGTH:
            raise TelnyxError(400, "10015", "Bad Request", "A webhook URL has at most 2,000 characters.")
    if len(wanted.media_urls) > MAX_MEDIA:
        raise TelnyxError(400, "40317", "Invalid MMS content", "At most 10 media URLs.", pointer="/media_urls")
    if wanted.media_urls:
        return None, 1
    if not wanted.text:
        raise TelnyxError(400, "40316", "No content provided", "There is neither text nor media.", pointer="/text")
    encoded = parts.encode(wanted.text, wanted.encoding)
    if encoded is None:
        detail = "The text has characters outside GSM-7."
        raise TelnyxError(400, "40304", "Invalid combination of message content", detail, pointer="/encoding")
    if encoded[1] > MAX_PARTS:
        raise TelnyxError(400, "40302", "Message too large", "A text has at most 10 parts.", pointer="/text")
    return encoded


def _webhook_urls(wanted: SendRequest, profile: Profile) -> tuple[str, ...]:
    """The message's own URLs, else the profile's."""
    own = tuple(url for url in (wanted.webhook_url, wanted.webhook_failover_url) if url)
    if own or not wanted.use_profile_webhooks:
        return own
    return profile.webhook_urls
