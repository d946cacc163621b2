"""The password once more, of somebody who is logged in, before what would help a thief at an open browser.

Source: OWASP ASVS 5.0, 6.2.3, 7.5.1, 7.5.2.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from koinonia.api.common import NoQuery
from koinonia.bus import outbox
from koinonia.db import Database
from koinonia.errors import AuthenticationFailed, ValidationFailed
from koinonia.security.identity import Identity
from koinonia.security.passwords import Passwords
from koinonia.web import Call
from koinonia_gateway.audit import Actor
from koinonia_gateway.callers import Callers
from koinonia_gateway.store import passwords as store
from koinonia_gateway.tries import Tries


@dataclass(frozen=True, slots=True)
class OwnSession:
    """A caller who is a person at a browser."""

    church_id: UUID
    admin_id: UUID
    id: UUID


class Confirmation:
    """Asks for the password, and counts the tries."""

    def __init__(self, database: Database, callers: Callers, passwords: Passwords, tries: Tries) -> None:
        self._database = database
        self._callers = callers
        self._passwords = passwords
        self._tries = tries

    def session_of(self, call: Call[Any, Any]) -> OwnSession:
        """The session that calls; its route is for people only.

        Raises:
            AuthenticationFailed: it is over.
        """
        identity, token = call.identity, self._callers.access_token(call.request)
        if token is None:
            raise AuthenticationFailed
        return OwnSession(identity.church_id, identity.principal_id, token.session_id)

    async def confirm(self, call: Call[Any, NoQuery], password: str, field: str) -> asyncpg.Record:
        """The caller's row of ``passwords.find``, for the right password; holds no transaction while it is hashed.

        Raises:
            AuthenticationFailed: the session is over.
            RateLimited: it was wrong too often, in this session.
            PasswordsBusy: as many wait as may.
            ValidationFailed: it is wrong; ``field`` is named.
        """
        own = self.session_of(call)
        key = f"confirm:{own.admin_id}:{own.id}"  # of each session: a stolen one leaves its owner's tries alone
        with self._passwords.place():
            await self._tries.count(call.request, key)
            async with self._database.tenant(own.church_id) as tx:
                known = await store.find(tx, own.admin_id)
            if known is None:
                raise AuthenticationFailed
            right = await self._passwords.verify(known["password_hash"], password)
        if not right:
            await self._note_failure(call.identity)
            raise ValidationFailed.field(field, "This is not your password.")
        await self._tries.forgive(key)
        return known

    async def _note_failure(self, caller: Identity) -> None:
        async with self._database.tenant(caller.church_id) as tx:
            target = ("admin", caller.principal_id)
            await outbox.add(tx, Actor.of(caller).did("password.confirmed", target=target, outcome="failure"))
