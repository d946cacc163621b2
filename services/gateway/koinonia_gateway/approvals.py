"""A message waits for a second admin's word: who may give it, is told by e-mail. What it says is not, nor to whom."""

from datetime import timedelta

from koinonia import emails
from koinonia.api.messages import APPROVE
from koinonia.db import Transaction
from koinonia.emails import Addressee
from koinonia.events import Envelope
from koinonia.events.messaging import MessageHeld
from koinonia.ids import derived_id, id_time
from koinonia.security.keys import Keys
from koinonia_gateway.store import admins

NOTICE_LIFE = timedelta(days=3)
"""Counted from when the message began to wait: an older notice comes too late to be of use."""
SOMEBODY = "A program or a recurring message"


async def tell(tx: Transaction, keys: Keys, received: Envelope[MessageHeld]) -> None:
    """Mail to each admin who may approve, who asked for the message excepted; two statements.

    One e-mail for each message and admin: also of a message that comes to wait again the id is the same, and delivery
    sends it once. Whoever becomes an admin later sees the message in the list.
    """
    message = received.data
    rows = await admins.list_by_roles(tx, sorted(APPROVE.roles), message.requested_by)
    asker = next((f"{row['first_name']} {row['last_name']}" for row in rows if row["id"] == message.requested_by), "")
    made_at = id_time(message.message_id)
    await emails.request_many(
        tx,
        keys,
        tx.tenant,
        "approval-awaited",
        [
            Addressee(
                row["email_ciphertext"],
                {
                    "name": row["first_name"],
                    "church": row["church_name"],
                    "asker": asker or SOMEBODY,
                    "recipients": str(message.recipient_count),
                    "message": str(message.message_id),
                },
                derived_id(made_at, message.message_id.bytes, b"approval-awaited", row["id"].bytes),
            )
            for row in rows
            if row["id"] != message.requested_by
        ],
        expires_at=received.time + NOTICE_LIFE,
    )
