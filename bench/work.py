"""The work that all ways do alike: one text to each of some people, by the same carrier, with webhooks."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from koinonia.carrier.contract import OutboundText, encode_body, with_token
from koinonia.ids import new_id
from koinonia.security import base64url

TEXT = "Grace Chapel: this Sunday we meet at 10 in the park by the river. Bring a chair and a friend. Reply STOP to end"
FIRST_LOCAL_NUMBER = 2_000_000  # +1312 and seven digits


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender is told on its standard input."""

    carrier_url: str
    api_key: str
    sender: str
    profile_id: str
    webhook_url: str
    people: int
    concurrency: int = 1
    database_url: str = ""
    amqp_url: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender says when it is done; seconds by the clock of the whole machine (``time.time``)."""

    began_at: float
    ended_at: float


def read_work() -> Work:
    """The work on standard input: one line."""
    return msgspec.json.decode(sys.stdin.buffer.readline(), type=Work)


def ready_steady_go() -> float:
    """Say that everything is prepared, wait for the word to begin, and tell when it came."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.buffer.readline()
    return time.time()


def tell(began_at: float) -> None:
    """Say that the last request was answered, and stay to be looked at, until the next word."""
    sys.stdout.buffer.write(msgspec.json.encode(Ended(began_at=began_at, ended_at=time.time())) + b"\n")
    sys.stdout.flush()
    sys.stdin.buffer.readline()


def phone(number: int) -> str:
    """The phone of a person, counted from 0."""
    return f"+1312{FIRST_LOCAL_NUMBER + number}"


def token(recipient_id: UUID) -> str:
    """A token as long as the platform's own, from which a receiver reads the recipient's id."""
    return base64url.encode(bytes(14) + recipient_id.bytes + bytes(16))


def recipient_of(text: str) -> UUID:
    """The recipient's id in a token."""
    return UUID(bytes=(base64url.decode(text) or bytes(46))[14:30])


def requests_of(work: Work) -> Iterator[tuple[bytes, dict[str, str]]]:
    """The body and the headers of each person's request, the same as the platform's byte for byte but for the ids."""
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    for number in range(work.people):
        recipient_id = new_id()
        yield body_of(work, recipient_id, phone(number)), headers_of(work, f"{recipient_id}:{now}")


def body_of(work: Work, recipient_id: UUID, to: str) -> bytes:
    """The request's body."""
    return encode_body(
        OutboundText(
            recipient=to,
            sender=work.sender,
            text=TEXT,
            messaging_profile_id=work.profile_id,
            webhook_url=with_token(work.webhook_url, token(recipient_id)),
        )
    )


def headers_of(work: Work, key: str) -> dict[str, str]:
    """The request's headers."""
    return {
        "Authorization": f"Bearer {work.api_key}",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
    }
