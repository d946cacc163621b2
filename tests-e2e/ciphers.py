"""A church with a value in every column that holds ciphertexts, each as it waits or is kept, and what they open to."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pyotp

from koinonia.api.admins import InvitationRequest
from koinonia.client import Client
from koinonia.db.ciphertexts import Table, list_tables
from koinonia.db.roles import SERVICES
from koinonia.security.encryption import Cipher
from koinonia.security.keyring import Keyring
from koinonia.testing.fixtures import wait_until

from .caller import Caller
from .church import PASSWORD, Church, Person, people
from .platform import Platform

STEP_SECONDS = 30
COPIES = 5_000  # of a row of an import: more than can be written before it is held back

Values = dict[tuple[str, Any], str]
"""What ciphertexts open to, by their column and the key of their row."""


async def tables(database: "asyncpg.Connection[asyncpg.Record]") -> list[Table]:
    """Every table that holds ciphertexts, as `koinonia keys rotate` finds them."""
    return await list_tables(database, SERVICES)


@asynccontextmanager
async def connected(platform: Platform) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The database, past every policy."""
    database = await asyncpg.connect(platform.process("postgres").url)
    try:
        yield database
    finally:
        await database.close()


async def opened(church: Church, keys: str) -> Values:
    """What all ciphertexts of a church open to under these keys.

    Raises:
        AssertionError: a column has none: what `plant` does lacks it.
        CiphertextInvalid: one is under another key.
    """
    cipher, found = Cipher(Keyring.parse(keys, "keys")), Values()
    async with connected(church.platform) as database:
        for table in await tables(database):
            rows = await database.fetch(f"SELECT * FROM {table} WHERE church_id = $1", church.id)
            for column in table.columns:
                sealed = [(tuple(row[name] for name in table.key_names), row[column]) for row in rows if row[column]]
                assert sealed, f"nothing is planted in {table}.{column}: let `plant` in tests-e2e/ciphers.py do it"
                kind = column.removesuffix("_ciphertext")
                found |= {(f"{table}.{column}", key): cipher.decrypt(each, church.id, kind) for key, each in sealed}
    return found


@dataclass
class Planted:
    """What a church was given, so that its every ciphertext can be used afterwards."""

    church: Church
    app: pyotp.TOTP
    step: int  # of the app's code that was shown last
    phone: str  # the owner's own; a code to another waits, and may be too old afterwards
    invited: str  # the address of an e-mail that waits
    import_id: UUID
    member: Person  # who is in the import

    async def is_used(self) -> None:
        """Show that the services read what they had stored: the e-mail goes, the import ends, codes are good."""
        client = self.church.client
        mail = self.church.platform.state.path / "mail"
        async with connected(self.church.platform) as database:
            due = "UPDATE delivery.emails SET due_at = clock_timestamp() WHERE church_id = $1 AND settled_at IS NULL"
            await database.execute(due, self.church.id)  # after some tries the waits are minutes
            await wait_until(lambda: self._has_mail(mail), seconds=90, what="the e-mail that had waited")
            await database.execute("UPDATE messaging.imports SET status = 'running' WHERE id = $1", self.import_id)

        async def is_imported() -> bool:
            return (await client.members.get_import(self.import_id)).status == "completed"

        await wait_until(is_imported, seconds=60, what="the import that had waited")
        assert self.member.phone in [member.phone async for member in client.members.list()]
        assert (await client.own_phone.get()).phone == self.phone
        step = max(self.step + 1, int(time.time()) // STEP_SECONDS)  # no code is good twice
        async with Client(self.church.platform.url) as browser:
            login = await browser.auth.login(self.church.email, PASSWORD)
            assert login.mfa_token is not None
            session = await browser.mfa.verify(login.mfa_token, self.app.at(step * STEP_SECONDS))
            assert session.church.id == self.church.id

    def _has_mail(self, folder: Path) -> bool:
        return any(f"To: {self.invited}" in file.read_text() for file in folder.glob("*.eml"))


@asynccontextmanager
async def in_every_column(church: Church, before: str, after: str) -> AsyncIterator[None]:
    """A church has a ciphertext in every column, under the keys ``before``; when the context is left, under ``after``.

    All of them open to what they did, and the services use them.
    """
    with no_mail(church.platform):
        planted = await plant(church)
        meant = await opened(church, before)
        yield
        now = await opened(church, after)
        assert {place: now.get(place) for place in meant} == meant
    await planted.is_used()


async def plant(church: Church) -> Planted:
    """Have a ciphertext stored in every column there is for one; while `no_mail` is taken."""
    client, platform = church.client, church.platform
    (person,) = await church.add(1)
    sent = await church.send("Before all that.")
    await client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    for text in ("Hello there", "STOP"):
        await platform.carrier.person_texts(person.phone, church.number, text)
    own, waiting, member, invited = people(4)
    await client.own_phone.ask(own.phone)
    await client.own_phone.confirm(await church.code(own.phone))
    await client.own_phone.ask(waiting.phone)
    await client.admins.invite(
        InvitationRequest(email=invited.email, first_name="Boaz", last_name="Miller", role="viewer")
    )
    import_id = await _held_import(church, member)
    app = pyotp.TOTP((await client.mfa.enable(PASSWORD)).secret)
    step = int(time.time()) // STEP_SECONDS
    await client.mfa.confirm(app.at(step * STEP_SECONDS))
    async with connected(platform) as database:
        stored = """
            SELECT EXISTS (SELECT FROM compliance.opt_outs WHERE church_id = $1)
                AND EXISTS (SELECT FROM conversation.conversations WHERE church_id = $1)
                AND EXISTS (SELECT FROM delivery.emails WHERE church_id = $1 AND email_ciphertext IS NOT NULL)
        """
        await wait_until(lambda: database.fetchval(stored, church.id), what="what events bring")
    return Planted(church, app, step, own.phone, invited.email, import_id, member)


async def _held_import(church: Church, member: Person) -> UUID:
    """An import in the background whose last pieces nobody takes, as those of a file that is still coming."""
    row = f"{member.first_name},{member.last_name},{member.phone}\n"
    table = ("firstName,lastName,phone\n" + row * COPIES).encode()
    async with Caller(church) as caller, connected(church.platform) as database:
        path = "/api/members/import?background=true"
        answer = await caller.send("POST", path, table, {"Content-Type": "text/csv"})
        assert answer.status == 202, answer
        hold = "UPDATE messaging.imports SET status = 'receiving' WHERE id = $1 AND status = 'running' RETURNING id"
        held = await database.fetchval(hold, UUID(answer.json()["id"]))
    assert isinstance(held, UUID), "the import was over before it could be held"
    return held


@contextmanager
def no_mail(platform: Platform) -> Iterator[None]:
    """No e-mail can be handed over meanwhile: a file is where their folder should be."""
    folder = platform.state.path / "mail"
    aside = folder.with_name("mail.aside")
    if folder.exists():
        folder.rename(aside)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        if aside.exists():
            aside.rename(folder)
