"""The audit trail: what each service says was done; compliance keeps it."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

import msgspec

from koinonia.events.envelope import Event


class ActionRecorded(Event, frozen=True, kw_only=True):
    """Somebody did something. It leaves in the acting transaction's outbox."""

    TYPE: ClassVar[str] = "audit.action.recorded"
    action: str  # constant, as "message.accepted" or "login.failed"
    actor_kind: Literal["session", "api_key", "operator", "system", "anonymous"]
    actor_id: UUID | None
    outcome: Literal["success", "failure"]
    occurred_at: datetime
    target_kind: str | None = None
    target_id: UUID | None = None
    address: str | None = None  # the actor's network address
    request_id: str | None = None
    details: dict[str, str] = msgspec.field(default_factory=dict)  # ids and counts, never a person's data


EVENTS = (ActionRecorded,)
