"""The texts that compliance sends by itself: confirmations and help.

A church whose name is not known yet is called "this church". Nobody can text a church before it has a number, and it
has none before it is announced, so its name is missing only while compliance catches up on its queues; a confirmation
that leaves at once without the name is worth more than one kept for later beside the suppression.
"""

import structlog

from koinonia import clock
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import ComplianceReplyRequested
from koinonia.security.encryption import CiphertextInvalid
from koinonia.security.keys import Keys
from koinonia_compliance.churches import platform_index
from koinonia_compliance.domain.acts import Keyword
from koinonia_compliance.domain.replies import MOST_PER_HOUR, content
from koinonia_compliance.store import churches as church_store
from koinonia_compliance.store import replies as store

log = structlog.get_logger()

UNKNOWN_CHURCH = "this church"


async def make(
    tx: Transaction, received: Envelope[MessageReceived], purpose: Keyword, keys: Keys
) -> list[ComplianceReplyRequested]:
    """The reply to a text; none to a number of our own, nor more than a few per number and hour; two statements."""
    text = received.data
    index = _sender_index(tx, received, keys)
    if index is None:
        return []
    name, is_ours = await church_store.find_name(tx, index)
    if is_ours or not await store.count_one(tx, text.phone_index, at=clock.now(), most=MOST_PER_HOUR):
        log.info("reply_omitted", inbound_event_id=str(received.id), reason="own_number" if is_ours else "limit")
        return []
    reply = ComplianceReplyRequested(
        purpose=purpose,
        number_id=text.number_id,
        phone_index=text.phone_index,
        phone_ciphertext=text.phone_ciphertext,
        content=content(purpose, name or UNKNOWN_CHURCH),
        inbound_event_id=received.id,
        requested_at=clock.now(),
    )
    return [reply]


def _sender_index(tx: Transaction, received: Envelope[MessageReceived], keys: Keys) -> bytes | None:
    """The sender's number as our own are known; None when it cannot be read, and so cannot be texted either."""
    try:
        return platform_index(keys, keys.decrypt(received.data.phone_ciphertext, tx.tenant, "phone"))
    except (CiphertextInvalid, ValueError) as error:
        log.warning("reply_omitted", inbound_event_id=str(received.id), reason=type(error).__name__)
        return None
