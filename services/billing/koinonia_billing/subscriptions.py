"""A church's subscription: it begins as a trial when the church registers."""

from datetime import timedelta

from koinonia import clock
from koinonia.bus import outbox, parking
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.billing import SubscriptionChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id
from koinonia_billing.settings import BillingSettings
from koinonia_billing.store import subscriptions as store


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
