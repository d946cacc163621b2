"""Registering, logging in, renewing, logging out, and who is asking."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from aiohttp import web

from koinonia import clock
from koinonia.api import Endpoint, auth
from koinonia.api.auth import Church as ChurchView
from koinonia.api.auth import CsrfToken, Login, LoginRequest, Me, RegisterRequest, Session
from koinonia.api.common import NoQuery
from koinonia.db import Transaction
from koinonia.errors import AuthenticationFailed, ValidationFailed
from koinonia.ids import new_id
from koinonia.security import passwords as password_rules
from koinonia.security import tokens
from koinonia.security.passwords import Passwords
from koinonia.service import Parts
from koinonia.web import Answer, Call, Cookie, Handler
from koinonia_gateway import accounts
from koinonia_gateway.accounts import Awaited, Opened
from koinonia_gateway.audit import Actor, Refusals
from koinonia_gateway.callers import ACCESS_COOKIE, NOBODY, REFRESH_COOKIE, Callers, actor_of, limited_address_of
from koinonia_gateway.confirmation import Confirmation
from koinonia_gateway.http.mfa import Mfa
from koinonia_gateway.limits import Limiter
from koinonia_gateway.settings import GatewaySettings
from koinonia_gateway.store import admins
from koinonia_gateway.store import churches as church_store
from koinonia_gateway.store import sessions as session_store
from koinonia_gateway.tries import Tries

log = structlog.get_logger()

_COOKIE_PATH = "/"
_REFRESH_PATH = "/api"  # the CSRF token of a session is asked for with it too
_WRONG = "The e-mail address or the password is wrong."


class Auth:
    """The routes of sessions."""

    def __init__(
        self,
        parts: Parts[GatewaySettings],
        callers: Callers,
        limiter: Limiter,
        passwords: Passwords,
        *,
        tries: Tries,
        confirmation: Confirmation,
        refusals: Refusals,
    ) -> None:
        self._database = parts.database
        self._keys = parts.keys
        self._callers = callers
        self._limiter = limiter
        self._passwords = passwords
        self._rate = parts.settings.rate("auth")
        self._tries = tries
        self._refusals = refusals
        self._secure = parts.settings.public_url.startswith("https://")
        self._mfa = Mfa(
            parts,
            callers,
            passwords,
            tries=tries,
            confirmation=confirmation,
            refusals=refusals,
            answer=self._answer,
            end_session_there_was=self.end_session_there_was,
        )

    def handlers(self) -> Mapping[Endpoint, Handler]:
        return {
            auth.REGISTER: Handler(self.register, transaction=False),
            auth.LOGIN: Handler(self.log_in, transaction=False),
            auth.REFRESH: Handler(self.refresh, transaction=False),
            auth.LOGOUT: Handler(self.log_out, transaction=False),
            auth.ME: Handler(self.me),
            auth.CSRF: Handler(self.csrf, transaction=False),
            **self._mfa.handlers(),
        }

    async def register(self, call: Call[RegisterRequest, NoQuery]) -> Answer:
        """A new church, its owner, a session."""
        request = call.body
        with self._passwords.place():
            await self._count_address(call)
            problem = password_rules.problem(request.password, church_name=request.church_name, email=request.email)
            if problem is not None:
                raise ValidationFailed.field("password", problem)
            hashed = await self._passwords.hash(request.password)
        async with self._database.tenant(new_id()) as tx:
            opened = await accounts.register(
                tx, self._keys, request, password_hash=hashed, actor=actor_of(call.request)
            )
        await self.end_session_there_was(call.request)
        return self._answer(opened)

    async def log_in(self, call: Call[LoginRequest, NoQuery]) -> Answer:
        """A session, for the right password. An unknown account costs the same work and gets the same answer."""
        request, actor = call.body, actor_of(call.request)
        login_index = self._keys.login_index(request.email)
        pair = f"login:{login_index.hex()}:{limited_address_of(call.request)}"
        with self._passwords.place():
            await self._count_address(call)
            await self._count(call, pair)
            async with self._database.across_churches() as tx:
                account = await admins.find_login(tx, login_index)
            hashed = account["password_hash"] if account is not None else None
            right = await self._passwords.verify(hashed, request.password)
            if account is None or not right:
                self._record_failure(account, actor, "unknown" if account is None else "password")
                raise AuthenticationFailed(_WRONG)
            await self._limiter.forgive(self._rate, pair)
            outdated = self._passwords.needs_rehash(account["password_hash"])
            new_hash = await self._passwords.hash(request.password) if outdated else None
        async with self._database.tenant(account["church_id"]) as tx:
            opened = await accounts.log_in(
                tx,
                self._keys,
                account["id"],
                password_version=account["password_version"],
                new_password_hash=new_hash,
                actor=actor,
            )
        if opened is None:
            self._record_failure(account, actor, "changed")  # while the password was looked at
            raise AuthenticationFailed(_WRONG)
        if isinstance(opened, Awaited):
            return Answer(body=Login(mfa_required=True, mfa_token=tokens.issue(self._keys, opened.token)))
        await self.end_session_there_was(call.request)
        return self._answer(opened)

    async def refresh(self, call: Call[None, NoQuery]) -> Answer:
        """The next tokens of a session."""
        text = call.request.cookies.get(REFRESH_COOKIE)
        digest = tokens.digest_opaque(text) if text else b""
        async with self._database.across_churches() as tx:
            found = await session_store.find_token(tx, digest)
        if found is None:
            raise AuthenticationFailed
        self._callers.check_csrf(call.request, found["session_id"])
        async with self._database.tenant(found["church_id"]) as tx:
            renewal = await accounts.renew(tx, self._keys, digest, actor_of(call.request))
        if renewal.ended_session_id is not None:
            log.warning("refresh_token_replayed", session_id=str(renewal.ended_session_id))
            self._callers.forget_session(found["church_id"], renewal.ended_session_id)
        if renewal.opened is None:
            raise AuthenticationFailed
        return self._answer(renewal.opened)

    async def log_out(self, call: Call[None, NoQuery]) -> Answer:
        """No session any more; without one, nothing to do."""
        place = await self._session_there_was(call.request)
        if place is not None:
            self._callers.check_csrf(call.request, place[1])
            await self._end(call.request, place)
        return Answer(cookies=self._cookies("", 0, "", 0))

    async def me(self, call: Call[None, NoQuery], tx: Transaction) -> Me:
        """The caller, as seen from here."""
        identity = call.identity
        session = await self._session(tx, call)
        church = await self._church(tx) if session is None else session.church
        return Me(
            church=church,
            admin=session.admin if session is not None else None,
            principal_id=identity.principal_id,
            principal_kind=identity.principal_kind,
            role=identity.role,
            mfa_verified=identity.mfa_verified,
            test=identity.test,
        )

    async def csrf(self, call: Call[None, NoQuery]) -> CsrfToken:
        """A token of the browser's session; a visitor's own token, where there is none."""
        token = self._callers.access_token(call.request)
        session_id = token.session_id if token is not None else None
        text = call.request.cookies.get(REFRESH_COOKIE)
        if session_id is None and text:
            async with self._database.across_churches() as tx:
                found = await session_store.find_token(tx, tokens.digest_opaque(text))
            session_id = found["session_id"] if found is not None else None
        return CsrfToken(csrf_token=tokens.make_csrf(self._keys, session_id or NOBODY))

    async def _session(self, tx: Transaction, call: Call[None, NoQuery]) -> Session | None:
        if call.identity.principal_kind != "session":
            return None
        row = await admins.find_with_church(tx, call.identity.principal_id)
        if row is None:
            raise AuthenticationFailed
        return accounts.view(self._keys, row)

    async def _church(self, tx: Transaction) -> ChurchView:
        row = await church_store.find(tx)
        if row is None:
            raise AuthenticationFailed
        return ChurchView(id=row["church_id"], name=row["name"], timezone=row["timezone"], created_at=row["created_at"])

    async def end_session_there_was(self, request: web.Request) -> None:
        """End the session that a new one takes the place of in this browser: its cookies are written over, and nobody
        could log it out any more. No other site's page gets as far as here."""
        place = await self._session_there_was(request)
        if place is not None:
            await self._end(request, place)

    async def _session_there_was(self, request: web.Request) -> tuple[UUID, UUID] | None:
        """The church and the session that the browser's cookies are of, ended or not."""
        token = self._callers.access_token(request)
        if token is not None:
            return token.church_id, token.session_id
        text = request.cookies.get(REFRESH_COOKIE)
        if not text:
            return None
        async with self._database.across_churches() as tx:
            found = await session_store.find_token(tx, tokens.digest_opaque(text))
        return None if found is None else (found["church_id"], found["session_id"])

    async def _end(self, request: web.Request, place: tuple[UUID, UUID]) -> None:
        church_id, session_id = place
        async with self._database.tenant(church_id) as tx:
            await accounts.log_out(tx, session_id, actor_of(request))
        self._callers.forget_session(church_id, session_id)

    def _record_failure(self, account: asyncpg.Record | None, actor: Actor, reason: str) -> None:
        target = None if account is None else ("admin", account["id"])
        act = actor.did("login.failed", target=target, outcome="failure", reason=reason)
        self._refusals.record(None if account is None else account["church_id"], act)

    async def _count_address(self, call: Call[Any, NoQuery]) -> None:
        await self._tries.count_address(call.request)

    async def _count(self, call: Call[LoginRequest, NoQuery], key: str) -> None:
        await self._tries.count(call.request, key)

    def _answer(self, opened: Opened) -> Answer:
        now = clock.now()
        return Answer(
            body=opened.session,
            cookies=self._cookies(
                tokens.issue(self._keys, opened.access),
                int((opened.access.expires_at - now).total_seconds()),
                opened.refresh.text,
                int((opened.refresh_expires_at - now).total_seconds()),
            ),
        )

    def _cookies(self, access: str, access_seconds: int, refresh: str, refresh_seconds: int) -> tuple[Cookie, Cookie]:
        return (
            Cookie(
                name=ACCESS_COOKIE,
                value=access,
                max_age_seconds=access_seconds,
                path=_COOKIE_PATH,
                secure=self._secure,
            ),
            Cookie(
                name=REFRESH_COOKIE,
                value=refresh,
                max_age_seconds=refresh_seconds,
                path=_REFRESH_PATH,
                secure=self._secure,
            ),
        )
