"""What the inbox reacts to."""

from functools import partial

from koinonia.bus import Subscription
from koinonia.events.carrier import MessageReceived
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.messaging import MembersChanged
from koinonia.security import Keys
from koinonia_conversation import inbox


def subscriptions(keys: Keys) -> list[Subscription]:
    """The queues and their handlers."""
    return [
        Subscription(
            "conversation.contacts", {MembersChanged: inbox.follow_members, NumberChanged: inbox.follow_number}
        ),
        Subscription("conversation.inbound", {MessageReceived: partial(inbox.receive, keys=keys)}),
        # Ranks make repeats harmless: no inbox. Of a broadcast's events nothing is kept.
        Subscription(
            "conversation.progress",
            {RecipientsUpdated: inbox.follow_replies},
            batch=200,
            linger_seconds=0.1,
            inbox=False,
        ),
    ]
