"""What was done at the gateway, for the audit trail: it leaves in the acting transaction's outbox."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from koinonia import clock
from koinonia.events.audit import ActionRecorded
from koinonia.security.identity import Identity

ActorKind = Literal["session", "api_key", "operator", "system", "anonymous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, from where, in which request."""

    kind: ActorKind
    id: UUID | None
    address: str
    request_id: str
    user_agent: str = ""

    @classmethod
    def of(cls, identity: Identity) -> "Actor":
        """A caller who is known."""
        return cls(
            kind=identity.principal_kind,
            id=identity.principal_id,
            address=identity.address,
            request_id=identity.request_id,
        )

    @classmethod
    def operator(cls) -> "Actor":
        """Who runs a command on the platform's own machine."""
        return cls(kind="operator", id=None, address="", request_id="")

    def known_as(self, admin_id: UUID) -> "Actor":
        """The same, once the login has told who it is."""
        return Actor(
            kind="session",
            id=admin_id,
            address=self.address,
            request_id=self.request_id,
            user_agent=self.user_agent,
        )

    def did(
        self,
        action: str,
        *,
        target: tuple[str, UUID] | None = None,
        outcome: Literal["success", "failure"] = "success",
        **details: str,
    ) -> ActionRecorded:
        """The event of an act; details hold ids and constants, never a person's data."""
        return ActionRecorded(
            action=action,
            actor_kind=self.kind,
            actor_id=self.id,
            outcome=outcome,
            occurred_at=clock.now(),
            target_kind=target[0] if target else None,
            target_id=target[1] if target else None,
            address=self.address or None,
            request_id=self.request_id or None,
            details=details,
        )
