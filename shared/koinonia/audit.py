"""What people did, on its way to the audit log: it leaves in the outbox of the transaction that did it."""

from uuid import UUID

from koinonia import clock
from koinonia.events.audit import ActionRecorded
from koinonia.security.identity import Identity


def acted(actor: Identity, action: str, target_kind: str, target_id: UUID, **details: str) -> ActionRecorded:
    """``actor`` has done ``action``; details are ids, counts and reasons that people give, never a person's data, and
    tell that it was a test.
    """
    return ActionRecorded(
        action=action,
        actor_kind=actor.principal_kind,
        actor_id=actor.principal_id,
        outcome="success",
        occurred_at=clock.now(),
        target_kind=target_kind,
        target_id=target_id,
        address=actor.address,
        request_id=actor.request_id,
        details={**details, "test": "true"} if actor.test else details,
    )
