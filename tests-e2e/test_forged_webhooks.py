"""Webhooks forged, altered, stale and replayed: ten thousand change nothing; the true one does what it says."""

import asyncio
import base64
import gzip
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import cycle
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
from multidict import CIMultiDict

from koinonia.api.messages import Message
from koinonia.carrier.webhooks import Signer
from koinonia.ids import new_id
from koinonia.testing.fixtures import wait_until

from .church import Church
from .estates import Belongings
from .forgery import PATHS, Signed, Variant, forgeries
from .payment_forgery import PATH as STRIPE_PATH
from .payment_forgery import SignedPayment, forged_payments
from .platform import STRIPE_SECRETS, Platform
from .test_restarts import is_drained
from .verdict import failed_requests, still_works

FORGED = 10_000
FORGED_PAYMENTS = 4_000
AT_ONCE = 50
REPLAYS = 200
STORED_AT_ONCE = 4  # fewer than a gateway has connections to Postgres: whoever waits long for one is told 503

NewChurch = Callable[[], Awaitable[Church]]


class Webhooks:
    """Calls the platform as anybody on the network can."""

    def __init__(self, platform: Platform, session: aiohttp.ClientSession) -> None:
        self._url = platform.url
        self._session = session

    async def send(self, variant: Variant, path: str = PATHS[0], **more: Any) -> tuple[int, Any]:
        headers = CIMultiDict([("Content-Type", "application/json"), *variant.headers])
        headers.update(more)
        async with self._session.post(self._url + path, data=variant.body, headers=headers) as answer:
            content = await answer.read()
            return answer.status, msgspec.json.decode(content) if content else None

    async def send_all(
        self, variants: Iterable[Variant], paths: Sequence[str] = PATHS, *, at_once: int = AT_ONCE
    ) -> list[tuple[str, int, str]]:
        """Many at once, to the paths in turn; what each was, and the answer's status and code."""
        waiting, told = iter(zip(variants, cycle(paths), strict=False)), []

        async def go_on() -> None:
            for variant, path in waiting:
                status, body = await self.send(variant, path)
                told.append((variant.what, status, body["error"]["code"] if body else ""))

        await asyncio.gather(*(go_on() for _ in range(at_once)))
        return told


@pytest.fixture
async def webhooks(platform: Platform) -> Any:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        yield Webhooks(platform, session)


@pytest.fixture
def signer(platform: Platform) -> Signer:
    """Signs with the simulated carrier's own key."""
    lines = dict(line.partition("=")[::2] for line in platform.state.keys.read_text().splitlines())
    return Signer(base64.b64decode(lines["KOINONIA_SIMULATOR_SIGNING_SEED"].strip("'\"")))


class Story:
    """A church with a text that waits for its receipt, and the three events that would change something."""

    def __init__(self, church: Church, sent: Message, bodies: list[bytes]) -> None:
        self.church = church
        self.sent = sent
        self.bodies = bodies

    @classmethod
    async def begin(cls, church: Church) -> "Story":
        anna, ben, clara = await church.add(3)
        await church.platform.carrier.order("receipt_dropped", [anna.phone], event="finalized")
        sent = await church.send("Is it true?")

        async def is_sent() -> bool:
            counts = (await church.client.messages.get(sent.id)).counts
            return (counts.sent, counts.delivered) == (1, 2)

        await wait_until(is_sent, what="one text without a last receipt")
        (text,) = [text for text in await church.texts() if text.recipient == anna.phone]
        url = f"{church.platform.url}{PATHS[0]}?d={text.token}"
        delivered = {
            "id": text.id,
            "from": {"phone_number": church.number},
            "to": [{"phone_number": anna.phone, "status": "delivered"}],
            "webhook_url": url,
            "parts": 1,
        }
        bodies = [
            event("message.finalized", delivered),
            event("message.received", inbound(ben.phone, church.number, "STOP")),
            event("message.received", inbound(clara.phone, church.number, "Shall we meet?")),
        ]
        return cls(church, sent, bodies)

    async def has_come_true(self) -> bool:
        """Whether all three have done what they say."""
        client = self.church.client
        counts = (await client.messages.get(self.sent.id)).counts
        agreed = [member.opt_in_sms async for member in client.members.list()]
        threads = [thread async for thread in client.conversations.list()]
        return (counts.sent, agreed.count(False), len(threads)) == (0, 1, 2)


