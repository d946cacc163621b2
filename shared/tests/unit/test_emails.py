"""Asking for an e-mail: one event, nothing private in it, and no field forgotten."""

import base64
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from koinonia import emails
from koinonia.events import decode
from koinonia.events.delivery import EmailRequested, EmailTemplate
from koinonia.ids import new_id
from koinonia.security.keys import Keys

KEY = base64.b64encode(bytes(32)).decode()
KEYS = Keys.parse(encryption_keys=f"a:{KEY}", token_keys=f"a:{KEY}", blind_index_key=KEY)
CHURCH = new_id()
EMAIL_ID = new_id()
EXPIRES_AT = datetime(2026, 11, 22, 16, tzinfo=UTC)


class Noting:
    """A transaction's place, where a statement and its arguments are noted."""

    service = "gateway"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def fetch_value(self, *call: Any) -> None:
        self.calls.append(call)


async def ask(tx: Any, fields: dict[str, str], template: EmailTemplate = "recovery-code-used") -> None:
    email = KEYS.encrypt("anna@example.org", CHURCH, "email")
    await emails.request(
        tx,
        KEYS,
        CHURCH,
        template,
        email_ciphertext=email,
        fields=fields,
        email_id=EMAIL_ID,
        expires_at=EXPIRES_AT,
    )


async def test_a_wish_is_one_event_with_the_emails_id_and_nothing_private_in_it() -> None:
    tx = Noting()
    fields = {"name": "Anna", "church": "Grace Chapel", "codes_left": "7"}
    await ask(tx, fields)
    ((_, ids, churches, types, bodies, _),) = tx.calls
    assert (ids, churches, types) == ([EMAIL_ID], [CHURCH], ["delivery.email.requested"])
    wish = decode(bodies[0]).data
    assert isinstance(wish, EmailRequested)
    assert (wish.email_id, wish.template, wish.expires_at) == (EMAIL_ID, "recovery-code-used", EXPIRES_AT)
    assert not any(value in bodies[0] for value in (b"Anna", b"Grace", b"anna@", b'"7"'))
    assert opened(wish, CHURCH) == fields


def opened(wish: EmailRequested, church_id: UUID) -> Any:
    return msgspec.json.decode(KEYS.decrypt(wish.fields_ciphertext, church_id, "fields"))


@pytest.mark.parametrize("fields", [{}, {"name": "Anna", "church": "Grace Chapel"}, dict.fromkeys("abc", "x")])
async def test_a_template_without_its_fields_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="recovery-code-used has the fields church, codes_left, name"):
        await ask(Noting(), fields)


def test_each_template_says_its_fields() -> None:
    assert set(emails.TEMPLATES) == set(get_args(EmailTemplate))
