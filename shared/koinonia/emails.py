"""Asking for an e-mail: what each template needs, and the event that delivery answers by sending it.

The asker's transaction holds the wish, so it is sent exactly when what it tells of has happened. Address and fields
leave encrypted for their church; no link is asked for, only its token: delivery makes links of the platform's own.
"""

from collections.abc import Iterable, Mapping
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
    "approval-awaited": frozenset({"name", "church", "asker", "recipients", "message"}),
}
"""The fields of each template, all needed.

``name``: the first name of whom it goes to; ``church``: the church's; ``inviter``, ``maker``, ``asker``: a full name;
``valid_for``: how long the token works, as people say it (``30 minutes``); ``codes_left``, ``recipients``: a number;
``key``: an API key's name; ``message``: a message's id.
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
    to = Addressee(email_ciphertext, fields, email_id)
    await request_many(tx, keys, church_id, template, [to], expires_at=expires_at)


class Addressee(msgspec.Struct, frozen=True):
    """Who gets an e-mail, as ``request`` takes it."""

    email_ciphertext: bytes
    fields: Mapping[str, str]
    email_id: UUID


async def request_many(
    tx: Transaction,
    keys: Keys,
    church_id: UUID,
    template: EmailTemplate,
    addressees: Iterable[Addressee],
    *,
    expires_at: datetime,
) -> None:
    """As ``request``, the same e-mail to each of these; one statement however many they are, none for nobody.

    Raises:
        ValueError: somebody's ``fields`` are not the template's.
    """
    wishes = [
        outbox.envelope(
            tx, _wish(keys, church_id, template, each, expires_at), church_id=church_id, event_id=each.email_id
        )
        for each in addressees
    ]
    if wishes:
        await outbox.add_envelopes(tx, *wishes)


def _wish(keys: Keys, church_id: UUID, template: EmailTemplate, to: Addressee, expires_at: datetime) -> EmailRequested:
    if to.fields.keys() != TEMPLATES[template]:
        raise ValueError(f"the template {template} has the fields {', '.join(sorted(TEMPLATES[template]))}")
    return EmailRequested(
        email_id=to.email_id,
        template=template,
        email_ciphertext=to.email_ciphertext,
        fields_ciphertext=keys.encrypt(msgspec.json.encode(to.fields).decode(), church_id, "fields"),
        expires_at=expires_at,
    )
