"""What the inbox reacts to."""

from koinonia.bus import Subscription
from koinonia.events.carrier import MessageReceived
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.messaging import MembersChanged
from koinonia_conversation import inbox

SUBSCRIPTIONS = [
    Subscription("conversation.contacts", {MembersChanged: inbox.follow_members, NumberChanged: inbox.follow_number}),
    Subscription("conversation.inbound", {MessageReceived: inbox.receive}),
    Subscription("conversation.progress", {RecipientsUpdated: inbox.follow_replies}, batch=200, linger_seconds=0.02),
]
