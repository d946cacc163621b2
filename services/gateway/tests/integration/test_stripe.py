"""Stripe's webhook over real HTTP: signed, stored once, on the bus; nothing of a person kept."""

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koinonia import clock
from koinonia.bus.topology import QUEUES
from koinonia.db import statement
from koinonia.events import encode
from koinonia.events.gateway import PaymentReported
from koinonia.secret import Secret
from koinonia.stripe import SIGNATURE_HEADER, signature_of
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe

from .conftest import STRIPE_SECRET, Browser, NewBrowser, Service, StartGateway

PATH = "/api/webhooks/stripe"
AWAY = "amqp://guest:guest@127.0.0.1:1/"
NEW_SECRET = "whsec_nEwoNe9r8GKYqrTwjUPD8ILPZIo2LaLaS"
CREATED = 1_795_200_000
FETCH_OUTBOX = statement("test.fetch_outbox", "SELECT body FROM outbox WHERE type = 'gateway.payment.reported'")
COUNT_INBOX = statement("test.count_inbox", "SELECT count(*) FROM inbox WHERE queue = 'gateway.stripe'")


def paid(event_id: str = "evt_1", kind: str = "invoice.paid", **others: Any) -> bytes:
    invoice = {
        "id": "in_1",
        "object": "invoice",
        "customer": "cus_1",
        "customer_email": "ruth@grace.example",
        "customer_name": "Ruth Miller",
        "amount_paid": 4900,
    }
    event = {"id": event_id, "object": "event", "type": kind, "created": CREATED, "livemode": True}
    return msgspec.json.encode({**event, "data": {"object": invoice}, **others})


