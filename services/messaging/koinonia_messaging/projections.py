"""Other services' facts arrive. A church that is new gets its default branch."""

from koinonia import clock
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import BranchChanged
from koinonia.ids import new_id
from koinonia_messaging.store import branches as branch_store
from koinonia_messaging.store import projections as projection_store

DEFAULT_BRANCH = "Main"


async def apply_church(tx: Transaction, received: Envelope[ChurchChanged]) -> None:
    """Keep a church's newest state, and make its default branch when it is the first we hear of it."""
    if not await projection_store.save_church(tx, received.data):
        return
    branch_id = new_id()
    await branch_store.insert(tx, branch_id, name=DEFAULT_BRANCH, description="", is_default=True, at=clock.now())
    await outbox.add(tx, BranchChanged(branch_id=branch_id, version=1, name=DEFAULT_BRANCH, is_default=True))


async def apply_number(tx: Transaction, received: Envelope[NumberChanged]) -> None:
    """Keep the newest state of one of a church's own numbers."""
    await projection_store.save_number(tx, received.data)


async def apply_suppression(tx: Transaction, received: Envelope[SuppressionAdded | SuppressionRemoved]) -> None:
    """Keep whether a number has opted out: the later act holds."""
    await projection_store.save_suppression(tx, received.data)
