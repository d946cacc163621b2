"""The simulated carrier's control API: faults to order, people who text, and its own record of what arrived."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec


class Text(msgspec.Struct, frozen=True):
    """One text that the carrier accepted."""

    id: str
    sender: str
    recipient: str
    text: str | None
    parts: int
    token: str | None
    status: str
    accepted_at: datetime
    heard: tuple[str, ...]  # the receipts that were answered 2xx


class _Texts(msgspec.Struct):
    data: list[Text]
    next_after: int | None


MOST_OF_AN_ORDER = 10_000  # recipients: what fits into a body that the carrier takes


class CarrierReply(msgspec.Struct, frozen=True):
    """A confirmation that the carrier sent by itself."""

    sender: str
    recipient: str
    type: str


class Carrier:
    """Asks and orders. Faults name their recipients, so that tests do not strike one another."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/simulator"
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        await self._session.close()

    async def order(self, kind: str, recipients: Iterable[str], **more: Any) -> None:
        """Let something go wrong, for these people; for very many, in several orders."""
        everybody = list(recipients)
        for start in range(0, len(everybody) or 1, MOST_OF_AN_ORDER):
            fault = {"kind": kind, "recipients": everybody[start : start + MOST_OF_AN_ORDER], **more}
            await self._call("POST", "/faults", {"faults": [fault]})

    async def clear_faults(self) -> None:
        await self._call("DELETE", "/faults")

    async def struck(self) -> dict[str, int]:
        """How often each kind of fault has struck."""
        answer = await self._call("GET", "/faults")
        counts: dict[str, int] = {}
        for order in msgspec.json.decode(answer)["faults"]:
            kind = order["fault"]["kind"]
            counts[kind] = counts.get(kind, 0) + order["struck"]
        return counts

    async def change(self, **settings: Any) -> None:
        """Change how it behaves."""
        await self._call("PATCH", "/settings", settings)

    async def person_texts(self, sender: str, to: str, text: str) -> None:
        """A person texts one of the churches' numbers."""
        await self._call("POST", "/inbound", {"from": sender, "to": to, "text": text})

    async def deliver_pending(self) -> None:
        """Send the receipts that were held back."""
        await self._call("POST", "/pending/deliver")

    async def texts(self, *, sender: str) -> list[Text]:
        """Every text that one number sent, in the order of their acceptance."""
        found: list[Text] = []
        after: int | None = 0
        while after is not None:
            answer = await self._call("GET", f"/record/texts?from={quote(sender)}&limit=10000&after={after}")
            page = msgspec.json.decode(answer, type=_Texts)
            found += page.data
            after = page.next_after
        return found

    async def own_replies(self) -> list[CarrierReply]:
        """What it confirmed by itself."""
        return msgspec.convert(
            msgspec.json.decode(await self._call("GET", "/record/carrier-replies"))["data"], list[CarrierReply]
        )

    async def summary(self) -> dict[str, Any]:
        """The record in figures."""
        texts: dict[str, Any] = msgspec.json.decode(await self._call("GET", "/record"))["texts"]
        return texts

    async def webhooks_under_way(self) -> int:
        """How many webhooks wait, for their time, an answer or another attempt; those held back not counted."""
        return int(msgspec.json.decode(await self._call("GET", "/record"))["webhooks"]["pending"])

    async def _call(self, method: str, path: str, body: object = None) -> bytes:
        async with self._session.request(method, self._url + path, json=body) as answer:
            content = await answer.read()
            assert answer.status == 200, f"{method} {path}: {answer.status} {content!r}"
            return content
