"""The second factor: turned on, shown at the login, renewed, turned off."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import segno
from aiohttp import web

from koinonia.api import Endpoint, mfa
from koinonia.api.common import NoQuery
from koinonia.api.mfa import (
    MfaConfirmRequest,
    MfaDisableRequest,
    MfaEnableRequest,
    MfaProofRequest,
    MfaSecret,
    MfaVerifyRequest,
    RecoveryCodes,
)
from koinonia.errors import AuthenticationFailed, RateLimited, ValidationFailed
from koinonia.security import tokens
from koinonia.security.passwords import Passwords
from koinonia.service import Parts
from koinonia.web import Answer, Call, Handler
from koinonia_gateway import mfa as cases
from koinonia_gateway.accounts import Opened
from koinonia_gateway.audit import Refusals
from koinonia_gateway.callers import Callers, actor_of
from koinonia_gateway.confirmation import Confirmation
from koinonia_gateway.mfa import Changed, Person, Proof
from koinonia_gateway.settings import GatewaySettings
from koinonia_gateway.store import admins
from koinonia_gateway.tries import Tries

_QR_SCALE = 5  # pixels of a dot, where nobody scales it


class Mfa:
    """The routes of the second factor.

    Args:
        answer: makes the answer that sets a session's cookies.
        end_session_there_was: ends the one that a login takes the place of.
    """

    def __init__(
        self,
        parts: Parts[GatewaySettings],
        callers: Callers,
        passwords: Passwords,
        *,
        tries: Tries,
        confirmation: Confirmation,
        refusals: Refusals,
        answer: Callable[[Opened], Answer],
        end_session_there_was: Callable[[web.Request], Awaitable[None]],
    ) -> None:
        self._database = parts.database
        self._keys = parts.keys
        self._callers = callers
        self._passwords = passwords
        self._tries = tries
        self._confirmation = confirmation
        self._refusals = refusals
        self._answer = answer
        self._end_session_there_was = end_session_there_was

    def handlers(self) -> Mapping[Endpoint, Handler]:
        # A wrong code is counted and then refused: each opens its transaction itself.
        return {
            mfa.ENABLE: Handler(self.enable, transaction=False),
            mfa.CONFIRM: Handler(self.confirm, transaction=False),
            mfa.VERIFY: Handler(self.verify, transaction=False),
            mfa.RECOVERY_CODES: Handler(self.renew_recovery_codes, transaction=False),
            mfa.DISABLE: Handler(self.disable, transaction=False),
        }

    async def enable(self, call: Call[MfaEnableRequest, NoQuery]) -> MfaSecret:
        """A secret for the app, shown this once, for the password."""
        person = self._person(call)
        await self._confirmation.confirm(call, call.body.password, "password")
        async with self._database.tenant(call.identity.church_id) as tx:
            begun = await cases.begin(tx, self._keys, person)
        picture = segno.make_qr(begun.url, error="m").svg_data_uri(scale=_QR_SCALE)
        return MfaSecret(secret=begun.secret, otpauth_url=begun.url, qr_code=picture)

    async def confirm(self, call: Call[MfaConfirmRequest, NoQuery]) -> Answer:
        """The factor is on; recovery codes, shown this once, and the cookies of a new session."""
        person, church_id = self._person(call), call.identity.church_id
        key = f"mfa-confirm:{person.admin_id}:{person.session_id}"
        with self._refusals_recorded(church_id, person, "mfa.enabled"):
            await self._tries.count(call.request, key)
        async with self._database.tenant(church_id) as tx:
            changed = await cases.confirm(tx, self._keys, person, call.body.code)
        if changed is None:
            raise _wrong("code")
        await self._tries.forgive(key)
        return self._go_on(church_id, changed, RecoveryCodes(recovery_codes=list(changed.recovery_codes)))

    async def verify(self, call: Call[MfaVerifyRequest, NoQuery]) -> Answer:
        """A session, for who has shown the password before and shows the code now."""
        request = call.body
        await self._tries.count_address(call.request)
        token = tokens.read(self._keys, request.mfa_token, "mfa")
        proof = Proof(request.recovery_code, "recovery_code") if request.recovery_code else Proof(request.code or "")
        actor = actor_of(call.request).known_as(token.admin_id)
        person = Person(token.admin_id, token.session_id, actor)
        with self._refusals_recorded(token.church_id, person, "login.failed"):
            async with self._database.tenant(token.church_id) as tx:
                opened = await cases.verify(tx, self._keys, person, proof)
        if opened is None:
            raise AuthenticationFailed("The code is wrong, or was used before.")
        await self._end_session_there_was(call.request)
        return self._answer(opened)

    async def renew_recovery_codes(self, call: Call[MfaProofRequest, NoQuery]) -> RecoveryCodes:
        """New recovery codes, shown this once."""
        person = self._person(call)
        with self._refusals_recorded(call.identity.church_id, person, "mfa.failed"):
            async with self._database.tenant(call.identity.church_id) as tx:
                codes = await cases.renew_recovery_codes(tx, self._keys, person, Proof.of(call.body.code))
        if codes is None:
            raise _wrong("code")
        return RecoveryCodes(recovery_codes=list(codes))

    async def disable(self, call: Call[MfaDisableRequest, NoQuery]) -> Answer:
        """The factor is off; the cookies of a new session."""
        person, church_id = self._person(call), call.identity.church_id
        async with self._database.tenant(church_id) as tx:
            hashed = await admins.find_password_hash(tx, person.admin_id)
        with self._passwords.place():
            right = await self._passwords.verify(hashed, call.body.password)
        with self._refusals_recorded(church_id, person, "mfa.failed"):
            async with self._database.tenant(church_id) as tx:
                proof = Proof.of(call.body.code)
                changed = await cases.disable(tx, self._keys, person, proof, password_is_right=right)
        if not isinstance(changed, Changed):
            raise _wrong(changed)
        return self._go_on(church_id, changed, None)

    @contextmanager
    def _refusals_recorded(self, church_id: UUID, person: Person, action: str) -> Iterator[None]:
        """What is not even looked at leaves a line in the audit log, too."""
        try:
            yield
        except (AuthenticationFailed, RateLimited) as refused:
            target, reason = ("admin", person.admin_id), type(refused).__name__
            act = person.actor.did(action, target=target, outcome="failure", reason=reason)
            self._refusals.record_once(church_id, act)
            raise

    def _person(self, call: Call[Any, NoQuery]) -> Person:
        """Who calls, in which session."""
        token, identity = self._callers.access_token(call.request), call.identity
        if token is None:  # it has just run out
            raise AuthenticationFailed
        # With the browser that a new session is noted with.
        actor = actor_of(call.request).known_as(identity.principal_id)
        return Person(identity.principal_id, token.session_id, actor)

    def _go_on(self, church_id: UUID, changed: Changed, body: RecoveryCodes | None) -> Answer:
        for session_id in changed.ended:
            self._callers.forget_session(church_id, session_id)
        return Answer(body=body, cookies=self._answer(changed.opened).cookies)


def _wrong(field: str) -> ValidationFailed:
    return ValidationFailed.field(field, "Is wrong, or was used before" if field == "code" else "Is wrong")
