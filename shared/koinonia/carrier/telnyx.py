"""Telnyx, spoken over HTTP; how each call ended is told by `koinonia.carrier.contract`.

Texts go over `koinonia.carrier.connections`, which costs a third of a general client; the other calls, which are rare,
over an aiohttp session.

Only two things are certain not to have been accepted: a connection that was never made or never written to, and a
well-formed error with a 4xx. Everything else that is not a readable 2xx is unknown. Nothing is retried in here.
"""

import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import SimpleNamespace, TracebackType
from typing import Self, TypeVar, cast

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from koinonia.carrier import errors
from koinonia.carrier.connections import KEEPALIVE_SECONDS, Connections, Limits, NotAnswered, NotSent, header_lines
from koinonia.carrier.contract import (
    Accepted,
    AvailableNumber,
    CarrierState,
    CarrierStatus,
    DetailRecord,
    MessagingProfile,
    NumberOrder,
    OutboundText,
    OutcomeUnknown,
    Refused,
    encode_body,
)
from koinonia.carrier.wire import (
    AvailableNumbersAnswer,
    DetailRecordsAnswer,
    ErrorsAnswer,
    MessageAnswer,
    OrderAnswer,
    OrdersAnswer,
    OwnedNumbersAnswer,
    ProfileAnswer,
    ProfilesAnswer,
    WireError,
    WireOrder,
)
from koinonia.secret import Secret

_Answer = TypeVar("_Answer")

_DETAIL_STATUSES = {
    "delivered": CarrierStatus.DELIVERED,
    "failed": CarrierStatus.DELIVERY_FAILED,
    "gw_reject": CarrierStatus.SENDING_FAILED,
    "gw_timeout": CarrierStatus.DELIVERY_UNCONFIRMED,
    "dlr_timeout": CarrierStatus.DELIVERY_UNCONFIRMED,
    "dlr_unconfirmed": CarrierStatus.DELIVERY_UNCONFIRMED,
}
_UNCERTAIN_STATUSES = frozenset({408, 409})
"""4xx that do not say that nothing was done: a time-out, and the same idempotency key still running."""


