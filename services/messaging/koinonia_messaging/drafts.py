"""A draft, sent to the phone of who wrote it: as a broadcast would read, before there is one.

Whose phone it is, the gateway says with the request; delivery sends it as it sends a reply. Nothing of it is kept here.
"""

from datetime import timedelta
from uuid import UUID

from koinonia import clock, sms
from koinonia.api.messages import DraftRequest
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, ValidationFailed
from koinonia.events.delivery import TextRequested
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging import messages
from koinonia_messaging.domain.audience import Target
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import projections as projection_store

LIFE = timedelta(hours=1)
"""What could not go by then is no answer to anybody's question any more."""


async def send_to_me(tx: Transaction, actor: Identity, request: DraftRequest) -> UUID:
    """Have a draft sent to the actor's own phone; answers its id. Four statements.

    Raises:
        ValidationFailed: no such template or number, or a text that is empty or too long once its fields are filled in.
        Conflict: the actor has confirmed no phone, or it has opted out.
    """
    draft = await messages.read_draft(tx, request)
    text = draft.write()
    encode = sms.smart_value if text.smart else str
    content = sms.render(text.content, {name: encode(value) for name, value in request.fields.items()})
    if not content.strip() and not text.has_media:
        raise ValidationFailed.field("fields", "Nothing is left of the text without them")
    if sms.segments(content).segments > sms.MOST_SEGMENTS:
        raise ValidationFailed.field("content", f"Over {sms.MOST_SEGMENTS} segments once its fields are filled in")
    _, can_send = await audience_store.check(tx, Target("all", ()), request.number_id)
    if not can_send:
        raise ValidationFailed.field("numberId", "No such number, or it cannot send now")
    if actor.own_phone_index is None or actor.own_phone_ciphertext is None:
        raise Conflict("You have confirmed no phone of your own yet: see POST /api/auth/phone.")
    if await projection_store.is_suppressed(tx, actor.own_phone_index):
        raise Conflict("Your phone has opted out of this church's texts: text START to its number first.")
    now, draft_id = clock.now(), new_id()
    wanted = TextRequested(
        text_id=draft_id,
        purpose="draft",
        number_id=request.number_id or draft.rules.number_id,
        phone_index=actor.own_phone_index,
        phone_ciphertext=actor.own_phone_ciphertext,
        content=content,
        media_urls=tuple(request.media_urls),
        requested_at=now,
        do_not_send_after=now + LIFE,
    )
    await outbox.add(tx, wanted, acted(actor, "message.draft_sent", "draft", draft_id))
    return draft_id
