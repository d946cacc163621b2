"""The simulated carrier as the demo meets it: people who text, one phone that is out of service, and the record."""

from datetime import datetime
from typing import Any, Self

import aiohttp
import msgspec

_PAGE = 5000


class CarrierText(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted text of the record, as far as figures need it."""

    sender: str
    recipient: str
    text: str | None
    parts: int
    token: str | None
    status: str
    accepted_at: datetime


class _Page(msgspec.Struct):
    data: list[CarrierText]
    total: int
    next_after: int | None


class DemoCarrier:
    """The control API of a running simulated carrier."""

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=30), raise_for_status=True)
        self._before = 0

    async def __aenter__(self) -> Self:
        self._before = (await self._page(0, 1)).total
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._session.close()

    async def text_in(self, person: str, number: str, text: str) -> None:
        """A person texts one of our numbers."""
        await self._post("/simulator/inbound", {"from": person, "to": number, "text": text})

    async def put_out_of_service(self, phone: str, texts: int) -> None:
        """The next ``texts`` to this phone are accepted, and then cannot be delivered."""
        fault = {"kind": "final_status", "final_status": "delivery_failed", "recipients": [phone], "next": texts}
        await self._post("/simulator/faults", {"faults": [fault]})

    async def texts_of(self, sender: str) -> list[CarrierText]:
        """What the carrier accepted from this number since the demo began, in its order."""
        found: list[CarrierText] = []
        after: int | None = self._before
        while after is not None:
            page = await self._page(after, _PAGE)
            found += [text for text in page.data if text.sender == sender]
            after = page.next_after
        return found

    async def _page(self, after: int, limit: int) -> _Page:
        query = {"after": str(after), "limit": str(limit)}
        async with self._session.get("/simulator/record/texts", params=query) as answer:
            return msgspec.json.decode(await answer.read(), type=_Page)

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        async with self._session.post(path, json=body):
            return
