"""What was done at the gateway, for the audit trail: it leaves in the acting transaction's outbox.

What is refused has no such transaction: `Refusals` records it beside the answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog

from koinonia import clock
from koinonia.bus import outbox
from koinonia.db import Database
from koinonia.errors import AuthenticationFailed, Conflict, Forbidden, is_transient
from koinonia.events.audit import ActionRecorded
from koinonia.life import Life
from koinonia.security.identity import Identity
from koinonia_gateway.domain.addresses import limited_as

log = structlog.get_logger()

_SAME_SECONDS = 60
_KEPT = 5000

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

    @classmethod
    def system(cls) -> "Actor":
        """Nobody: it happens by the clock."""
        return cls(kind="system", id=None, address="", request_id="")

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


class Refusals:
    """Records what was refused, each in a transaction of its own: an answer that waited for it would tell by its time
    whether there is such an account. Where that fails, the answer stands."""

    def __init__(self, database: Database, life: Life) -> None:
        self._database = database
        self._life = life
        self._recorded: dict[tuple[object, ...], datetime] = {}

    def record(self, church_id: UUID | None, act: ActionRecorded) -> None:
        """Record an act of a church, or of none; a limit must stand before it."""
        self._life.spawn("refused act", self._write(church_id, act), once=True)

    def record_once(self, church_id: UUID, act: ActionRecorded) -> None:
        """Record it, unless this gateway did in the last minute: programs repeat what is refused to them."""
        address = limited_as(act.address or "")
        same = (act.action, act.actor_id, act.target_id, address, *sorted(act.details.items()))
        before = self._recorded.get(same)
        if before is not None and act.occurred_at - before < timedelta(seconds=_SAME_SECONDS):
            return
        if len(self._recorded) >= _KEPT:
            self._recorded.clear()
        self._recorded[same] = act.occurred_at
        self.record(church_id, act)

    @contextmanager
    def recorded(
        self, church_id: UUID, actor: Actor, action: str, target: tuple[str, UUID] | None, **details: str
    ) -> Iterator[None]:
        """Record what is refused in here, and refuse it."""
        try:
            yield
        except (AuthenticationFailed, Forbidden, Conflict) as refused:
            act = actor.did(action, target=target, outcome="failure", reason=type(refused).__name__, **details)
            self.record_once(church_id, act)
            raise

    async def _write(self, church_id: UUID | None, act: ActionRecorded) -> None:
        database = self._database
        try:
            async with database.across_churches() if church_id is None else database.tenant(church_id) as tx:
                await outbox.add(tx, act)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("refusal_not_recorded", reason=type(error).__name__)
