"""Who calls: a browser's session or an API key, asked of the database at most a second ago.

A session is a signed access token whose row still lives; an API key is a secret whose digest is the stored one. What
either may do stands in the row, so that a logout, a revoked key or another role holds within a second.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog
from aiohttp import web

from koinonia import clock
from koinonia.api import Endpoint
from koinonia.db import Database
from koinonia.errors import (
    AuthenticationFailed,
    CsrfFailed,
    Forbidden,
    KoinoniaError,
    MfaRequired,
    RateLimited,
    is_transient,
)
from koinonia.security import api_keys as secrets
from koinonia.security import tokens
from koinonia.security.api_keys import ApiKeyKind
from koinonia.security.identity import Identity, PrincipalKind, Role
from koinonia.security.keys import Keys
from koinonia.security.tokens import SessionToken
from koinonia.web import EXTRA_HEADERS, REQUEST_ID, check_caller
from koinonia_gateway.audit import Actor, Refusals
from koinonia_gateway.briefly import Briefly
from koinonia_gateway.budgets import Budgets
from koinonia_gateway.domain import origins
from koinonia_gateway.domain.addresses import Networks, client_address, limited_as
from koinonia_gateway.domain.rates import Rate, Standing, headers_of
from koinonia_gateway.limits import Limiter
from koinonia_gateway.store import api_keys as key_store
from koinonia_gateway.store import sessions as session_store

log = structlog.get_logger()

ACCESS_COOKIE = "accessToken"
REFRESH_COOKIE = "refreshToken"
CSRF_HEADER = "X-CSRF-Token"
FORWARDED_HEADER = "X-Forwarded-For"
NOBODY = UUID(int=0)  # whom the CSRF token of a visitor belongs to

ADDRESS = web.RequestKey("address", str)

_BEARER = "Bearer "
_IDENTITY_SECONDS = 30
_TOKENS_KEPT = 5000
_KEYS_KEPT = 5000
_LAST_USE_SECONDS = 60  # a key's last use is written no oftener


class ChurchSuspended(Forbidden):
    """Your church is suspended: nothing can be seen, changed or sent. Ask whoever runs this platform."""


@dataclass(frozen=True, slots=True)
class _Session:
    admin_id: UUID
    role: Role
    mfa_verified: bool
    mfa_required: bool  # by the church
    is_suspended: bool


@dataclass(frozen=True, slots=True)
class _Key:
    id: UUID
    church_id: UUID
    digest: bytes
    role: Role
    kind: ApiKeyKind
    expires_at: datetime | None
    used_at: datetime | None
    is_suspended: bool


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller who is known."""

    church_id: UUID
    id: UUID
    kind: PrincipalKind
    role: Role
    mfa_verified: bool
    session_id: UUID | None = None
    lacks_mfa: bool = False  # the second factor is required, and was not shown
    test: bool = False
    is_suspended: bool = False  # the church is


