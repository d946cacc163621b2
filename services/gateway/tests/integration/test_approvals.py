"""Who may approve a message that waits is told by e-mail, once, and of nothing that it says; nobody else is told."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.events import Envelope
from koinonia.events.delivery import EmailRequested
from koinonia.events.messaging import MessageHeld
from koinonia.ids import new_id
from koinonia.security.identity import Role
from koinonia.security.keys import Keys
from koinonia.testing.services import BusProbe
from koinonia_gateway import approvals
from koinonia_gateway.store import admins

from .conftest import Browser, NewBrowser, Service

CountStatements = Callable[[], AbstractContextManager[StatementLog]]

OUTBOX = statement("test.outbox_ids", "SELECT id FROM outbox WHERE type = 'delivery.email.requested' ORDER BY id")
SUSPEND = statement("test.suspend", "UPDATE churches SET status = 'suspended'")


class Killed(Exception):
    """The process died before its transaction's commit."""


async def add(gateway: Service, keys: Keys, church_id: UUID, name: str, role: Role) -> UUID:
    """One more admin of the church."""
    email, admin_id = f"{name.lower()}@grace.example", new_id()
    async with gateway.parts.database.tenant(church_id) as tx:
        await admins.insert(
            tx,
            admin_id,
            first_name=name,
            last_name="Miller",
            email_ciphertext=keys.encrypt(email, church_id, "email"),
            login_index=keys.login_index(email),
            password_hash="none",
            role=role,
            at=clock.now(),
        )
    return admin_id


def held(requested_by: str | UUID | None, message_id: UUID | None = None) -> MessageHeld:
    by = UUID(str(requested_by)) if requested_by is not None else None
    return MessageHeld(message_id=message_id or new_id(), requested_by=by, recipient_count=120)


async def told(bus: BusProbe, keys: Keys, church_id: UUID, emails: int) -> dict[str, dict[str, str]]:
    """The fields of the next so many e-mails, by address; no more follow."""
    wishes = [await bus.next(EmailRequested) for _ in range(emails)]
    assert {wish.data.template for wish in wishes} <= {"approval-awaited"}
    return {
        keys.decrypt(wish.data.email_ciphertext, church_id, "email"): msgspec.json.decode(
            keys.decrypt(wish.data.fields_ciphertext, church_id, "fields")
        )
        for wish in wishes
    }


async def is_heard(owner: Browser, bus: BusProbe, keys: Keys) -> bool:
    """Whether all events before have been handled: one that makes an e-mail comes out."""
    await bus.publish(held(None), UUID(owner.church_id))
    return (await told(bus, keys, UUID(owner.church_id), 1)).keys() == {"ruth@grace.example"}


async def test_admins_who_may_approve_hear_of_it_but_not_who_asked(
    owner: Browser, browsers: NewBrowser, gateway: Service, bus: BusProbe, keys: Keys
) -> None:
    church_id = UUID(owner.church_id)
    await browsers().register("hannah@hope.example", "Hope Chapel")
    asker = await add(gateway, keys, church_id, "Naomi", "sender")
    await add(gateway, keys, church_id, "Boaz", "admin")
    await add(gateway, keys, church_id, "Jesse", "viewer")
    event = await bus.publish(held(asker), church_id)
    emails = await told(bus, keys, church_id, 2)
    assert emails.keys() == {"ruth@grace.example", "boaz@grace.example"}
    assert emails["boaz@grace.example"] == {
        "name": "Boaz",
        "church": "Grace Chapel",
        "asker": "Naomi Miller",
        "recipients": "120",
        "message": str(event.data.message_id),
    }
    await bus.publish(held(owner.admin_id), church_id)
    (fields,) = (await told(bus, keys, church_id, 1)).items()
    assert (fields[0], fields[1]["asker"]) == ("boaz@grace.example", "Ruth Miller")
    assert await bus.all(EmailRequested) == []


async def test_of_what_a_program_asks_for_all_who_may_approve_hear(owner: Browser, bus: BusProbe, keys: Keys) -> None:
    for program in (new_id(), None):
        await bus.publish(held(program), UUID(owner.church_id))
        emails = await told(bus, keys, UUID(owner.church_id), 1)
        assert emails["ruth@grace.example"]["asker"] == approvals.SOMEBODY


async def test_an_event_that_comes_twice_mails_once_and_a_message_that_waits_again_the_same_mail(
    owner: Browser, bus: BusProbe, keys: Keys
) -> None:
    church_id = UUID(owner.church_id)
    event = await bus.publish(held(None), church_id)
    first = await bus.next(EmailRequested)
    await bus.publish_envelope(event)
    assert await is_heard(owner, bus, keys)
    await bus.publish(held(None, event.data.message_id), church_id)
    again = await bus.next(EmailRequested)
    assert (again.id, again.data.email_id) == (first.id, first.data.email_id)
    assert first.data.expires_at == event.time + approvals.NOTICE_LIFE


async def test_nobody_of_a_suspended_church_hears(owner: Browser, bus: BusProbe, gateway: Service, keys: Keys) -> None:
    event = Envelope(id=new_id(), time=clock.now(), data=held(None), church_id=UUID(owner.church_id))
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        await tx.execute(SUSPEND)
        await approvals.tell(tx, keys, event)
        assert await tx.fetch(OUTBOX) == []


async def test_killed_before_the_commit_it_mails_nothing_and_late_it_mails_still(
    owner: Browser, gateway: Service, bus: BusProbe, keys: Keys
) -> None:
    church_id = UUID(owner.church_id)
    event = Envelope(id=new_id(), time=clock.now() - timedelta(hours=1), data=held(None), church_id=church_id)
    with pytest.raises(Killed):
        async with gateway.parts.database.tenant(church_id) as tx:
            await approvals.tell(tx, keys, event)
            assert len(await tx.fetch(OUTBOX)) == 1
            raise Killed
    async with gateway.parts.database.tenant(church_id) as tx:
        assert await tx.fetch(OUTBOX) == []
    await bus.publish_envelope(event)
    assert (await told(bus, keys, church_id, 1)).keys() == {"ruth@grace.example"}


async def test_many_admins_are_told_by_two_statements(
    owner: Browser, gateway: Service, keys: Keys, count_statements: CountStatements
) -> None:
    church_id = UUID(owner.church_id)
    for number in range(12):
        await add(gateway, keys, church_id, f"Admin{number}", "admin")
    event = Envelope(id=new_id(), time=clock.now(), data=held(None), church_id=church_id)
    async with gateway.parts.database.tenant(church_id) as tx:
        with count_statements() as counted:
            await approvals.tell(tx, keys, event)
        assert len(await tx.fetch(OUTBOX)) == 13
    assert (counted.by_name["admins.list_by_roles"], counted.by_name["outbox.add"]) == (1, 1)
