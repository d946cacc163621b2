"""Door: what messaging reacts to."""

from functools import partial

from koinonia.bus import Subscription
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.billing import MessageAuthorized, MessageCredited, MessageDeclined
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import BroadcastStopped, FailedListed, NumberChanged, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged
from koinonia_messaging import broadcasts, pauses, progress, projections, resending
from koinonia_messaging.domain.brake import USUAL, Brake
from koinonia_messaging.schedule import Bells

PROGRESS_BATCH = 500
PROGRESS_LINGER_SECONDS = 0.1


def subscriptions(bells: Bells, brake: Brake = USUAL) -> list[Subscription]:
    """Queue by queue, the handler of each event type; an authorized message wakes the streamer at once."""

    async def authorize(tx: Transaction, received: Envelope[MessageAuthorized]) -> None:
        if await broadcasts.authorize(tx, received):
            tx.after_commit(bells.streaming.set)

    async def gather(tx: Transaction, received: Envelope[FailedListed]) -> None:
        if await resending.gather(tx, received):
            tx.after_commit(bells.due.set)

    return [
        Subscription(
            "messaging.churches",
            {ChurchChanged: projections.apply_church, NumberChanged: projections.apply_number},
        ),
        Subscription("messaging.billing", {MessageAuthorized: authorize, MessageDeclined: broadcasts.decline}),
        Subscription(
            "messaging.progress",
            {RecipientsUpdated: partial(progress.apply, rule=brake)},
            batch=PROGRESS_BATCH,
            linger_seconds=PROGRESS_LINGER_SECONDS,
        ),
        Subscription("messaging.stops", {BroadcastStopped: pauses.confirm, MessageCredited: pauses.credit}),
        Subscription("messaging.failed", {FailedListed: gather}),
        Subscription(
            "messaging.suppressions",
            {
                SuppressionAdded: projections.apply_suppression,
                SuppressionRemoved: projections.apply_suppression,
            },
        ),
    ]
