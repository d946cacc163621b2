"""What changes an admin's logins at once: nobody waits for another in a ring, and of who is removed nothing stays."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.db import Database, Transaction, statement
from koinonia.errors import AuthenticationFailed
from koinonia.ids import new_id
from koinonia.security import tokens
from koinonia.security.keys import Keys
from koinonia_gateway import accounts, admins, mfa, passwords, sessions
from koinonia_gateway.audit import Actor
from koinonia_gateway.mfa import Person, Proof
from koinonia_gateway.store import admins as admin_store
from koinonia_gateway.store import sessions as session_store

from .conftest import Browser, NewBrowser, Service, StartGateway, still_waits
from .test_mfa import COUNT_FACTORS, App, enable, verify

ROUNDS = 12
FIND_HASH = statement("test.find_hash", "SELECT password_hash FROM admins WHERE id = $1")
LOCK_SESSION = statement("test.lock_session", "SELECT id FROM sessions WHERE id = $1 FOR UPDATE")
LOCK_TOKEN = statement("test.lock_token", "SELECT digest FROM refresh_tokens WHERE digest = $1 FOR UPDATE NOWAIT")

Act = Callable[[Transaction], Awaitable[Any]]


class Undone(Exception):
    """Rolls a transaction back, so that the next round finds everything as it was."""


def actor(admin_id: str) -> Actor:
    return Actor(kind="session", id=UUID(admin_id), address="192.0.2.7", request_id="test")


async def join(database: Database, keys: Keys, owner: Browser, email: str) -> UUID:
    """One more admin of the church, with the owner's password."""
    admin_id = new_id()
    async with database.tenant(UUID(owner.church_id)) as tx:
        await admin_store.insert(
            tx,
            admin_id,
            first_name="Boaz",
            last_name="Miller",
            email_ciphertext=keys.encrypt(email, tx.tenant, "email"),
            login_index=keys.login_index(email),
            password_hash=await tx.fetch_value(FIND_HASH, UUID(owner.admin_id)),
            role="sender",
            at=clock.now(),
        )
    return admin_id


def slowed(real: Callable[..., Awaitable[Any]], chance: random.Random) -> Callable[..., Awaitable[Any]]:
    """A statement that comes a little later: transactions that run at once cross in every way."""

    async def run(*args: Any) -> Any:
        await asyncio.sleep(chance.uniform(0, 0.01))
        return await real(*args)

    return run


async def undone(database: Database, church_id: UUID, act: Act) -> None:
    with suppress(Undone):
        async with database.tenant(church_id) as tx:
            await act(tx)
            raise Undone


def session_of(keys: Keys, browser: Browser) -> tuple[UUID, bytes]:
    """A browser's session, and the digest of its refresh token."""
    cookies = browser.cookies()
    return tokens.read(keys, cookies["accessToken"]).session_id, tokens.digest_opaque(cookies["refreshToken"])


async def test_no_two_acts_on_an_admins_logins_wait_for_each_other(
    start_gateway: StartGateway,
    owner: Browser,
    browsers: NewBrowser,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, church_id = (await start_gateway(database_pool_size=10)).parts.database, UUID(owner.church_id)
    me, boaz = await join(database, keys, owner, "boaz@grace.example"), browsers()
    assert (await boaz.log_in("boaz@grace.example"))[0] == 200
    app = App((await enable(boaz))[1]["secret"])
    codes = (await boaz.call("POST", "/api/admin/mfa/confirm", {"code": app.code()}))[1]["recoveryCodes"]
    for code in codes[1:4]:
        browser = browsers()
        login = (await browser.log_in("boaz@grace.example"))[1]
        assert (await verify(browser, login["mfaToken"], recoveryCode=code))[0] == 200
    session_id, digest = session_of(keys, boaz)
    who, later = actor(str(me)), clock.now() + timedelta(days=40)
    person = Person(me, session_id, who)

    async def tidy(_tx: Transaction) -> None:
        async with database.across_churches() as tx:
            await session_store.delete_expired(tx, later, 100)
            raise Undone

    acts: list[Act] = [
        lambda tx: admins.remove(tx, me, actor(owner.admin_id)),
        lambda tx: mfa.disable(tx, keys, person, Proof.of(codes[0]), password_is_right=True),
        lambda tx: mfa.reset(tx, keys, me, Actor.operator(), operator="test"),
        lambda tx: passwords.change(tx, keys, me, 1, "a hash", session_id=session_id, actor=who),
        lambda tx: sessions.end_others(tx, me, session_id, who),
        lambda tx: accounts.log_in(tx, keys, me, password_version=1, new_password_hash=None, actor=who),
        lambda tx: accounts.renew(tx, keys, digest, who),
        tidy,
    ]
    chance = random.Random(1)
    for name in ("fetch", "fetch_row", "fetch_value", "execute"):
        monkeypatch.setattr(Transaction, name, slowed(getattr(Transaction, name), chance))
    for _ in range(ROUNDS):
        chance.shuffle(acts)
        await asyncio.gather(*(undone(database, church_id, act) for act in acts))


async def test_a_refresh_waits_for_its_session_before_it_holds_its_token(
    gateway: Service, owner: Browser, keys: Keys
) -> None:
    database, church_id = gateway.parts.database, UUID(owner.church_id)
    session_id, digest = session_of(keys, owner)
    async with database.tenant(church_id) as tx:
        await tx.fetch_row(LOCK_SESSION, session_id)
        renewing = asyncio.create_task(
            undone(database, church_id, lambda tx: accounts.renew(tx, keys, digest, actor(owner.admin_id)))
        )
        await still_waits(tx, renewing)
        assert await tx.fetch_row(LOCK_TOKEN, digest) is not None
    await renewing


async def test_a_factor_that_is_begun_while_its_admin_is_removed_leaves_no_secret(
    gateway: Service, owner: Browser, keys: Keys
) -> None:
    """The two ways it may go: the removal comes second, or first."""
    database, church_id = gateway.parts.database, UUID(owner.church_id)
    boaz = await join(database, keys, owner, "boaz@grace.example")
    person = Person(boaz, UUID(int=1), actor(str(boaz)))
    async with database.tenant(church_id) as tx:
        await mfa.begin(tx, keys, person)
        removing = asyncio.create_task(owner.call("DELETE", f"/api/admin/users/{boaz}"))
        await still_waits(tx, removing)
    assert (await removing)[0] == 204

    naomi = await join(database, keys, owner, "naomi@grace.example")
    person = Person(naomi, UUID(int=1), actor(str(naomi)))

    async def begin() -> None:
        async with database.tenant(church_id) as tx:
            await mfa.begin(tx, keys, person)

    async with database.tenant(church_id) as tx:
        await admins.remove(tx, naomi, actor(owner.admin_id))
        beginning = asyncio.create_task(begin())
        await still_waits(tx, beginning)
    with pytest.raises(AuthenticationFailed):
        await beginning
    async with database.tenant(church_id) as tx:
        assert await tx.fetch_value(COUNT_FACTORS) == 0
