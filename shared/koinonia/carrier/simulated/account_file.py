"""The account in a file, so that a carrier started again still knows its customers' numbers.

Written before an answer that changes the account is given. Texts and their keys are not kept.
"""

import os
from pathlib import Path

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from koinonia.carrier.simulated.registry import Number, NumberOrder, OptOut, Profile, Registry

_TEXTS = "/v2/messages"  # sending changes nothing in the account, and is frequent


class _Account(msgspec.Struct, kw_only=True):
    profiles: list[Profile]
    numbers: list[Number]
    orders: list[NumberOrder]
    opt_outs: list[OptOut]


def restore(registry: Registry, path: Path) -> None:
    """Read the account from the file, if there is one.

    Raises:
        msgspec.DecodeError: the file is none of ours.
    """
    if not path.exists():
        return
    account = msgspec.json.decode(path.read_bytes(), type=_Account)
    registry.profiles = {each.id: each for each in account.profiles}
    registry.numbers = {each.phone: each for each in account.numbers}
    registry.orders = {each.id: each for each in account.orders}
    registry.opt_outs = {(each.profile_id, each.person): each for each in account.opt_outs}


def keep(registry: Registry, path: Path) -> None:
    """Write the account; the file is always a whole one."""
    account = _Account(
        profiles=list(registry.profiles.values()),
        numbers=list(registry.numbers.values()),
        orders=list(registry.orders.values()),
        opt_outs=list(registry.opt_outs.values()),
    )
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(account))
    os.replace(fresh, path)


def keeping(registry: Registry, path: Path) -> Middleware:
    """A middleware that keeps the account after each request that may have changed it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method != "GET" and request.path != _TEXTS:
            keep(registry, path)
        return response

    return middleware
