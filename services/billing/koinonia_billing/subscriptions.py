"""A church's subscription: it begins as a trial when the church registers; an operator may give it another plan."""

from collections.abc import Sequence
from datetime import timedelta

from koinonia import clock
from koinonia.bus import outbox, parking
from koinonia.db import Transaction
from koinonia.errors import NotFound, ValidationFailed
from koinonia.events import Envelope
from koinonia.events.audit import ActionRecorded
from koinonia.events.billing import SubscriptionChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id
from koinonia_billing.settings import BillingSettings
from koinonia_billing.store import subscriptions as store


class PlanUnknown(ValidationFailed):
    """There is no such plan."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__()
        self.known = known


def church_key(church_id: object) -> str:
    """The fact that a church has a subscription."""
    return f"church:{church_id}"


async def follow_church(tx: Transaction, received: Envelope[ChurchChanged], settings: BillingSettings) -> None:
    """Give a new church its trial; note another's status."""
    church = received.data
    begins_at = clock.now()
    ends_at = begins_at + timedelta(days=settings.trial_days)
    began = await store.insert_trial(
        tx,
        new_id(),
        church_status=church.status,
        church_version=church.version,
        begins_at=begins_at,
        ends_at=ends_at,
        included_segments=settings.trial_segments,
    )
    if not began:
        await store.update_church(tx, church.status, church.version)
        return
    started = SubscriptionChanged(
        version=1,
        plan="trial",
        status="trialing",
        period_start=begins_at,
        period_end=ends_at,
        included_segments=settings.trial_segments,
    )
    await outbox.add(tx, started)
    await parking.release(tx, church_key(tx.tenant))


async def set_plan(tx: Transaction, code: str, *, operator: str) -> bool:
    """Give the transaction's church another plan from now on; False: it has it already.

    ``operator`` is the name of who does it on the platform's machine.

    Raises:
        PlanUnknown: there is no such plan.
        NotFound: there is no such church, or it is too new to have a subscription.
    """
    known = [row["code"] for row in await store.list_plans(tx)]
    if code not in known:
        raise PlanUnknown(known)
    before = await store.lock_plan(tx)
    if before is None:
        raise NotFound
    if before["plan_code"] == code and before["status"] in ("trialing", "active"):
        return False
    row = await store.set_plan(tx, code)
    if row is None:
        raise NotFound
    changed = SubscriptionChanged(
        version=row["version"],
        plan=row["plan_code"],
        status=row["status"],
        period_start=row["period_start"],
        period_end=row["period_end"],
        included_segments=row["included_segments"],
    )
    act = ActionRecorded(
        action="church.plan_set",
        actor_kind="operator",
        actor_id=None,
        outcome="success",
        occurred_at=clock.now(),
        target_kind="church",
        target_id=tx.tenant,
        details={"before": before["plan_code"], "after": code, "operator": operator},
    )
    await outbox.add(tx, changed, act)
    return True