class Callers:
    """Authenticates requests, counts them, and refuses what other sites make a browser send."""

    def __init__(
        self,
        database: Database,
        keys: Keys,
        limiter: Limiter,
        *,
        budgets: Budgets,
        refusals: Refusals,
        failed_keys: Rate,
        public_url: str,
        trusted_proxies: Networks = (),
        cors_origins: frozenset[str] = frozenset(),
        require_mfa: bool = False,
    ) -> None:
        self._database = database
        self._keys = keys
        self._limiter = limiter
        self._budgets = budgets
        self._refusals = refusals
        self._failed_keys = failed_keys
        self._public_url = public_url
        self._trusted_proxies = trusted_proxies
        self._cors_origins = cors_origins
        self._require_mfa = require_mfa
        self._tokens: dict[str, SessionToken] = {}
        self._used: dict[UUID, datetime] = {}  # when each key's use was last noted here
        self._sessions: Briefly[tuple[UUID, UUID], _Session | None] = Briefly(self._load_session)
        self._api_keys: Briefly[str, _Key | None] = Briefly(self._load_key)

    async def identify(self, request: web.Request, endpoint: Endpoint) -> Identity | None:
        """The caller of a request, for the doors.

        Raises:
            RateLimited: this principal, or without one this address, has called too often, or this address has shown
                too many keys that are none.
            CsrfFailed: a browser sends it, but not for our own pages.
            ChurchSuspended: the caller's church is.
            MfaRequired: a person sends it who must show the second factor first.
            Forbidden: the caller is known, and may not.
        """
        self.locate(request)
        if endpoint.raw_body and endpoint.access == "public":
            return None  # a webhook: its signature tells
        principal = await self._principal_within_limits(request)
        await self._count(request, endpoint, principal)
        from_browser = request.method not in origins.SAFE_METHODS and "Authorization" not in request.headers
        if principal is None:
            if from_browser:
                self.check_origin(request)
            return None
        identity = _identity(request, principal)
        try:
            if from_browser:
                self.check_origin(request)
            if endpoint.access != "public":
                if from_browser and principal.session_id is not None:
                    self.check_csrf(request, principal.session_id)
                _check_state(endpoint, principal)
                check_caller(endpoint, identity)
        except (CsrfFailed, Forbidden, MfaRequired) as refused:
            self._record(identity, endpoint, refused)
            raise
        return identity

    def locate(self, request: web.Request) -> None:
        """Find out where a request comes from, for `address_of`."""
        forwarded = request.headers.getall(FORWARDED_HEADER, ())
        request[ADDRESS] = client_address(request.remote, forwarded, self._trusted_proxies)

    def check_origin(self, request: web.Request) -> None:
        """Refuse what another site's page sends.

        Raises:
            CsrfFailed: it does.
        """
        if not origins.is_own(request.headers, self._public_url, self._cors_origins):
            raise CsrfFailed("This request comes from another site.")

    def check_csrf(self, request: web.Request, session_id: UUID) -> None:
        """Refuse a request of a browser that does not show its session's token.

        Raises:
            CsrfFailed: the token is missing or another session's.
        """
        if not tokens.verify_csrf(self._keys, request.headers.get(CSRF_HEADER, ""), session_id):
            raise CsrfFailed

    async def is_still(self, caller: Identity, request: web.Request) -> bool:
        """Whether a caller whose answer takes long may still see it."""
        principal = await self._principal(request)
        if principal is None or principal.lacks_mfa or principal.is_suspended:
            return False
        return (principal.id, principal.church_id) == (caller.principal_id, caller.church_id)

    def access_token(self, request: web.Request) -> SessionToken | None:
        """What the request's access cookie says, if it is ours; whether the session lives is not asked."""
        text = request.cookies.get(ACCESS_COOKIE, "")
        if not text:
            return None
        known = self._tokens.get(text)
        if known is not None:  # its signature was checked before; its time has gone on
            return known if clock.now() < known.expires_at else None
        try:
            token = tokens.read(self._keys, text)
        except AuthenticationFailed:
            return None
        if len(self._tokens) >= _TOKENS_KEPT:
            self._tokens.clear()
        self._tokens[text] = token
        return token

    def forget_session(self, church_id: UUID, session_id: UUID) -> None:
        """Let an ended session end at once here."""
        self._sessions.forget((church_id, session_id))

    def _record(self, caller: Identity, endpoint: Endpoint, refused: KoinoniaError) -> None:
        reason = type(refused).__name__
        act = Actor.of(caller).did("request.refused", outcome="failure", route=endpoint.name, reason=reason)
        self._refusals.record_once(caller.church_id, act)

    async def _principal_within_limits(self, request: web.Request) -> Principal | None:
        """The principal; an address that has shown too many keys that are none is refused unasked, so that made-up
        keys do not keep the database busy."""
        if "Authorization" not in request.headers:
            return await self._principal(request)
        bucket = f"key:{limited_address_of(request)}"
        _refuse_exceeded(self._limiter.spent(self._failed_keys, bucket))
        principal = await self._principal(request)
        if principal is None:
            _refuse_exceeded(await self._limiter.hit_leased(self._failed_keys, bucket))
        return principal

    async def _principal(self, request: web.Request) -> Principal | None:
        authorization = request.headers.get("Authorization")
        if authorization is not None:
            return await self._by_key(authorization)
        token = self.access_token(request)
        return None if token is None else await self._by_session(token)

    async def _by_session(self, token: SessionToken) -> Principal | None:
        known = await self._sessions.get((token.church_id, token.session_id))
        if known is None or known.admin_id != token.admin_id:
            return None
        return Principal(
            token.church_id,
            known.admin_id,
            "session",
            known.role,
            known.mfa_verified,
            session_id=token.session_id,
            is_suspended=known.is_suspended,
            lacks_mfa=(self._require_mfa or known.mfa_required) and not known.mfa_verified,
        )

    async def _by_key(self, authorization: str) -> Principal | None:
        presented = secrets.parse(authorization.removeprefix(_BEARER))
        known = await self._api_keys.get(presented.public_id) if presented is not None else None
        if presented is None or known is None or not secrets.matches(presented, known.digest):
            return None
        if known.expires_at is not None and known.expires_at <= clock.now():
            return None
        await self._note_use(known)
        return Principal(
            known.church_id,
            known.id,
            "api_key",
            known.role,
            mfa_verified=False,
            test=known.kind == "test",
            is_suspended=known.is_suspended,
        )

    async def _count(self, request: web.Request, endpoint: Endpoint, principal: Principal | None) -> None:
        key = f"principal:{principal.id}" if principal is not None else f"address:{limited_address_of(request)}"
        standings = await self._budgets.count(endpoint, key, None if principal is None else principal.church_id)
        request[EXTRA_HEADERS].update(headers_of(standings))
        _refuse_exceeded(standings[-1])

    async def _load_session(self, key: tuple[UUID, UUID]) -> _Session | None:
        church_id, session_id = key
        async with self._database.tenant(church_id) as tx:
            row = await session_store.find_state(tx, session_id, clock.now())
        if row is None:
            return None
        return _Session(row["admin_id"], row["role"], row["mfa_verified"], row["require_mfa"], _is_suspended(row))

    async def _load_key(self, public_id: str) -> _Key | None:
        async with self._database.across_churches() as tx:
            row = await key_store.find_by_public_id(tx, public_id)
        if row is None:
            return None
        return _Key(
            id=row["id"],
            church_id=row["church_id"],
            digest=row["secret_digest"],
            role=row["role"],
            kind=row["kind"],
            expires_at=row["expires_at"],
            used_at=row["last_used_at"],
            is_suspended=_is_suspended(row),
        )

    async def _note_use(self, key: _Key) -> None:
        """Write down that a key was used, once a minute at most; where that fails, the request goes on."""
        now = clock.now()
        minute_ago = now - timedelta(seconds=_LAST_USE_SECONDS)
        used_at = self._used.get(key.id, key.used_at)
        if used_at is not None and used_at >= minute_ago:
            return
        if len(self._used) >= _KEYS_KEPT:
            self._used.clear()
        self._used[key.id] = now  # before it is written: requests that come meanwhile write nothing
        try:
            async with self._database.tenant(key.church_id) as tx:
                await key_store.touch(tx, key.id, now, minute_ago)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("key_use_not_noted", reason=type(error).__name__)


