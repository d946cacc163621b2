"""What the gateway keeps of others' facts: whether a church can send, and whose an inbound text is."""

from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.billing import SubscriptionChanged
from koinonia.events.delivery import NumberChanged
from koinonia.events.messaging import BranchChanged
from koinonia_gateway.store import churches, projections


async def follow_branch(tx: Transaction, received: Envelope[BranchChanged]) -> None:
    """Note a branch; a removed one is nobody's default."""
    branch = received.data
    is_default = branch.is_default and not branch.deleted
    await projections.upsert_branch(tx, branch.branch_id, is_default=is_default, version=branch.version)


async def follow_number(tx: Transaction, received: Envelope[NumberChanged]) -> None:
    """Note a number."""
    number = received.data
    await projections.upsert_number(
        tx, number.number_id, phone=number.phone, status=number.status, version=number.version
    )


async def follow_subscription(tx: Transaction, received: Envelope[SubscriptionChanged]) -> None:
    """Note the church's subscription."""
    subscription = received.data
    await churches.update_subscription(tx, subscription.status, subscription.plan, subscription.version)
