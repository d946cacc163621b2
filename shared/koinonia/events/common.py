"""Parts that several publishers share."""

from typing import Literal
from uuid import UUID

from koinonia.events.envelope import Event

RecipientStatus = Literal[
    "queued",
    "sending",
    "sent",
    "unknown",
    "delivered",
    "undelivered",
    "unconfirmed",
    "failed",
    "suppressed",
    "cancelled",
    "expired",
]


class ExportCollected(Event, frozen=True, kw_only=True):
    """A service's part of an export is stored where compliance can fetch it."""

    export_id: UUID
    file_key: str  # of the encrypted part in the file store


class ErasureCompleted(Event, frozen=True, kw_only=True):
    """A service has erased its part."""

    erasure_id: UUID
    erased_count: int  # rows