class _Progress:
    """What is known of one request: whether any of it may have left."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written = False


class TelnyxCarrier:
    """A `Carrier` over Telnyx's API. Make it inside the event loop, and close it; one is enough for a process.

    ``base_url`` ends before ``/v2``; ``api_key`` is asked for at each call, as it may change. No more than
    ``concurrency`` texts are on their way at once, and as many other calls; ``connect_seconds`` bounds the wait for one
    of these places as well.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | Secret,
        *,
        concurrency: int = 100,
        connect_seconds: float = 5.0,
        send_seconds: float = 5.0,
        read_seconds: float = 10.0,
        total_seconds: float = 20.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._api_key = api_key if isinstance(api_key, Secret) else Secret(api_key)
        self._api_key.check_by(lambda key: header_lines(_authorization(key)))
        common: dict[str, str] = {hdrs.ACCEPT: "application/json"}
        self._texts = Connections(
            URL(f"{self._base}/v2/messages"),
            {**common, hdrs.USER_AGENT: "koinonia", hdrs.CONTENT_TYPE: "application/json"},
            concurrency=concurrency,
            limits=Limits(connect=connect_seconds, send=send_seconds, answer=read_seconds, total=total_seconds),
            tls=tls,
        )
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_written)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=KEEPALIVE_SECONDS, ssl=tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=common,
            timeout=aiohttp.ClientTimeout(
                total=total_seconds,
                connect=connect_seconds,
                sock_connect=connect_seconds,
                sock_read=read_seconds,
            ),
            trace_configs=[trace],
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._texts.close()
        await self._session.close()

    async def send(self, text: OutboundText) -> Accepted:
        """Hand one text over; see `Carrier.send`."""
        headers = _authorization(self._api_key.value)
        if text.idempotency_key is not None:
            headers["Idempotency-Key"] = text.idempotency_key
        if text.traceparent is not None:
            headers["traceparent"] = text.traceparent
        try:
            answer = await self._texts.post(headers, encode_body(text))
        except NotSent as error:
            raise Refused(f"The carrier could not be reached ({error}).") from None
        except NotAnswered as error:
            raise OutcomeUnknown(f"The carrier did not answer ({error}).") from None
        _check(answer.status, answer.retry_after, answer.body, safe=False, keyed=text.idempotency_key is not None)
        message = _read(answer.body, MessageAnswer).data
        return Accepted(carrier_id=message.id, parts=message.parts, wait_seconds=message.wait_seconds or 0.0)

    async def look_up(self, carrier_id: str) -> CarrierState | None:
        """Tell where a text is; see `Carrier.look_up`."""
        answer = await self._find(f"/v2/messages/{carrier_id}", MessageAnswer)
        if answer is None:
            return None
        message = answer.data
        return CarrierState(
            carrier_id=message.id,
            status=message.status,
            error_code=message.errors[0].code if message.errors else None,
            parts=message.parts,
            webhook_url=message.webhook_url,
            sent_at=message.sent_at,
            completed_at=message.completed_at,
        )

    async def find_records(self, *, sender: str, recipient: str, since: datetime) -> Sequence[DetailRecord]:
        """Find the texts of one sender to one person; see `Carrier.find_records`."""
        query = {
            "filter[record_type]": "messaging",
            "filter[direction]": "outbound",
            "filter[cli]": sender,
            "filter[cld]": recipient,
            "filter[created_at][gte]": since.isoformat(),
        }
        found: list[DetailRecord] = []
        page, pages = 0, 1
        while page < pages:
            page += 1
            answer = await self._list("/v2/detail_records", DetailRecordsAnswer, {**query, "page[number]": str(page)})
            pages = answer.meta.total_pages if answer.meta is not None else page
            found += [
                DetailRecord(
                    carrier_id=row.uuid,
                    status=_DETAIL_STATUSES.get(row.status or "", CarrierStatus.UNKNOWN),
                    created_at=row.created_at,
                    webhook_url=row.delivery_status_webhook_url,
                    parts=row.parts,
                )
                for row in answer.data
                if row.created_at is not None and row.created_at >= since
            ]
        return found

    async def search_numbers(self, *, area_code: str | None = None, limit: int = 10) -> Sequence[AvailableNumber]:
        """Search for US numbers that can send texts."""
        query = {"filter[country_code]": "US", "filter[features]": "sms", "filter[limit]": str(limit)}
        if area_code is not None:
            query["filter[national_destination_code]"] = area_code
        answer = await self._list("/v2/available_phone_numbers", AvailableNumbersAnswer, query)
        return [
            AvailableNumber(
                phone=row.phone_number,
                region=row.region_information[0].region_name if row.region_information else None,
                monthly_cost=row.cost_information.monthly_cost if row.cost_information else None,
                currency=row.cost_information.currency if row.cost_information else None,
                features=tuple(feature.name for feature in row.features if feature.name),
            )
            for row in answer.data
        ]

    async def order_number(self, phone: str, *, messaging_profile_id: str, reference: str) -> NumberOrder:
        """Order one number; see `Carrier.order_number`."""
        order = {
            "phone_numbers": [{"phone_number": phone}],
            "messaging_profile_id": messaging_profile_id,
            "customer_reference": reference,
        }
        return _order(_read(await self._change(hdrs.METH_POST, "/v2/number_orders", order), OrderAnswer).data)

    async def look_up_order(self, order_id: str) -> NumberOrder | None:
        """Tell how an order stands; None when the carrier does not know it."""
        answer = await self._find(f"/v2/number_orders/{order_id}", OrderAnswer)
        return None if answer is None else _order(answer.data)

    async def find_orders(self, reference: str) -> Sequence[NumberOrder]:
        """Find the orders made with this reference."""
        answer = await self._list("/v2/number_orders", OrdersAnswer, {"filter[customer_reference]": reference})
        return [_order(order) for order in answer.data if order.customer_reference == reference]

    async def create_messaging_profile(self, name: str, *, webhook_url: str) -> MessagingProfile:
        """Make a messaging profile; see `Carrier.create_messaging_profile`."""
        wanted = {
            "name": name,
            "whitelisted_destinations": ["US"],
            "webhook_url": webhook_url,
            "webhook_api_version": "2",
        }
        profile = _read(await self._change(hdrs.METH_POST, "/v2/messaging_profiles", wanted), ProfileAnswer).data
        return MessagingProfile(profile_id=profile.id, name=profile.name or name)

    async def find_messaging_profiles(self, name: str) -> Sequence[MessagingProfile]:
        """Find the profiles of exactly this name."""
        answer = await self._list("/v2/messaging_profiles", ProfilesAnswer, {"filter[name][eq]": name})
        return [MessagingProfile(profile_id=row.id, name=name) for row in answer.data if row.name == name]

    async def assign_number(self, phone: str, *, messaging_profile_id: str) -> None:
        """Put a number of ours onto a profile."""
        answer = await self._list("/v2/phone_numbers", OwnedNumbersAnswer, {"filter[phone_number]": phone})
        number = next((row for row in answer.data if row.phone_number == phone), None)
        if number is None:
            raise errors.not_ours()
        path = f"/v2/phone_numbers/{number.id}/messaging"
        await self._change(hdrs.METH_PATCH, path, {"messaging_profile_id": messaging_profile_id})

    async def _change(self, method: str, path: str, body: object) -> bytes:
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: "application/json"}
        return await self._call(method, URL(self._base + path), msgspec.json.encode(body), headers)

    async def _list(self, path: str, kind: type[_Answer], query: Mapping[str, str]) -> _Answer:
        raw = await self._call(hdrs.METH_GET, URL(self._base + path).with_query(query))
        return _read(raw, kind, safe=True)

    async def _find(self, path: str, kind: type[_Answer]) -> _Answer | None:
        status, _, raw = await self._exchange(hdrs.METH_GET, URL(self._base + path), None, {})
        if status == 404:
            return None
        _check(status, None, raw, safe=True, keyed=False)
        return _read(raw, kind, safe=True)

    async def _call(
        self, method: str, url: URL, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        given = headers or {}
        status, retry_after, raw = await self._exchange(method, url, body, given)
        _check(status, retry_after, raw, safe=method == hdrs.METH_GET, keyed=False)
        return raw

    async def _exchange(
        self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, str | None, bytes]:
        """One request and its whole answer. Raises when there was none, certain cases before uncertain ones."""
        progress = _Progress()
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers={**headers, **_authorization(self._api_key.value)},
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                return response.status, response.headers.get(hdrs.RETRY_AFTER), await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            failure, certain = type(error).__name__, True
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure, certain = type(error).__name__, not progress.written
        # Raised out here, so that no client error hangs on to it: theirs quote the URL, and with it a phone number.
        if certain or method == hdrs.METH_GET:
            raise Refused(f"The carrier could not be reached ({failure}).")
        raise OutcomeUnknown(f"The carrier did not answer ({failure}).")


def _authorization(api_key: str) -> dict[str, str]:
    return {hdrs.AUTHORIZATION: f"Bearer {api_key}"}


async def _note_written(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    """aiohttp calls this just before the first byte goes out."""
    cast(_Progress, context.trace_request_ctx).written = True


def _check(status: int, retry_after: str | None, raw: bytes, *, safe: bool, keyed: bool) -> None:
    """Raise unless the answer is a 2xx. ``safe``: asking again does no harm; ``keyed``: it had an idempotency key."""
    if 200 <= status < 300:
        return
    found = _first_error(raw)
    if status == 402:
        raise errors.out_of_credit()
    if status == 429 and (found is None or not errors.is_known(found.code)):
        raise errors.too_fast(_seconds(retry_after))
    # A used key with another body answers 422 under a code that Telnyx does not publish: its first use may have sent.
    mismatch = keyed and status == 422 and found is not None and not errors.is_known(found.code)
    if found is not None and 400 <= status < 500 and status not in _UNCERTAIN_STATUSES and not mismatch:
        raise errors.error_of(found.code, found.title, _seconds(retry_after))
    if safe:
        raise Refused(f"The carrier answered {status}.", carrier_code=found.code if found else None)
    raise OutcomeUnknown(f"The carrier answered {status}.", carrier_code=found.code if found else None)


def _first_error(raw: bytes) -> WireError | None:
    try:
        found = msgspec.json.decode(raw, type=ErrorsAnswer).errors
    except msgspec.DecodeError:
        return None
    return found[0] if found else None


def _read(raw: bytes, kind: type[_Answer], *, safe: bool = False) -> _Answer:
    """Decode a 2xx; one that cannot be read leaves open what was done."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        sentence = "The carrier's answer could not be read."
    raise Refused(sentence) if safe else OutcomeUnknown(sentence)


def _seconds(retry_after: str | None) -> int | None:
    if retry_after is None or not (retry_after.isascii() and retry_after.isdecimal()):
        return None
    return int(retry_after)


def _order(order: WireOrder) -> NumberOrder:
    return NumberOrder(
        order_id=order.id,
        status=order.status,
        phones=tuple(row.phone_number for row in order.phone_numbers if row.phone_number),
        reference=order.customer_reference,
    )
