"""The record: every text that was accepted, and how often one came twice. Cheap at hundreds of thousands of texts."""

from collections import Counter
from datetime import datetime
from typing import Literal

import msgspec

Status = Literal["queued", "sent", "delivered", "delivery_failed", "delivery_unconfirmed", "sending_failed", "expired"]


class Text(msgspec.Struct, kw_only=True, gc=False):
    """One accepted text. Holds nothing that could form a cycle, so the garbage collector need not look at it."""

    id: str
    sender: str
    recipient: str
    text: str | None
    media_urls: tuple[str, ...]
    subject: str | None
    encoding: str | None
    parts: int
    profile_id: str | None
    webhook_urls: tuple[str, ...]  # in the order in which they are tried
    webhook_url: str | None  # as the request gave them
    webhook_failover_url: str | None
    token: str | None  # of its own webhook URL: who it is for, in our terms
    idempotency_key: str | None
    accepted_at: datetime
    accepted_monotonic: float
    wait_seconds: float
    status: Status = "queued"
    sent_at: datetime | None = None
    completed_at: datetime | None = None
    error_code: str | None = None
    error_title: str | None = None
    heard: tuple[Status, ...] = ()  # what its webhooks told and were answered 2xx for, in that order
    told_at: datetime | None = None  # when message.finalized was first sent, and when it was answered 2xx
    heard_at: datetime | None = None


class InboundText(msgspec.Struct, kw_only=True, gc=False):
    """One text from a person."""

    id: str
    sender: str
    recipient: str
    text: str | None
    media_urls: tuple[str, ...]
    encoding: str
    parts: int
    profile_id: str
    webhook_urls: tuple[str, ...]
    received_at: datetime
    autoresponse_type: str | None


class CarrierReply(msgspec.Struct, kw_only=True, gc=False):
    """A confirmation that the carrier sent by itself."""

    sender: str
    recipient: str
    type: str
    at: datetime


class Summary(msgspec.Struct, kw_only=True):
    """The record in figures."""

    accepted: int
    parts: int
    recipients: int  # distinct numbers
    duplicates: int  # texts that came again: the same recipient and the same token
    without_token: int
    replayed: int  # requests answered from an idempotency key
    inbound: int
    carrier_replies: int
    statuses: dict[str, int]
    first_accepted_at: datetime | None
    last_accepted_at: datetime | None
    first_accepted_monotonic: float | None
    last_accepted_monotonic: float | None


class Record:
    """What arrived since the start or the last reset."""

    def __init__(self) -> None:
        self.texts: list[Text] = []
        self.duplicates: list[Text] = []
        self.inbound: list[InboundText] = []
        self.carrier_replies: list[CarrierReply] = []
        self.replayed = 0
        self._by_id: dict[str, Text | InboundText] = {}
        self._by_sender: dict[str, list[Text]] = {}
        self._by_recipient: dict[str, list[Text]] = {}
        self._seen: set[tuple[str, str]] = set()
        self._statuses: Counter[str] = Counter()
        self._parts = 0
        self._without_token = 0

    def add(self, text: Text) -> None:
        """Record an accepted text."""
        self.texts.append(text)
        self._by_id[text.id] = text
        self._by_sender.setdefault(text.sender, []).append(text)
        self._by_recipient.setdefault(text.recipient, []).append(text)
        self._statuses[text.status] += 1
        self._parts += text.parts
        if text.token is None:
            self._without_token += 1
        elif (copy := (text.recipient, text.token)) in self._seen:
            self.duplicates.append(text)
        else:
            self._seen.add(copy)

    def add_inbound(self, text: InboundText) -> None:
        """Record a text from a person."""
        self.inbound.append(text)
        self._by_id[text.id] = text

    def move(self, text: Text, status: Status) -> None:
        """Give a text its next status."""
        self._statuses[text.status] -= 1
        self._statuses[status] += 1
        text.status = status

    def find(self, message_id: str) -> Text | InboundText | None:
        """The text of an id."""
        return self._by_id.get(message_id)

    def sent_by(self, sender: str) -> list[Text]:
        """The texts from one number, oldest first."""
        return self._by_sender.get(sender, [])

    def to(self, recipient: str) -> list[Text]:
        """The texts to one number, oldest first."""
        return self._by_recipient.get(recipient, [])

    def summary(self) -> Summary:
        """The figures; costs the same however much was recorded."""
        first, last = (self.texts[0], self.texts[-1]) if self.texts else (None, None)
        return Summary(
            accepted=len(self.texts),
            parts=self._parts,
            recipients=len(self._by_recipient),
            duplicates=len(self.duplicates),
            without_token=self._without_token,
            replayed=self.replayed,
            inbound=len(self.inbound),
            carrier_replies=len(self.carrier_replies),
            statuses={status: count for status, count in self._statuses.items() if count},
            first_accepted_at=first.accepted_at if first else None,
            last_accepted_at=last.accepted_at if last else None,
            first_accepted_monotonic=first.accepted_monotonic if first else None,
            last_accepted_monotonic=last.accepted_monotonic if last else None,
        )
