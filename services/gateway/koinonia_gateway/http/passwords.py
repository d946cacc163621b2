"""A forgotten password, and a changed one."""

import asyncio
from collections.abc import Mapping
from typing import Final

from koinonia.api import Endpoint, passwords
from koinonia.api.common import NoQuery
from koinonia.api.passwords import PasswordChange, PasswordForgotten, PasswordReset
from koinonia.errors import ValidationFailed
from koinonia.security import tokens
from koinonia.security.passwords import Passwords
from koinonia.service import Parts
from koinonia.web import Call, Handler
from koinonia_gateway import passwords as cases
from koinonia_gateway.audit import Actor
from koinonia_gateway.callers import Callers, actor_of
from koinonia_gateway.confirmation import Confirmation
from koinonia_gateway.passwords import Ended
from koinonia_gateway.settings import GatewaySettings
from koinonia_gateway.tries import Tries

FORGOT_SECONDS: Final = 0.3  # longer than the work: it takes longer where there is an account
_MAILBOX_SECONDS: Final = int(cases.RESET_LIFE.total_seconds()) // 2


class PasswordRoutes:
    """The routes of passwords."""

    def __init__(
        self,
        parts: Parts[GatewaySettings],
        callers: Callers,
        hashes: Passwords,
        *,
        tries: Tries,
        confirmation: Confirmation,
    ) -> None:
        self._database = parts.database
        self._keys = parts.keys
        self._callers = callers
        self._passwords = hashes
        self._tries = tries
        self._confirmation = confirmation

    def handlers(self) -> Mapping[Endpoint, Handler]:
        return {
            passwords.FORGOT: Handler(self.forgot, transaction=False),
            passwords.RESET: Handler(self.reset, transaction=False),
            passwords.CHANGE: Handler(self.change, transaction=False),
        }

    async def forgot(self, call: Call[PasswordForgotten, NoQuery]) -> None:
        """An e-mail, where there is an account; the answer tells nobody, neither by its time."""
        login_index = self._keys.login_index(call.body.email)
        await self._tries.count_address(call.request)
        await asyncio.gather(self._forget(login_index, actor_of(call.request)), asyncio.sleep(FORGOT_SECONDS))

    async def reset(self, call: Call[PasswordReset, NoQuery]) -> None:
        """The new password of whoever shows the token; a made-up one costs no hash."""
        digest, actor = tokens.digest_opaque(call.body.token), actor_of(call.request)
        with self._passwords.place():
            await self._tries.count_address(call.request)
            async with self._database.across_churches() as tx:
                found = await cases.find_reset(tx, digest, actor)
            if found is None:
                raise _not_good()
            church_id = found["church_id"]
            cases.check_new(self._keys, call.body.password, "password", found, church_id)
            hashed = await self._passwords.hash(call.body.password)
        async with self._database.tenant(church_id) as tx:
            ended = await cases.reset(tx, self._keys, digest, hashed, actor)
        if ended is None:
            raise _not_good()
        self._forget_sessions(ended)

    async def change(self, call: Call[PasswordChange, NoQuery]) -> None:
        """A new password for the one that is shown."""
        own = self._confirmation.session_of(call)
        known = await self._confirmation.confirm(call, call.body.current_password, "currentPassword")
        cases.check_new(self._keys, call.body.new_password, "newPassword", known, own.church_id)
        with self._passwords.place():
            hashed = await self._passwords.hash(call.body.new_password)
        version, actor = known["password_version"], Actor.of(call.identity)
        async with self._database.tenant(own.church_id) as tx:
            ended = await cases.change(tx, self._keys, own.admin_id, version, hashed, session_id=own.id, actor=actor)
        self._forget_sessions(ended)

    async def _forget(self, login_index: bytes, actor: Actor) -> None:
        # Nobody's mailbox is to be filled, from however many addresses. Who asks beyond that is not told: anybody could
        # else keep somebody from a new password, who has e-mails by then that are good beyond the window.
        if await self._tries.is_beyond(f"forgot:{login_index.hex()}", _MAILBOX_SECONDS):
            return
        async with self._database.across_churches() as tx:
            await cases.forget(tx, self._keys, login_index, actor)

    def _forget_sessions(self, ended: Ended) -> None:
        for session_id in ended.session_ids:
            self._callers.forget_session(ended.church_id, session_id)


def _not_good() -> ValidationFailed:
    return ValidationFailed.field("token", "It is used up or too old; ask for another e-mail.")
