"""What delivery reacts to."""

from collections.abc import Sequence

from koinonia.bus import Subscription
from koinonia.events.carrier import MessageReceived, StatusReceived
from koinonia.events.compliance import ComplianceReplyRequested, SuppressionAdded, SuppressionRemoved
from koinonia.events.conversation import ReplyRequested
from koinonia.events.delivery import MarkerSent
from koinonia.events.gateway import BacklogReported, ChurchChanged
from koinonia.events.messaging import (
    MembersChanged,
    MessageAccepted,
    MessageCancelled,
    MessageDispatched,
    RecipientsResolved,
)
from koinonia_delivery import chunks, churches, consents, holds, messages, texts
from koinonia_delivery.receipts import Receipts

RECEIPT_EVENTS = 25  # of up to 100 receipts each; few when they come slowly


def subscriptions(receipts: Receipts) -> Sequence[Subscription]:
    """The queues and their handlers."""
    return [
        Subscription("delivery.churches", {ChurchChanged: churches.change}),
        Subscription("delivery.chunks", {RecipientsResolved: chunks.store}),
        Subscription(
            "delivery.messages",
            {
                MessageAccepted: messages.note_accepted,
                MessageDispatched: messages.note_dispatched,
                MessageCancelled: messages.cancel,
            },
        ),
        Subscription("delivery.texts", {ReplyRequested: texts.reply, ComplianceReplyRequested: texts.answer}),
        # Repeats are harmless by rank: no inbox.
        Subscription(
            "delivery.receipts",
            {StatusReceived: receipts.apply},
            batch=RECEIPT_EVENTS,
            linger_seconds=0.005,
            inbox=False,
        ),
        # Versions make repeats harmless: no inbox.
        Subscription("delivery.consents", {MembersChanged: consents.follow}, inbox=False),
        # In the queue's order, so that a marker proves what came before it; tombstones and times make repeats harmless.
        Subscription(
            "delivery.holds",
            {
                MessageReceived: holds.hold,
                SuppressionAdded: holds.suppress,
                SuppressionRemoved: holds.release,
                MarkerSent: holds.note_marker,
                BacklogReported: holds.note_backlog,
            },
            across=True,
            inbox=False,
            prefetch=1,
        ),
    ]
