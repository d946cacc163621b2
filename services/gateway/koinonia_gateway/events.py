"""What the gateway reacts to."""

from koinonia.bus import Subscription
from koinonia.events.billing import SubscriptionChanged
from koinonia.events.delivery import NumberChanged
from koinonia.events.messaging import BranchChanged
from koinonia_gateway import projections

SUBSCRIPTIONS = [
    Subscription(
        "gateway.projections",
        {
            BranchChanged: projections.follow_branch,
            NumberChanged: projections.follow_number,
            SubscriptionChanged: projections.follow_subscription,
        },
    ),
]
