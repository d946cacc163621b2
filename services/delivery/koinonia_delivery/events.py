"""What delivery reacts to."""

from collections.abc import Sequence

from koinonia.bus import Subscription
from koinonia.events.carrier import MessageReceived, StatusReceived
from koinonia.events.compliance import ComplianceReplyRequested, SuppressionAdded, SuppressionRemoved
from koinonia.events.conversation import ReplyRequested, ReplyRequestedForTest
from koinonia.events.delivery import EmailRequested, MarkerSent, TextRequested
from koinonia.events.gateway import BacklogReported, ChurchChanged
from koinonia.events.messaging import (
    FailedRequested,
    MembersChanged,
    RecipientsResolved,
    RecipientsResolvedForTest,
    SendingPaused,
    SendingResumed,
)
from koinonia_delivery import chunks, churches, consents, emails, failed, holds, messages, texts
from koinonia_delivery.messages import Bells
from koinonia_delivery.receipts import Receipts

RECEIPT_EVENTS = 25  # of up to 100 receipts each; few when they come slowly


def subscriptions(receipts: Receipts, bells: Bells) -> Sequence[Subscription]:
    """The queues and their handlers."""
    return [
        Subscription(
            "delivery.churches",
            {
                ChurchChanged: churches.change,
                SendingPaused: churches.pause_sending,
                SendingResumed: churches.pause_sending,
            },
        ),
        Subscription("delivery.chunks", {RecipientsResolved: chunks.store, RecipientsResolvedForTest: chunks.store}),
        messages.subscription(bells),
        Subscription("delivery.failed", {FailedRequested: failed.answer}),
        Subscription(
            "delivery.texts",
            {
                ReplyRequested: texts.reply,
                ReplyRequestedForTest: texts.reply,
                ComplianceReplyRequested: texts.answer,
                TextRequested: texts.send,
            },
        ),
        Subscription("delivery.emails", {EmailRequested: emails.request}),
        # Repeats are harmless by rank: no inbox.
        Subscription(
            "delivery.receipts",
            {StatusReceived: receipts.apply},
            batch=RECEIPT_EVENTS,
            linger_seconds=0.05,  # a batch costs as much as some hundred of its rows
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
