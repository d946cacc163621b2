"""Door: what messaging reacts to."""

from koinonia.bus import Subscription
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.billing import MessageAuthorized, MessageDeclined
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged
from koinonia_messaging import broadcasts, progress, projections
from koinonia_messaging.schedule import Bells

PROGRESS_BATCH = 500
PROGRESS_LINGER_SECONDS = 0.05


def subscriptions(bells: Bells) -> list[Subscription]:
    """Queue by queue, the handler of each event type; an authorized message wakes the streamer at once."""

    async def authorize(tx: Transaction, received: Envelope[MessageAuthorized]) -> None:
        if await broadcasts.authorize(tx, received):
            tx.after_commit(bells.streaming.set)

    return [
        Subscription(
            "messaging.churches",
            {ChurchChanged: projections.apply_church, NumberChanged: projections.apply_number},
        ),
        Subscription("messaging.billing", {MessageAuthorized: authorize, MessageDeclined: broadcasts.decline}),
        Subscription(
            "messaging.progress",
            {RecipientsUpdated: progress.apply},
            batch=PROGRESS_BATCH,
            linger_seconds=PROGRESS_LINGER_SECONDS,
        ),
        Subscription(
            "messaging.suppressions",
            {
                SuppressionAdded: projections.apply_suppression,
                SuppressionRemoved: projections.apply_suppression,
            },
        ),
    ]
