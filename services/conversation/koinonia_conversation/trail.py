"""Conversation's part of a recipient's trail: who wrote a reply, and when."""

from koinonia.api.messages import TrailEntry
from koinonia.db import Transaction
from koinonia.trail import Act, Part, Question
from koinonia_conversation.store import messages


async def tell(tx: Transaction, question: Question) -> Part:
    """What conversation knows; at most one statement."""
    reply = await messages.find_outbound(tx, question.source_id) if question.kind == "reply" else None
    if reply is None:
        return Part()
    at = reply["created_at"]
    entry = TrailEntry(at=at, service="conversation", event="requested", sentence="The reply was written.")
    return Part(entries=[entry], acts=[Act(event="requested", at=at, actor_id=reply["sent_by"])])