def inbound(sender: str, to: str, text: str) -> dict[str, object]:
    return {"id": str(new_id()), "from": {"phone_number": sender}, "to": [{"phone_number": to}], "text": text}


def event(kind: str, payload: dict[str, object]) -> bytes:
    at = "2026-11-21T12:00:00.000+00:00"
    data = {"record_type": "event", "event_type": kind, "id": str(new_id()), "occurred_at": at, "payload": payload}
    return msgspec.json.encode({"data": data, "meta": {"attempt": 1, "delivered_to": "https://koinonia.example"}})


async def all_is_applied(webhooks: Webhooks, signer: Signer, other: Church) -> None:
    """Whatever came in before has been applied: another church's text and receipt, sent now, are."""
    before = len([thread async for thread in other.client.conversations.list()])
    (person,) = await other.add(1)
    body = event("message.received", inbound(person.phone, other.number, "And now?"))
    assert (await webhooks.send(Signed.by(signer, body).true()))[0] == 200

    async def is_there() -> bool:
        return len([thread async for thread in other.client.conversations.list()]) > before

    await wait_until(is_there, what="the other church's conversation")
    await still_works(other)


@pytest.mark.timeout(480)
async def test_no_forged_altered_or_stale_webhook_changes_anything(
    new_church: NewChurch, webhooks: Webhooks, signer: Signer
) -> None:
    story, other = await Story.begin(await new_church()), await new_church()
    platform = story.church.platform
    (before,) = await Belongings(story.church).settled([story.church])
    assert len(before) > 15

    told = await webhooks.send_all(forgeries(signer, story.bodies, FORGED))
    assert len(told) == FORGED
    assert Counter((status, code) for _, status, code in told) == {(401, "AUTH_ERROR"): FORGED}, strange(told)
    assert len({what for what, _, _ in told}) > 3000

    await all_is_applied(webhooks, signer, other)
    assert await Belongings(story.church).settled([story.church]) == [before]

    true = [Signed.by(signer, body).true() for body in story.bodies]
    assert [await webhooks.send(each) for each in true] == [(200, None)] * 3
    await wait_until(story.has_come_true, what="what the true events say")
    assert failed_requests(platform) == []


def strange(told: list[tuple[str, int, str]]) -> str:
    """Those that were not refused."""
    return str([each for each in told if each[1] != 401][:20])


async def test_a_true_webhook_replayed_changes_nothing_more(
    new_church: NewChurch, webhooks: Webhooks, signer: Signer
) -> None:
    story, other = await Story.begin(await new_church()), await new_church()
    true = [Signed.by(signer, body).true() for body in story.bodies]
    # Each for the first time many times at once, then again and again, signed anew as the carrier's repeats are.
    first = await webhooks.send_all([each for each in true for _ in range(REPLAYS)])
    await wait_until(story.has_come_true, what="what the true events say")
    await all_is_applied(webhooks, signer, other)
    (before,) = await Belongings(story.church).settled([story.church])
    texts = await story.church.texts()

    anew = [Signed.by(signer, body, seconds=-10.0 * number).true() for body in story.bodies for number in range(29)]
    again = await webhooks.send_all([*anew, *(each for each in true for _ in range(REPLAYS))])
    assert Counter((status, code) for _, status, code in first + again) == {(200, ""): len(first + again)}
    await all_is_applied(webhooks, signer, other)
    assert await Belongings(story.church).settled([story.church]) == [before]
    assert await story.church.texts() == texts  # one confirmation of the STOP
    await story.church.agrees(story.sent.id)


async def test_what_the_carrier_signed_but_nobody_can_read_is_refused_by_name(
    church: Church, webhooks: Webhooks, signer: Signer
) -> None:
    for body, field in (
        (b"{}", "data"),
        (b"", "body"),
        (b"[]", "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 5000 + b"]" * 5000, "body"),
        (b'{"data": ' + b"9" * 5000 + b"}", "data"),
        (b'{"data": {"id": "x", "occurred_at": "yesterday"}}', "data.occurred_at"),
        (b'{"data": {"id": "x\\ud800"}}', "body"),
        (b'{"data": {"id": "x", "event_type": "message.received", "payload": {"id": 1}}}', "data.payload.id"),
    ):
        status, answer = await webhooks.send(Signed.by(signer, body).true())
        fields = [detail["field"] for detail in answer["error"]["details"]]
        assert (body[:40], status, fields) == (body[:40], 400, [field])
    packed = gzip.compress(event("message.received", {}))
    status, answer = await webhooks.send(Signed.by(signer, packed).true(), **{"Content-Encoding": "gzip"})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "Content-Encoding")
    assert (await webhooks.send(Signed.by(signer, b" " * 300_000).true()))[0] == 413
    assert failed_requests(church.platform) == []


