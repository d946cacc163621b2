"""Opt-outs at once: an inbound text that looks like one holds its number until compliance has answered.

The queue is consumed in its order, by one consumer at a time: so a marker that comes back proves that all before it has
been applied.
"""

from uuid import UUID

from koinonia.bus import parking
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import MarkerSent
from koinonia.events.gateway import BacklogReported
from koinonia.sms import keywords
from koinonia_delivery.store import suppressions
from koinonia_delivery.texts import answer_fact


async def hold(tx: Transaction, received: Envelope[MessageReceived]) -> None:
    """Hold the sender's number if the text, or the carrier, says stop; no claim of the church passes this by."""
    text = received.data
    if text.answered_by_carrier != "STOP" and keywords.judge(text.text) != "stop":
        return
    church_id = _church_of(received)
    await suppressions.lock_claims(tx, church_id)
    await suppressions.hold(tx, church_id, received.id, text.phone_index, text.occurred_at)


async def suppress(tx: Transaction, received: Envelope[SuppressionAdded]) -> None:
    """Compliance says: do not text this number."""
    await _answer(tx, received, suppressed=True)


async def release(tx: Transaction, received: Envelope[SuppressionRemoved]) -> None:
    """Compliance says: this number may be texted."""
    await _answer(tx, received, suppressed=False)


async def note_marker(tx: Transaction, received: Envelope[MarkerSent]) -> None:
    """Our own marker has come back."""
    await suppressions.note_marker(tx, received.data.sent_at)


async def note_backlog(tx: Transaction, received: Envelope[BacklogReported]) -> None:
    """A gateway tells what it could not publish."""
    await suppressions.note_backlog(tx, received.time, received.data.oldest_inbound_at)


async def _answer(
    tx: Transaction, received: Envelope[SuppressionAdded] | Envelope[SuppressionRemoved], *, suppressed: bool
) -> None:
    church_id, said = _church_of(received), received.data
    await suppressions.lock_claims(tx, church_id)
    await suppressions.answer(
        tx,
        church_id,
        said.phone_index,
        suppressed=suppressed,
        occurred_at=said.occurred_at,
        version=said.version,
        inbound_event_id=said.inbound_event_id,
    )
    if said.inbound_event_id is not None:
        await parking.release(tx, answer_fact(said.inbound_event_id))


def _church_of(
    received: Envelope[MessageReceived] | Envelope[SuppressionAdded] | Envelope[SuppressionRemoved],
) -> UUID:
    if received.church_id is None:
        raise ValueError(f"{received.type} names no church")
    return received.church_id
