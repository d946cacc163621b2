"""What the gateway reacts to."""

from koinonia.bus import Subscription
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.billing import SubscriptionChanged
from koinonia.events.delivery import NumberChanged
from koinonia.events.messaging import BranchChanged, MessageHeld
from koinonia.security.keys import Keys
from koinonia_gateway import approvals, projections


def subscriptions(keys: Keys) -> list[Subscription]:
    """Queue by queue, the handler of each event type."""

    async def tell_approvers(tx: Transaction, received: Envelope[MessageHeld]) -> None:
        await approvals.tell(tx, keys, received)

    return [
        Subscription(
            "gateway.projections",
            {
                BranchChanged: projections.follow_branch,
                NumberChanged: projections.follow_number,
                SubscriptionChanged: projections.follow_subscription,
            },
        ),
        Subscription("gateway.approvals", {MessageHeld: tell_approvers}),
    ]
