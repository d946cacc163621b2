"""Door: ``/v2/messages`` and ``/v2/detail_records``."""

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from koinonia.carrier.simulated import payloads
from koinonia.carrier.simulated.acceptance import SendRequest, accept
from koinonia.carrier.simulated.errors import TelnyxError, decode, json_answer, malformed, not_found
from koinonia.carrier.simulated.faults import Fault
from koinonia.carrier.simulated.queries import page_place
from koinonia.carrier.simulated.receipts import announce
from koinonia.carrier.simulated.record import InboundText, Text
from koinonia.carrier.simulated.world import WORLD, World

_PROXY_PAGE = b"<html><head><title>Error</title></head><body><center><h1>Error</h1></center></body></html>"
_RECORD_FILTER = re.compile(r"filter\[(\w+)\](?:\[(\w+)\])?")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Severed(Exception):
    """The connection is gone; whatever is answered reaches nobody."""


async def send(request: web.Request) -> web.Response:
    """``POST /v2/messages``."""
    world = request.app[WORLD]
    body = await request.read()
    key = _idempotency_key(request) if world.behaviour.idempotency else None
    if key is not None and (earlier := world.keys.begin(key, body)) is not None:
        world.record.replayed += 1
        return await _answer(world, request, earlier)
    try:
        wanted = decode(body, SendRequest)
        await _hinder(world, request, wanted.to or "")
        text = accept(world, wanted, key)
    except BaseException:
        if key is not None:
            world.keys.forget(key)
        raise
    try:
        await announce(world, text)
        return await _answer(world, request, text)
    finally:
        if key is not None:
            world.keys.finish(key, text)


async def retrieve(request: web.Request) -> web.Response:
    """``GET /v2/messages/{id}``."""
    found = request.app[WORLD].record.find(request.match_info["id"])
    if found is None:
        raise not_found()
    return json_answer({"data": payloads.inbound(found) if isinstance(found, InboundText) else _state(found)})


async def detail_records(request: web.Request) -> web.Response:
    """``GET /v2/detail_records``: a queued text is not in them yet."""
    filters = _filters(request)
    world = request.app[WORLD]
    if filters.pop("record_type", None) != "messaging":
        raise malformed("filter[record_type] must be messaging.")
    cld = filters.pop("cld", None)
    texts = world.record.to(cld) if cld is not None else world.record.texts
    if unknown := filters.keys() - _RECORD_CHECKS.keys():
        raise malformed(f"filter[{min(unknown)}] is not a field of messaging records.")
    rows = [payloads.detail_record(text) for text in texts if text.status != "queued" and _matches(text, filters)]
    return json_answer(payloads.page_of(rows, *page_place(request)))


def sever(request: web.Request) -> Severed:
    """Reset the connection, so that the client sees what it sees when a peer dies."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return Severed()


def _idempotency_key(request: web.Request) -> str | None:
    given = request.headers.getall("Idempotency-Key", [])
    if len(given) > 1:
        raise malformed("The Idempotency-Key header is given twice.")
    return given[0] if given else None


async def _hinder(world: World, request: web.Request, recipient: str) -> None:
    """What goes wrong before anything is accepted."""
    if world.behaviour.latency_seconds:
        await asyncio.sleep(world.behaviour.latency_seconds)
    faults = world.faults
    if (slow := faults.strike("latency", recipient)) is not None:
        await asyncio.sleep(slow.seconds or 0)
    if faults.strike("reset", recipient) is not None:
        raise sever(request)
    if (limited := faults.strike("rate_limited", recipient)) is not None:
        seconds = int(limited.seconds if limited.seconds is not None else 1)
        raise TelnyxError(429, "10011", "Too many requests", retry_after_seconds=seconds)
    if (error := faults.strike("error", recipient)) is not None:
        if error.code is None:
            raise ProxyError(error)
        raise TelnyxError(error.status, error.code, error.title or "Error")


class ProxyError(Exception):
    """A proxy in front of the carrier answered."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.status)
        self.status = fault.status

    def response(self) -> web.Response:
        """Its page."""
        return web.Response(body=_PROXY_PAGE, status=self.status, content_type="text/html")


async def _answer(world: World, request: web.Request, text: Text) -> web.Response:
    """Answer for an accepted text, if nothing goes wrong now."""
    faults = world.faults
    if (slow := faults.strike("answer_slow", text.recipient)) is not None:
        await asyncio.sleep(slow.seconds or 0)
    if faults.strike("answer_lost", text.recipient) is not None:
        raise sever(request)
    if (error := faults.strike("answer_error", text.recipient)) is not None:
        raise ProxyError(error)
    answer = json_answer({"data": payloads.accepted(text)})
    if faults.strike("answer_garbled", text.recipient) is not None and isinstance(answer.body, bytes):
        return web.Response(body=answer.body[: len(answer.body) // 2], content_type="application/json")
    return answer


def _state(text: Text) -> dict[str, object]:
    return payloads.accepted(text) if text.status == "queued" else payloads.outbound(text, text.status)


def _filters(request: web.Request) -> dict[str, str]:
    """``filter[cli]=…`` as ``cli``, ``filter[created_at][gte]=…`` as ``created_at.gte``."""
    filters: dict[str, str] = {}
    for name, value in request.query.items():
        if (match := _RECORD_FILTER.fullmatch(name)) is not None:
            filters[".".join(part for part in match.groups() if part)] = value
    return filters


def _matches(text: Text, filters: dict[str, str]) -> bool:
    return all(_RECORD_CHECKS[name](text, value) for name, value in filters.items())


def _time(value: str) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise malformed("created_at must be an ISO 8601 time.") from None
    if at.tzinfo is None:
        raise malformed("created_at must have an offset.")
    return at


_RECORD_CHECKS: dict[str, Callable[[Text, str], bool]] = {
    "cli": lambda text, value: text.sender == value,
    "direction": lambda text, value: value == "outbound",
    "status": lambda text, value: payloads.detail_record(text)["status"] == value,
    "created_at.gte": lambda text, value: text.accepted_at >= _time(value),
    "created_at.lte": lambda text, value: text.accepted_at <= _time(value),
}