class Stripe:
    """Calls the webhook."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.answer: Any = None

    async def send(self, body: bytes, *, url: str | None = None, secrets: tuple[str, ...] = (STRIPE_SECRET,)) -> int:
        return await self.post(body, {SIGNATURE_HEADER: signature_of(body, *secrets)}, url=url)

    async def post(self, body: bytes, headers: dict[str, str], *, url: str | None = None, path: str = PATH) -> int:
        target = (url or self.browser.url) + path
        async with self.browser.session.post(target, data=body, headers=headers) as response:
            raw = await response.read()
            self.answer = msgspec.json.decode(raw) if raw else None
            return response.status


@pytest.fixture
async def stripe(browsers: NewBrowser) -> Stripe:
    return Stripe(browsers())


async def is_sent(gateway: Service) -> bool:
    async with gateway.parts.database.across_churches() as tx:
        return await tx.fetch(FETCH_OUTBOX) == []


async def count_inbox(gateway: Service) -> int:
    async with gateway.parts.database.across_churches() as tx:
        return int(await tx.fetch_value(COUNT_INBOX))


async def reported(bus: BusProbe, gateway: Service) -> list[PaymentReported]:
    """All that were published, once none waits any more."""
    await wait_until(lambda: is_sent(gateway), what="an empty outbox")
    return [each.data for each in await bus.all(PaymentReported)]


async def test_what_stripe_tells_is_published_as_ids(stripe: Stripe, bus: BusProbe) -> None:
    assert await stripe.send(paid()) == 200
    assert stripe.answer is None
    event = await bus.next(PaymentReported)
    assert (event.church_id, event.source, event.data.live) == (None, "/koinonia/gateway", True)
    assert (event.data.stripe_event_id, event.data.stripe_type) == ("evt_1", "invoice.paid")
    assert (event.data.object_id, event.data.customer_id) == ("in_1", "cus_1")
    assert event.data.occurred_at.timestamp() == CREATED


async def test_it_has_a_queue_to_wait_in() -> None:
    assert [queue for queue, types in QUEUES.items() if PaymentReported in types] == ["billing.payments"]


async def test_nothing_of_a_person_is_published_or_logged(
    stripe: Stripe, bus: BusProbe, capsys: pytest.CaptureFixture[str]
) -> None:
    for body in (paid(), paid("evt_2", "customer.updated"), paid("evt_3", created="Ruth"), paid("evt_4")[:-1]):
        await stripe.send(body)
    await stripe.post(paid(), {SIGNATURE_HEADER: "t=1,v1=ruth"})
    published = encode(await bus.next(PaymentReported)).decode()  # the same bytes that lay in the outbox
    printed = capsys.readouterr()
    logged = printed.out + printed.err
    assert "evt_1" in published
    assert "webhook_ignored" in logged
    assert "webhook_refused" in logged
    for word in ("Ruth", "ruth", "grace", "4900", "whsec"):
        assert word not in published + logged


async def test_forged_stale_and_changed_ones_get_nowhere(stripe: Stripe, bus: BusProbe, gateway: Service) -> None:
    body = paid()
    good = signature_of(body, STRIPE_SECRET)
    with clock.shifted(-301):
        stale = signature_of(body, STRIPE_SECRET)
    with clock.shifted(302):
        early = signature_of(body, STRIPE_SECRET)
    for header in ("", "nonsense", stale, early, signature_of(body, NEW_SECRET), good.replace("v1=", "v0=")):
        assert await stripe.post(body, {SIGNATURE_HEADER: header}) == 401
        assert stripe.answer["error"]["code"] == "AUTH_ERROR"
    assert await stripe.post(body, {}) == 401
    for changed in (body + b" ", body.replace(b"4900", b"0"), b""):
        assert await stripe.post(changed, {SIGNATURE_HEADER: good}) == 401
    assert (await reported(bus, gateway), await count_inbox(gateway)) == ([], 0)
    assert await stripe.post(body, {SIGNATURE_HEADER: good}) == 200


async def test_without_a_secret_nothing_is_taken(start_gateway: StartGateway, stripe: Stripe) -> None:
    closed = await start_gateway(stripe_webhook_secret=None)
    assert await stripe.send(paid(), url=closed.url) == 401


async def test_what_is_signed_and_cannot_be_read_is_refused_by_name(
    stripe: Stripe, bus: BusProbe, gateway: Service
) -> None:
    for body, field in (
        (b"", "body"),
        (b"{", "body"),
        (b"{}", "id"),
        (b"[" * 5000 + b"]" * 5000, "body"),
        (paid(created=-1), "created"),
        (paid(data={"object": {}}), "data.object.id"),
    ):
        assert await stripe.send(body) == 400
        assert [each["field"] for each in stripe.answer["error"]["details"]] == [field]
    packed = {SIGNATURE_HEADER: signature_of(paid(), STRIPE_SECRET), "Content-Encoding": "gzip"}
    assert await stripe.post(paid(), packed) == 400
    assert await stripe.send(b" " * 300_000) == 413
    assert stripe.answer["error"]["code"] == "PAYLOAD_TOO_LARGE"
    assert (await reported(bus, gateway), await count_inbox(gateway)) == ([], 0)


async def test_it_has_one_path_and_one_method(stripe: Stripe) -> None:
    headers = {SIGNATURE_HEADER: signature_of(paid(), STRIPE_SECRET)}
    for path in (f"{PATH}/", f"{PATH}/status", "/api/webhooks"):
        assert await stripe.post(paid(), headers, path=path) == 404
    assert await stripe.post(paid(), headers, path="/api/webhooks/telnyx/status") == 401
    assert (await stripe.browser.call("GET", PATH))[0] == 405


async def test_what_means_nothing_to_us_is_answered_and_dropped(
    stripe: Stripe, bus: BusProbe, gateway: Service
) -> None:
    assert await stripe.send(paid(kind="customer.updated")) == 200
    assert await stripe.send(paid(kind="balance.available", data={"object": {"object": "balance"}})) == 200
    assert (await reported(bus, gateway), await count_inbox(gateway)) == ([], 0)


async def test_an_event_that_comes_again_is_published_once(stripe: Stripe, bus: BusProbe, gateway: Service) -> None:
    assert await stripe.send(paid()) == 200
    assert len(await reported(bus, gateway)) == 1  # it has left the outbox
    with clock.shifted(-60):
        anew = signature_of(paid(), STRIPE_SECRET)
    assert await stripe.post(paid(), {SIGNATURE_HEADER: anew}) == 200
    assert await stripe.send(paid(pending_webhooks=2)) == 200
    assert await stripe.send(paid("evt_2")) == 200
    assert [each.stripe_event_id for each in await reported(bus, gateway)] == ["evt_1", "evt_2"]


async def test_of_many_at_once_at_two_replicas_one_is_published(
    start_gateway: StartGateway, stripe: Stripe, bus: BusProbe, gateway: Service
) -> None:
    other = await start_gateway()
    bodies = [paid(f"evt_{number}") for number in range(5)]
    for _ in range(2):  # while they wait in the outbox, and when they have left it
        sent = [stripe.send(body, url=each.url) for _ in range(4) for body in bodies for each in (gateway, other)]
        assert set(await asyncio.gather(*sent)) == {200}
        found = await reported(bus, gateway)
        assert sorted(each.stripe_event_id for each in found) == [f"evt_{number}" for number in range(5)]


async def test_what_could_not_be_stored_is_taken_when_it_comes_again(
    stripe: Stripe, bus: BusProbe, gateway: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("koinonia.bus.outbox.add_envelopes", _no_connection)
        assert await stripe.send(paid()) == 503
    assert await count_inbox(gateway) == 0
    assert await stripe.send(paid()) == 200
    assert len(await reported(bus, gateway)) == 1


async def _no_connection(*_: object) -> None:
    raise ConnectionRefusedError


async def test_while_the_broker_is_away_it_is_stored_and_published_later(
    start_gateway: StartGateway, stripe: Stripe, gateway: Service, bus: BusProbe
) -> None:
    cut_off = await start_gateway(amqp_url=AWAY)
    assert await stripe.send(paid(), url=cut_off.url) == 200
    assert await count_inbox(gateway) == 1
    assert (await bus.next(PaymentReported)).data.stripe_event_id == "evt_1"  # the other gateway's relay


async def test_while_the_database_is_away_stripe_is_asked_to_try_again(
    stripe: Stripe, gateway: Service, bus: BusProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = gateway.parts.database._pool

    class NoPool:
        release = staticmethod(pool.release)  # of what the gateway's own loops had in hand

        async def acquire(self, **_named: object) -> Any:
            raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr(gateway.parts.database, "_pool", NoPool())
        assert await stripe.send(paid()) == 503
    assert await stripe.send(paid()) == 200
    assert len(await reported(bus, gateway)) == 1


async def test_the_secret_is_changed_under_load_without_an_error(
    start_gateway: StartGateway, stripe: Stripe, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(STRIPE_SECRET)
    looks = itertools.count()  # each a second after the last
    secret = Secret(STRIPE_SECRET, file=file, clock=lambda: float(next(looks)))
    changing = await start_gateway(stripe_webhook_secret=secret, rate_limit_webhook="5/1h")
    statuses: list[int] = []
    signing: tuple[str, ...] = (STRIPE_SECRET,)
    done = asyncio.Event()

    async def go_on() -> None:
        while not done.is_set():
            body = paid(f"evt_{len(statuses)}")
            statuses.append(await stripe.send(body, url=changing.url, secrets=signing))

    async def some_more() -> None:
        before = len(statuses)
        await wait_until(lambda: len(statuses) > before + 10, what="more payments")

    async def replace(content: str) -> None:
        (tmp_path / "draft").write_text(content)
        os.replace(tmp_path / "draft", file)
        await some_more()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(go_on())
        for content in ("", "garbage", f"{NEW_SECRET},{STRIPE_SECRET}"):
            await replace(content)
        for secrets in ((NEW_SECRET, STRIPE_SECRET), (NEW_SECRET,)):  # Stripe signs by both meanwhile
            signing = secrets
            await some_more()  # those under way still bore the last one's signature
        await replace(NEW_SECRET)
        done.set()
    assert set(statuses) == {200}
    assert await stripe.send(paid(), url=changing.url) == 401


@pytest.mark.usefixtures("window")
async def test_bad_signatures_are_limited_and_good_ones_are_not(start_gateway: StartGateway, stripe: Stripe) -> None:
    limited = await start_gateway(rate_limit_webhook="2/1h", rate_limit_api="2/1h")
    bad = [await stripe.send(paid(), url=limited.url, secrets=(NEW_SECRET,)) for _ in range(4)]
    assert bad == [401, 401, 429, 429]
    assert [await stripe.send(paid(), url=limited.url) for _ in range(4)] == [200] * 4