def payment(kind: str, customer: str) -> bytes:
    """What Stripe tells of a church's customer."""
    about = {"id": f"in_{new_id().hex}", "object": "invoice", "customer": customer, "amount_paid": 4900}
    event = {"id": f"evt_{new_id().hex}", "object": "event", "type": kind, "created": 1_795_200_000, "livemode": True}
    return msgspec.json.encode({**event, "data": {"object": about}})


def id_of(body: bytes) -> str:
    return str(msgspec.json.decode(body)["id"])


async def payments(platform: Platform) -> list[str]:
    """What the platform knows of Stripe's events, once nothing is under way: at the door, and what billing keeps."""
    await wait_until(lambda: is_drained(platform), seconds=60, what="a platform with nothing in its queues")
    database = await asyncpg.connect(platform.process("postgres").url)
    try:
        kept = await database.fetch("SELECT payment_reports::text AS row FROM billing.payment_reports ORDER BY row")
        noted = await database.fetch(
            "SELECT inbox::text AS row FROM gateway.inbox WHERE queue = 'gateway.stripe' ORDER BY row"
        )
    finally:
        await database.close()
    return [each["row"] for each in (*kept, *noted)]


@pytest.fixture
def told_by_stripe() -> list[bytes]:
    """The first two say the same of two churches."""
    ours, theirs = f"cus_{new_id().hex}", f"cus_{new_id().hex}"
    kinds = (
        ("invoice.paid", ours),
        ("invoice.paid", theirs),
        ("customer.subscription.deleted", ours),
    )
    return [payment(*each) for each in kinds]


@pytest.mark.timeout(480)
async def test_no_forged_altered_or_stale_word_of_stripe_changes_anything(
    platform: Platform, webhooks: Webhooks, told_by_stripe: list[bytes]
) -> None:
    before = await payments(platform)
    told = await webhooks.send_all(forged_payments(STRIPE_SECRETS, told_by_stripe, FORGED_PAYMENTS), [STRIPE_PATH])
    assert len(told) == FORGED_PAYMENTS
    assert Counter((status, code) for _, status, code in told) == {(401, "AUTH_ERROR"): FORGED_PAYMENTS}, strange(told)
    assert len({what for what, _, _ in told}) > 1500
    assert await payments(platform) == before
    assert failed_requests(platform) == []


async def test_the_true_word_of_stripe_counts_once_by_either_secret(
    platform: Platform, webhooks: Webhooks, told_by_stripe: list[bytes]
) -> None:
    before = await payments(platform)
    old, new = STRIPE_SECRETS
    first, second, third = told_by_stripe
    last = SignedPayment.by(new, third)
    among_others = f"t={last.timestamp},v0={'6' * 64},v1={'0' * 64},v1={last.signature}"
    true = [SignedPayment.by(old, first).true(), SignedPayment.by(new, second).true(), last.headed("", among_others)]
    # Each for the first time several times at once, then again and again, signed anew as Stripe's repeats are.
    at_first = await webhooks.send_all(true * STORED_AT_ONCE, [STRIPE_PATH], at_once=STORED_AT_ONCE)
    after = await payments(platform)
    assert set(before) < set(after)
    assert len(after) == len(before) + 2 * 3  # at the door, and with billing
    assert all(any(id_of(body) in row for row in after) for body in told_by_stripe)

    anew = [
        SignedPayment.by(secret, body, seconds=-10.0 * number).true()
        for secret in STRIPE_SECRETS
        for body in told_by_stripe
        for number in range(25)
    ]
    again = await webhooks.send_all(anew + true * 10, [STRIPE_PATH], at_once=STORED_AT_ONCE)
    assert Counter((status, code) for _, status, code in at_first + again) == {(200, ""): len(at_first + again)}
    assert await payments(platform) == after
    assert failed_requests(platform) == []
