"""What people text: STOP, START and HELP are judged, recorded and answered; the rest is conversation's.

Every STOP and START is answered by a suppression event that names it and tells the state that holds, with that state's
own time and in the transaction that recorded it. So delivery may settle a hold by the answer that names its text, and
by any answer dated later than its text, in whatever order texts and answers come:

    1. STOP of 10:00, then START of 10:05: added, 10:00; removed, 10:05. The START holds.
    2. START of 10:05, then the late STOP of 10:00: removed, 10:05; removed, 10:05. The START holds.
    3. STOP of 10:05, then the late START of 10:00: added, 10:05; added, 10:05. The STOP holds.
    4. Both of 10:00: the STOP holds, judged first or last.

Nothing that a reply needs is waited for.
"""

from koinonia import clock
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events import Envelope, Event
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.security.keys import Keys
from koinonia_compliance import replies
from koinonia_compliance.domain.acts import Act, Keyword, asked, outranks, state_of
from koinonia_compliance.domain.replies import is_due
from koinonia_compliance.store import consents
from koinonia_compliance.store import opt_outs as store
from koinonia_compliance.store.opt_outs import Standing


async def judge(tx: Transaction, received: Envelope[MessageReceived], keys: Keys) -> None:
    """Judge an inbound text and answer it; at most six statements, none for what is no keyword."""
    text = received.data
    keyword = asked(text.text, text.answered_by_carrier)
    if keyword is None:
        return
    events: list[Event] = []
    changed = False
    if keyword != "help":
        standing, changed = await _record(tx, received, keyword)
        events.append(_answer(received, standing))
    if is_due(
        keyword,
        changed=changed,
        answered_by_carrier=text.answered_by_carrier is not None,
        age=clock.now() - text.occurred_at,
    ):
        events += await replies.make(tx, received, keyword, keys)
    await outbox.add(tx, *events)


async def _record(tx: Transaction, received: Envelope[MessageReceived], keyword: Keyword) -> tuple[Standing, bool]:
    """Keep the proof, and the act if it holds; answers what holds now, and whether the state changed."""
    act = Act(state_of(keyword), received.data.occurred_at)
    await consents.insert(tx, received, granted=act.state == "opted_in")
    standing = await store.lock(tx, received, act)
    if standing.version == 1:  # the first of this number
        return standing, True
    if not outranks(act, standing.act):
        return standing, False
    await store.save(tx, received, act)
    return Standing(act, standing.version), act.state != standing.act.state


def _answer(received: Envelope[MessageReceived], standing: Standing) -> SuppressionAdded | SuppressionRemoved:
    """The state that holds, naming the text that it answers."""
    index, occurred_at = received.data.phone_index, standing.act.occurred_at
    if standing.act.state == "opted_out":
        return SuppressionAdded(
            phone_index=index,
            version=standing.version,
            occurred_at=occurred_at,
            reason="stop",
            inbound_event_id=received.id,
        )
    return SuppressionRemoved(
        phone_index=index,
        version=standing.version,
        occurred_at=occurred_at,
        reason="start",
        inbound_event_id=received.id,
    )
