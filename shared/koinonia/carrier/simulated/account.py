"""Door: profiles, numbers, orders and opt-outs under ``/v2``."""

import re
from typing import Any

import msgspec
from aiohttp import web

from koinonia import clock
from koinonia.carrier.simulated import payloads
from koinonia.carrier.simulated.errors import decode, json_answer, malformed, missing
from koinonia.carrier.simulated.queries import page_place
from koinonia.carrier.simulated.registry import Profile, Registry
from koinonia.carrier.simulated.world import WORLD

_DEFAULT_AREA_CODE = "205"
_MAX_OFFER = 200


class ProfileRequest(msgspec.Struct, omit_defaults=True):
    """Making or changing a messaging profile."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    whitelisted_destinations: list[str] | msgspec.UnsetType = msgspec.UNSET
    webhook_url: str | msgspec.UnsetType | None = msgspec.UNSET
    webhook_failover_url: str | msgspec.UnsetType | None = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


class NumberWanted(msgspec.Struct):
    """A number in an order."""

    phone_number: str


class OrderRequest(msgspec.Struct):
    """``POST /v2/number_orders``."""

    phone_numbers: list[NumberWanted] = []
    messaging_profile_id: str | None = None
    customer_reference: str | None = None


class NumberSettings(msgspec.Struct):
    """``PATCH /v2/phone_numbers/{id}/messaging``: null or absent keeps, "" unassigns."""

    messaging_profile_id: str | None = None


async def create_profile(request: web.Request) -> web.Response:
    """``POST /v2/messaging_profiles``."""
    wanted = decode(await request.read(), ProfileRequest)
    if not wanted.name:
        raise missing("/name")
    if not wanted.whitelisted_destinations:
        raise missing("/whitelisted_destinations")
    profile = _registry(request).add_profile(wanted.name)
    return json_answer({"data": payloads.profile(_change(profile, wanted))})


async def update_profile(request: web.Request) -> web.Response:
    """``PATCH /v2/messaging_profiles/{id}``."""
    wanted = decode(await request.read(), ProfileRequest)
    profile = _registry(request).profile(request.match_info["id"])
    return json_answer({"data": payloads.profile(_change(profile, wanted))})


async def retrieve_profile(request: web.Request) -> web.Response:
    """``GET /v2/messaging_profiles/{id}``."""
    return json_answer({"data": payloads.profile(_registry(request).profile(request.match_info["id"]))})


async def list_profiles(request: web.Request) -> web.Response:
    """``GET /v2/messaging_profiles``."""
    exact = request.query.get("filter[name][eq]")
    part = request.query.get("filter[name][contains]", request.query.get("filter[name]", ""))
    rows = [
        payloads.profile(profile)
        for profile in _registry(request).profiles.values()
        if (exact is None or profile.name == exact) and part in profile.name
    ]
    return json_answer(payloads.page_of(rows, *page_place(request)))


async def available_numbers(request: web.Request) -> web.Response:
    """``GET /v2/available_phone_numbers``."""
    query = request.query
    if query.get("filter[country_code]", "US") != "US":
        return json_answer({"data": [], "meta": {"total_results": 0, "best_effort_results": 0}})
    area_code = query.get("filter[national_destination_code]", _DEFAULT_AREA_CODE)
    limit = query.get("filter[limit]", "10")
    if not re.fullmatch(r"[2-9][0-9]{2}", area_code) or not re.fullmatch(r"[0-9]{1,3}", limit):
        raise malformed("The area code has three digits; the limit is a number.")
    toll_free = query.get("filter[phone_number_type]") == "toll_free"
    phones = _registry(request).offer(area_code, toll_free, min(int(limit), _MAX_OFFER))
    meta = {"total_results": len(phones), "best_effort_results": 0}
    return json_answer({"data": [payloads.available_number(phone) for phone in phones], "meta": meta})


async def create_order(request: web.Request) -> web.Response:
    """``POST /v2/number_orders``."""
    wanted = decode(await request.read(), OrderRequest)
    if not wanted.phone_numbers:
        raise missing("/phone_numbers")
    phones = [number.phone_number for number in wanted.phone_numbers]
    order = _registry(request).order(phones, wanted.messaging_profile_id, wanted.customer_reference)
    answer = json_answer({"data": payloads.number_order(order)})
    order.status = "success"
    return answer


async def retrieve_order(request: web.Request) -> web.Response:
    """``GET /v2/number_orders/{id}``."""
    return json_answer({"data": payloads.number_order(_registry(request).number_order(request.match_info["id"]))})


async def list_orders(request: web.Request) -> web.Response:
    """``GET /v2/number_orders``."""
    reference = request.query.get("filter[customer_reference]")
    status = request.query.get("filter[status]")
    rows = [
        payloads.number_order(order)
        for order in _registry(request).orders.values()
        if reference in {None, order.customer_reference} and status in {None, order.status}
    ]
    return json_answer(payloads.page_of(rows, *page_place(request)))


async def list_numbers(request: web.Request) -> web.Response:
    """``GET /v2/phone_numbers``."""
    wanted = request.query.get("filter[phone_number]")
    registry = _registry(request)
    found = registry.numbers.values() if wanted is None else filter(None, [registry.numbers.get(wanted)])
    return json_answer(payloads.page_of([payloads.number(number) for number in found], *page_place(request)))


async def number_messaging(request: web.Request) -> web.Response:
    """``GET`` and ``PATCH /v2/phone_numbers/{id}/messaging``."""
    registry = _registry(request)
    number = registry.number_by_id(request.match_info["id"])
    if request.method == "PATCH":
        wanted = decode(await request.read(), NumberSettings).messaging_profile_id
        if wanted is not None:
            number.profile_id = registry.profile(wanted).id if wanted else None
    return json_answer({"data": payloads.messaging_settings(number)})


async def list_opt_outs(request: web.Request) -> web.Response:
    """``GET /v2/messaging_optouts``."""
    profile = request.query.get("filter[messaging_profile_id]")
    number = request.query.get("filter[from]")
    rows = [
        payloads.opt_out(block)
        for block in _registry(request).opt_outs.values()
        if profile in {None, block.profile_id} and number in {None, block.number}
    ]
    return json_answer(payloads.page_of(rows, *page_place(request)))


def _registry(request: web.Request) -> Registry:
    return request.app[WORLD].registry


def _change(profile: Profile, wanted: ProfileRequest) -> Profile:
    given: dict[str, Any] = msgspec.structs.asdict(wanted)
    for name, value in given.items():
        if value is not msgspec.UNSET:
            setattr(profile, name, value)
    profile.updated_at = clock.now()
    return profile
