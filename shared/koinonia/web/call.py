"""What a handler is given, and what it may answer."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from aiohttp import web

from koinonia.api import Endpoint
from koinonia.errors import AuthenticationFailed
from koinonia.security.identity import Identity

BodyT = TypeVar("BodyT")
QueryT = TypeVar("QueryT")


@dataclass(slots=True, kw_only=True)
class Call(Generic[BodyT, QueryT]):
    """One request, decoded and checked.

    ``body`` is the endpoint's request struct, or what its handler's ``receive`` made of it; None where the endpoint
    takes none.
    """

    endpoint: Endpoint
    request: web.Request
    request_id: str
    body: BodyT
    query: QueryT
    path: Mapping[str, UUID]
    caller: Identity | None
    made_id: UUID | None = None

    @property
    def identity(self) -> Identity:
        """Who calls; on a public endpoint, where nobody may, 401."""
        if self.caller is None:
            raise AuthenticationFailed
        return self.caller

    def made(self, identifier: UUID) -> None:
        """Name what this request made, for the answer to the same request sent again."""
        self.made_id = identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """A cookie to set; an empty value with ``max_age_seconds=0`` removes it."""

    name: str
    value: str
    max_age_seconds: int
    path: str = "/"
    secure: bool = False
    http_only: bool = True
    same_site: Literal["Lax", "Strict"] = "Lax"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A result with more than a body: another status, headers, cookies."""

    body: object = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[Cookie, ...] = ()


Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler of decoded calls.

    Attributes:
        function: ``(call, tx)``, or ``(call)`` without a transaction; answers the endpoint's response struct, None, or
            an ``Answer``.
        rebuild: ``(call, tx, made_id)``: the answer to an idempotent request sent again, from what it made.
        transaction: whether the door opens the tenant transaction of the caller's church.
        afterwards: ``(call)``: another answer in place of the function's, or None, made once the transaction has
            committed and with none open; also of a request sent again. It is for what others confirm.
        receive: ``(call, pieces)``: takes the body as it arrives, while no transaction is open, as an asynchronous
            context manager around all the rest; what it yields is the call's body. Without it the body is read whole
            and decoded.
        timeout_seconds: the time limit of that transaction, where the database's own is too short. A single statement
            may take no longer than the setting ``database_statement_timeout`` says, whatever stands here.
    """

    function: Function
    rebuild: Function | None = None
    afterwards: Function | None = None
    transaction: bool = True
    timeout_seconds: float | None = None
    receive: Callable[..., AbstractAsyncContextManager[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """A handler of the request as it came: ``(request, caller)`` → a response. Roles and ids are checked, no more.

    For forwarding, signed webhooks, streams and pages.

    Attributes:
        express: whether requests go to it past router, identity and log, see `observing.express`. It is then given no
            caller, and answers to nobody but who signed the body.
    """

    function: Callable[[web.Request, Identity | None], Awaitable[web.StreamResponse]]
    express: bool = False
