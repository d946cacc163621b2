"""The audit log: who did what, when, from where."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from msgspec import Meta
from typing_extensions import override

from koinonia.api.common import EXAMPLE_ID, EXAMPLE_OTHER_ID, EXAMPLE_TIME, Page, PageQuery, Response, Role
from koinonia.api.endpoint import MANAGERS, Endpoint


class AuditEntry(Response, frozen=True, kw_only=True):
    """One act. It names things by id, never a text, phone or e-mail. ``actorRole``: which the actor has now; null of a
    program, and of who does not work for the church any more.
    """

    id: UUID
    action: str
    actor_kind: Literal["session", "api_key", "operator", "system", "anonymous"]
    actor_id: UUID | None
    outcome: Literal["success", "failure"]
    target_kind: str | None
    target_id: UUID | None
    address: str | None
    request_id: str | None
    details: dict[str, str]
    occurred_at: datetime
    actor_role: Role | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            action="message.accepted",
            actor_kind="session",
            actor_id=EXAMPLE_OTHER_ID,
            outcome="success",
            target_kind="message",
            target_id=EXAMPLE_ID,
            address="203.0.113.7",
            request_id="8f14e45fceea167a",
            details={"targetType": "all"},
            occurred_at=EXAMPLE_TIME,
            actor_role="sender",
        )


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    """Which acts: all filters hold together."""

    action: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    actor_id: UUID | None = None


LIST = Endpoint(
    name="audit.list",
    method="GET",
    path="/api/admin/audit-log",
    owner="compliance",
    summary="Who did what",
    query=AuditQuery,
    response=Page[AuditEntry],
    roles=MANAGERS,
)

ENDPOINTS = (LIST,)
