"""Compliance's part of a recipient's trail: what the person said by text, never in which words, and who did what."""

from koinonia.api.messages import TrailEntry, TrailEvent
from koinonia.db import Transaction
from koinonia.ids import id_time
from koinonia.trail import Act, Part, Question
from koinonia_compliance.store import audit_log, consents

_ACTS: dict[str, TrailEvent] = {
    "message.accepted": "requested",
    "message.cancelled": "cancelled",
    "recipient.resend": "resent",
    "recipient.close": "closed",
    "message.paused": "paused",
    "message.resumed": "resumed",
    "sending.paused": "paused",
    "sending.resumed": "resumed",
}
# What no other service remembers is told here; the rest names who is behind an entry of theirs.
_TOLD = {
    "message.paused": "The message was paused.",
    "message.resumed": "The message went on.",
    "sending.paused": "All that the church sends was paused.",
    "sending.resumed": "The church's sending went on.",
}


async def tell(tx: Transaction, question: Question) -> Part:
    """What compliance knows; two statements."""
    said = await consents.list_while(tx, question.phone_index, id_time(question.recipient_id), question.until)
    # That somebody had agreed before is no news.
    news = [row for row in said if not row["granted"] or row["occurred_at"] >= id_time(question.recipient_id)]
    entries = [
        TrailEntry(
            at=row["occurred_at"],
            service="compliance",
            event="opted_in" if row["granted"] else "opted_out",
            sentence="This person agreed to texts again, by text."
            if row["granted"]
            else "This person opted out, by text.",
        )
        for row in news
    ]
    done = await audit_log.list_of_targets(
        tx,
        [question.source_id, question.recipient_id],
        list(_ACTS),
        church_since=id_time(question.recipient_id),
    )
    entries += [
        TrailEntry(
            at=row["occurred_at"],
            service="compliance",
            event=_ACTS[row["action"]],
            sentence=_TOLD[row["action"]],
        )
        for row in done
        if row["action"] in _TOLD and row["occurred_at"] <= question.until
    ]
    acts = [Act(event=_ACTS[row["action"]], at=row["occurred_at"], actor_id=row["actor_id"]) for row in done]
    return Part(entries=entries, acts=acts)
