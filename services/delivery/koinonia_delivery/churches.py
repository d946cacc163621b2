"""Churches: a new one gets its first number; the numbers of one that is suspended or paused rest."""

from uuid import UUID

from koinonia import metrics
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import NotFound
from koinonia.events import Envelope
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import SendingPaused, SendingResumed
from koinonia.ids import derived_id
from koinonia.quiet_hours import QuietHours
from koinonia.security.identity import Identity
from koinonia_delivery.store import lanes, numbers, retention, simulating
from koinonia_delivery.store.numbers import Number


async def change(tx: Transaction, received: Envelope[ChurchChanged]) -> None:
    """Note the church; save the wish for a number, which the provisioning loop fulfils; hold or free its numbers."""
    church = received.data
    if not await numbers.change_church(tx, church.version, church.status):
        return
    await retention.save(tx, church.retention_days)
    hours = None
    if church.quiet_from is not None and church.quiet_until is not None:
        hours = QuietHours(church.timezone, church.quiet_from, church.quiet_until)
    await lanes.keep_hours(tx, hours)
    if church.status == "active":
        await numbers.order(tx, derived_id(received.time, church.church_id.bytes, b"first number"))
    await outbox.add(tx, *(number_changed(number) for number in await _judge(tx)))


async def pause_sending(tx: Transaction, received: Envelope[SendingPaused] | Envelope[SendingResumed]) -> None:
    """The church pauses all that it sends, or sends again; then what the carrier had refused is tried again, too.

    A claim under way has the church's lane locked, so that this waits for it; each later one finds its numbers held.
    """
    said = received.data
    paused_at = said.paused_at if isinstance(said, SendingPaused) else None
    if not await numbers.pause_church(tx, said.version, paused_at):
        return
    await lanes.wake(tx)
    freed = [] if paused_at is not None else await numbers.forgive(tx)
    moved = {number.id: number for number in [*freed, *await _judge(tx)]}  # the newest state of each
    await outbox.add(tx, *(number_changed(number) for number in moved.values()))


async def pause_number(tx: Transaction, actor: Identity, number_id: UUID, *, paused: bool) -> Number:
    """Pause a number, or end its pause and a hold by the carrier's refusal; one that is so already stays as it is.

    Raises:
        NotFound: the church has no such number.
    """
    await lanes.wake(tx)
    changed = await numbers.pause(tx, number_id) if paused else await numbers.resume(tx, number_id)
    moved = {number.id: number for number in await _judge(tx)} if changed is not None else {}
    number = moved.get(number_id, changed) or await numbers.find(tx, number_id)
    if number is None:
        raise NotFound
    if changed is not None:
        action = "number.paused" if paused else "number.resumed"
        await outbox.add(tx, number_changed(number), acted(actor, action, "number", number_id))
    if changed is not None and paused:
        metrics.pauses_total.add(1, {"scope": "number", "cause": "person"})
    return number


async def _judge(tx: Transaction) -> list[Number]:
    """Hold or free the church's numbers; of those that changed, the tests that waited for one are looked at again."""
    judged = await numbers.judge(tx)
    if any(number.status == "active" for number in judged):
        await simulating.wake(tx)
    return judged


def number_changed(number: Number) -> NumberChanged:
    """A number's state for others."""
    return NumberChanged(
        number_id=number.id,
        version=number.version,
        phone=number.phone,
        kind=number.kind,
        status=number.shown_status,
        is_default=number.is_default,
        hold_reason=number.hold_reason,
    )