def _check_state(endpoint: Endpoint, principal: Principal) -> None:
    if principal.is_suspended:
        raise ChurchSuspended
    if principal.lacks_mfa and not endpoint.before_mfa:
        raise MfaRequired


def _is_suspended(row: asyncpg.Record) -> bool:
    return bool(row["church_status"] == "suspended")


def address_of(request: web.Request) -> str:
    """Where a request that was identified comes from; only proxies of our own are believed about it."""
    return request[ADDRESS]


def limited_address_of(request: web.Request) -> str:
    """The same as limits count it: who has one IPv6 address has all around it."""
    return limited_as(address_of(request))


def actor_of(request: web.Request) -> Actor:
    """Who acts in a request of somebody who is not logged in yet."""
    return Actor(
        kind="anonymous",
        id=None,
        address=address_of(request),
        request_id=request[REQUEST_ID],
        user_agent=request.headers.get("User-Agent", ""),
    )


def _refuse_exceeded(standing: Standing | None) -> None:
    if standing is not None and standing.exceeded:
        raise RateLimited(retry_after_seconds=standing.seconds_left)


def _identity(request: web.Request, principal: Principal) -> Identity:
    return Identity(
        church_id=principal.church_id,
        principal_id=principal.id,
        principal_kind=principal.kind,
        role=principal.role,
        mfa_verified=principal.mfa_verified,
        address=address_of(request),
        request_id=request[REQUEST_ID],
        expires_at=clock.now() + timedelta(seconds=_IDENTITY_SECONDS),
        method=request.method,
        path=request.path,
        test=principal.test,
    )
