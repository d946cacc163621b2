"""The door: from a request to its handler and back, the same way for every endpoint.

Identity, role, ids, query, body, then the tenant transaction with the idempotency key in it. The answer is encoded
before the commit, so that an effect without an answer cannot be.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from koinonia.api import Endpoint
from koinonia.db import Database, Transaction
from koinonia.errors import AuthenticationFailed, Forbidden
from koinonia.security.identity import HEADER, Identity, verify_identity
from koinonia.security.keys import Keys
from koinonia.web import bodies, deadlines, decoding, idempotency
from koinonia.web.call import Answer, Call, Function, Handler, Raw
from koinonia.web.observing import CALLER, REQUEST_ID
from koinonia.web.rendering import result_response

Identify = Callable[[web.Request, Endpoint], Awaitable[Identity | None]]
"""Who calls, or None where nobody is logged in. May refuse by any ``KoinoniaError``: limits and CSRF belong here."""

_SIGNED = web.RequestKey("signed", bool)
"""Whether a service of ours sends it. What else it says of the caller, such as how long they wait, holds then alone."""

_LARGE_BODY = 256 * 1024


def signed_identity(keys: Keys) -> Identify:
    """How a service behind the gateway knows its caller: by the gateway's signed header."""

    async def identify(request: web.Request, _endpoint: Endpoint) -> Identity | None:
        header = request.headers.get(HEADER)
        if header is None:
            return None
        identity = verify_identity(keys, header, method=request.method, path=request.path)
        request[_SIGNED] = True
        return identity

    return identify


def check_caller(endpoint: Endpoint, caller: Identity) -> None:
    """Refuse who may not call a route.

    Raises:
        Forbidden: its role, its kind or its being a test key.
    """
    if not endpoint.may_call(caller.role, is_person=caller.principal_kind == "session"):
        raise Forbidden
    if caller.test and not endpoint.opens_to_tests:
        raise Forbidden("A test key changes nothing but tests.")


class Door:
    """One endpoint's way in."""

    def __init__(
        self, endpoint: Endpoint, handler: Handler | Raw, identify: Identify, database: Database | None
    ) -> None:
        if isinstance(handler, Handler):
            _check_handler(endpoint, handler, database)
        self._endpoint = endpoint
        self._handler = handler
        self._identify = identify
        self._database = database

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; what is raised, the observing middleware renders."""
        caller = await self._authorise(request)
        if isinstance(self._handler, Raw):  # it may last as long as somebody watches
            decoding.path_ids(self._endpoint, request.match_info)
            return await self._handler.function(request, caller)
        async with deadlines.kept(request.headers if request.get(_SIGNED, False) else {}):
            return await self._answer(request, self._handler, caller)

    async def _answer(self, request: web.Request, handler: Handler, caller: Identity | None) -> web.Response:
        ids = decoding.path_ids(self._endpoint, request.match_info)
        call: Call[Any, Any] = Call(
            endpoint=self._endpoint,
            request=request,
            request_id=request[REQUEST_ID],
            body=None,
            query=decoding.query(self._endpoint, request.query),
            path=ids,
            caller=caller,
        )
        body_hash = idempotency.BodyHash(request)
        if handler.receive is not None:
            pieces = _noted(bodies.pieces(request, self._endpoint.body_limit), body_hash)
            async with handler.receive(call, pieces) as call.body:
                return await self._run(call, handler, body_hash)
        raw = await bodies.read(request, self._endpoint.body_limit) if request.method != "GET" else b""
        body_hash.update(raw)
        call.body = await self._decode(request, raw)
        return await self._run(call, handler, body_hash)

    async def _authorise(self, request: web.Request) -> Identity | None:
        caller = await self._identify(request, self._endpoint)
        if caller is not None:
            request[CALLER] = caller
        if self._endpoint.access == "public":
            return caller
        if caller is None:
            raise AuthenticationFailed
        check_caller(self._endpoint, caller)
        return caller

    async def _decode(self, request: web.Request, raw: bytes) -> Any:
        content_type = request.headers.get(decoding.CONTENT_TYPE)
        if len(raw) > _LARGE_BODY:  # an import: seconds of scanning that other requests must not wait for
            return await asyncio.to_thread(decoding.body, self._endpoint, raw, content_type)
        return decoding.body(self._endpoint, raw, content_type)

    async def _run(self, call: Call[Any, Any], handler: Handler, body_hash: idempotency.BodyHash) -> web.Response:
        if not handler.transaction or self._database is None:
            decoding.check(call.query, call.body)
            return result_response(await handler.function(call), call.endpoint.status)
        key = self._key(call, body_hash)
        if key is None:
            decoding.check(call.query, call.body)
        async with self._database.tenant(call.identity.church_id, timeout_seconds=handler.timeout_seconds) as tx:
            if key is None:
                response = result_response(await handler.function(call, tx), call.endpoint.status)
            else:
                response = await _run_once(call, handler, tx, key)
        return response if handler.afterwards is None else await _confirmed(call, handler.afterwards, response)

    def _key(self, call: Call[Any, Any], body_hash: idempotency.BodyHash) -> idempotency.Key | None:
        if not self._endpoint.idempotent:
            return None
        return idempotency.key_of(call.request, call.identity.principal_id, body_hash)


async def _noted(pieces: AsyncIterator[bytes], body_hash: idempotency.BodyHash) -> AsyncIterator[bytes]:
    async for piece in pieces:
        body_hash.update(piece)
        yield piece


async def _run_once(call: Call[Any, Any], handler: Handler, tx: Transaction, key: idempotency.Key) -> web.Response:
    """Carry out, or answer again. What depends on the time is checked the first time only."""
    replay = await idempotency.claim(tx, key)
    if replay is not None:
        return await _answer_again(call, handler, tx, replay)
    decoding.check(call.query, call.body)
    response = result_response(await handler.function(call, tx), call.endpoint.status)
    await idempotency.store(tx, key, response.status, call.made_id)
    return response


async def _answer_again(
    call: Call[Any, Any], handler: Handler, tx: Transaction, replay: idempotency.Replay
) -> web.Response:
    if replay.made_id is not None:
        call.made(replay.made_id)
    result = await handler.rebuild(call, tx, replay.made_id) if handler.rebuild is not None else None
    body = result.body if isinstance(result, Answer) else result
    response = result_response(Answer(body=body, status=replay.status), replay.status)
    response.headers[idempotency.REPLAYED] = "true"
    return response


async def _confirmed(call: Call[Any, Any], afterwards: Function, committed: web.Response) -> web.Response:
    """The answer that could be made only after the commit; whether the request was sent again stays said."""
    result = await afterwards(call)
    if result is None:
        return committed
    response = result_response(result, call.endpoint.status)
    if idempotency.REPLAYED in committed.headers:
        response.headers[idempotency.REPLAYED] = committed.headers[idempotency.REPLAYED]
    return response


def _check_handler(endpoint: Endpoint, handler: Handler, database: Database | None) -> None:
    if handler.transaction and database is None:
        raise ValueError(f"{endpoint.name} needs a database")
    if handler.transaction and endpoint.access == "public":
        raise ValueError(f"{endpoint.name} is public: it has no church whose transaction could be opened")
    if handler.transaction and endpoint.idempotent and endpoint.response is not None and handler.rebuild is None:
        raise ValueError(f"{endpoint.name} needs a way to rebuild its answer")
