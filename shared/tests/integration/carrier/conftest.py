"""A simulated carrier, a receiver of webhooks, and our client between them."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from koinonia.carrier.contract import OutboundText, with_token
from koinonia.carrier.simulated import SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verifier, WebhookEvent, parse

CHURCH = "+12055550100"
PERSON = "+12055550111"


class Hook:
    """Receives webhooks, checks their signature, and keeps them; ``answers`` are used up first, then 200."""

    def __init__(self) -> None:
        self.events: list[WebhookEvent] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        self.delay_seconds = 0.0
        self.verifier: Verifier | None = None
        self.url = ""
        self._arrived = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        """Take one webhook."""
        body = await request.read()
        if self.verifier is not None:
            self.verifier.verify(
                body,
                signature=request.headers.get(SIGNATURE_HEADER),
                timestamp=request.headers.get(TIMESTAMP_HEADER),
            )
        status = self.answers.pop(0) if self.answers else 200
        async with self._arrived:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            self.events.append(parse(body))
            self.paths.append(request.path_qs)
            self._arrived.notify_all()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        return web.Response(status=status)

    async def received(self, count: int) -> list[WebhookEvent]:
        """Wait until so many have come."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: len(self.events) >= count)
        return self.events

    @property
    def types(self) -> list[str]:
        """The events' types, in the order of their arrival."""
        return [event.event_type for event in self.events]


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    """A receiver of webhooks on a port of its own; every path is good."""
    receiver = Hook()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def simulated(hook: Hook) -> AsyncIterator[SimulatedCarrier]:
    """A simulated carrier that owns `CHURCH`, whose inbound texts go to the hook."""
    async with SimulatedCarrier() as carrier:
        hook.verifier = Verifier([carrier.public_key])
        carrier.behaviour.webhook_backoff_seconds = 0.01
        carrier.add_number(CHURCH, webhook_url=f"{hook.url}/inbound")
        yield carrier


@pytest.fixture
async def client(simulated: SimulatedCarrier) -> AsyncIterator[TelnyxCarrier]:
    """Our client, impatient."""
    async with TelnyxCarrier(simulated.url, "KEY", concurrency=8, read_seconds=0.5) as carrier:
        yield carrier


@pytest.fixture
def make_text(hook: Hook) -> Callable[..., OutboundText]:
    """Builder of texts; each with its own token."""
    made = 0

    def make(*, recipient: str = PERSON, text: str = "Sunday at 10", key: str | None = None) -> OutboundText:
        nonlocal made
        made += 1
        return OutboundText(
            recipient=recipient,
            sender=CHURCH,
            text=text,
            webhook_url=with_token(hook.url, f"token-{made}"),
            idempotency_key=key,
        )

    return make
