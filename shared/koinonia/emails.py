"""Asking for an e-mail: what each template needs, and the event that delivery answers by sending it.

The asker's transaction holds the wish, so it is sent exactly when what it tells of has happened. Address and fields
leave encrypted for their church; no link is asked for, only its token: delivery makes links of the platform's own.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events.delivery import EmailRequested, EmailTemplate
from koinonia.security.keys import Keys

TEMPLATES: Mapping[EmailTemplate, frozenset[str]] = {
    "password-reset": frozenset({"name", "church", "token", "valid_for"}),
    "password-changed": frozenset({"name", "church"}),
    "recovery-code-used": frozenset({"name", "church", "codes_left"}),
    "mfa-on": frozenset({"name", "church"}),
    "mfa-off": frozenset({"name", "church"}),
    "invitation": frozenset({"name", "church", "inviter", "token", "valid_for"}),
    "api-key-made": frozenset({"name", "church", "maker", "key"}),
}
"""The fields of each template, all needed.

``name``: the first name of whom it goes to; ``church``: the church's; ``inviter``, ``maker``: a full name;
``valid_for``: how long the token works, as people say it (``30 minutes``); ``codes_left``: a number; ``key``: an API
key's name.
"""


async def request(
    tx: Transaction,
    keys: Keys,
    church_id: UUID,
    template: EmailTemplate,
    *,
    email_ciphertext: bytes,
    fields: Mapping[str, str],
    email_id: UUID,
    expires_at: datetime,
) -> None:
    """Ask for an e-mail to the address in ``email_ciphertext`` (kind ``email``, of the church): one statement.

    ``email_id`` makes a repeat harmless: derive it from what the e-mail tells of. After ``expires_at`` (UTC) it is not
    sent any more: that is when its token stops working, or when nobody needs to be told.

    Raises:
        ValueError: ``fields`` are not the template's.
    """
    if fields.keys() != TEMPLATES[template]:
        raise ValueError(f"the template {template} has the fields {', '.join(sorted(TEMPLATES[template]))}")
    wish = EmailRequested(
        email_id=email_id,
        template=template,
        email_ciphertext=email_ciphertext,
        fields_ciphertext=keys.encrypt(msgspec.json.encode(fields).decode(), church_id, "fields"),
        expires_at=expires_at,
    )
    await outbox.add(tx, wish, church_id=church_id, event_id=email_id)
