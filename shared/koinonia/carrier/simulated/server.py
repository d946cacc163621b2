"""The simulated carrier as an aiohttp application, and as a server inside another program (tests, benchmarks)."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from koinonia.carrier.simulated import account, control, messages
from koinonia.carrier.simulated.account_file import keeping
from koinonia.carrier.simulated.errors import TelnyxError, not_found
from koinonia.carrier.simulated.faults import Fault, Faults
from koinonia.carrier.simulated.inbound import receive
from koinonia.carrier.simulated.record import InboundText, Record
from koinonia.carrier.simulated.registry import Number
from koinonia.carrier.simulated.settings import Behaviour, Settings
from koinonia.carrier.simulated.world import WORLD, World

MAX_BODY_BYTES = 256 * 1024
KEEPALIVE_SECONDS = 60.0

ROUTES = [
    web.post("/v2/messages", messages.send),
    web.get("/v2/messages/{id}", messages.retrieve),
    web.get("/v2/detail_records", messages.detail_records),
    web.get("/v2/available_phone_numbers", account.available_numbers),
    web.post("/v2/number_orders", account.create_order),
    web.get("/v2/number_orders", account.list_orders),
    web.get("/v2/number_orders/{id}", account.retrieve_order),
    web.post("/v2/messaging_profiles", account.create_profile),
    web.get("/v2/messaging_profiles", account.list_profiles),
    web.get("/v2/messaging_profiles/{id}", account.retrieve_profile),
    web.patch("/v2/messaging_profiles/{id}", account.update_profile),
    web.get("/v2/phone_numbers", account.list_numbers),
    web.get("/v2/phone_numbers/{id}/messaging", account.number_messaging),
    web.patch("/v2/phone_numbers/{id}/messaging", account.number_messaging),
    web.get("/v2/messaging_optouts", account.list_opt_outs),
    web.get("/simulator", control.overview),
    web.get("/simulator/public-key", control.public_key),
    web.post("/simulator/reset", control.reset),
    web.patch("/simulator/settings", control.change_settings),
    web.get("/simulator/faults", control.list_faults),
    web.post("/simulator/faults", control.add_faults),
    web.delete("/simulator/faults", control.clear_faults),
    web.post("/simulator/inbound", control.inbound),
    web.get("/simulator/numbers", control.numbers),
    web.post("/simulator/numbers", control.numbers),
    web.get("/simulator/record", control.record),
    web.get("/simulator/record/texts", control.texts),
    web.get("/simulator/record/duplicates", control.duplicates),
    web.get("/simulator/record/carrier-replies", control.carrier_replies),
    web.post("/simulator/pending/deliver", control.deliver_pending),
]


def create_app(settings: Settings | None = None) -> web.Application:
    """The application; its state lives as long as it does."""
    app = web.Application(middlewares=[_speak_telnyx], client_max_size=MAX_BODY_BYTES)
    world = app[WORLD] = World(settings or Settings())
    if world.settings.account_file is not None:
        app.middlewares.append(keeping(world.registry, world.settings.account_file))
    app.add_routes(ROUTES)
    app.cleanup_ctx.append(_deliver)
    return app


class SimulatedCarrier:
    """The simulated carrier on a port of its own, inside this program.

    >>> async with SimulatedCarrier() as carrier:
    ...     carrier.add_number("+12055550100", webhook_url=…)
    """

    def __init__(self, settings: Settings | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = create_app(settings)
        self._world = self._app[WORLD]
        self._runner = web.AppRunner(
            self._app, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS, shutdown_timeout=1.0
        )
        self._host, self._port = host, port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def accept_keys(self, *api_keys: str) -> None:
        """Let these be the good keys from now on: an account has several while one is changed."""
        self._world.api_keys = api_keys

    async def start(self) -> None:
        """Listen; a free port unless one was named."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=1024)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening and forget what is under way."""
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL, which ends before ``/v2``."""
        return f"http://{self._host}:{self._port}"

    @property
    def public_key(self) -> str:
        """What webhooks are verified with, in base64."""
        return self._world.signer.public_key

    @property
    def record(self) -> Record:
        """What arrived."""
        return self._world.record

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        return self._world.faults

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves; change its fields."""
        return self._world.behaviour

    def order(self, *faults: Fault) -> None:
        """Order faults."""
        self._world.faults.add(*faults)

    def add_number(
        self, phone: str, *, messaging_profile_id: str | None = None, webhook_url: str | None = None
    ) -> Number:
        """Own a number at once; without a profile named, one is made for it with this webhook."""
        wanted = control.NumberRequest(phone, messaging_profile_id=messaging_profile_id, webhook_url=webhook_url)
        return control.add_number(self._world, wanted)

    def inbound(self, sender: str, to: str, text: str | None, media_urls: tuple[str, ...] = ()) -> InboundText:
        """Let a person text one of the numbers."""
        return receive(self._world, sender, to, text, media_urls)

    def deliver_pending(self) -> int:
        """Send the events that were held back; how many."""
        return self._world.deliveries.release()

    async def settled(self) -> None:
        """Wait until every webhook is delivered or given up, but for those held back."""
        await self._world.deliveries.settled()

    def reset(self) -> None:
        """Forget all but profiles, numbers and settings."""
        self._world.reset()


async def _deliver(app: web.Application) -> AsyncIterator[None]:
    await app[WORLD].deliveries.start()
    yield
    await app[WORLD].deliveries.close()


@web.middleware
async def _speak_telnyx(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Check the key, and word every error as Telnyx does."""
    try:
        if request.path.startswith("/v2/"):
            _authenticate(request)
        return await handler(request)
    except (TelnyxError, messages.ProxyError) as error:
        return error.response()
    except messages.Severed:
        return web.Response()
    except web.HTTPNotFound:
        return not_found().response()
    except web.HTTPMethodNotAllowed:
        return TelnyxError(405, "10012", "Method not allowed").response()
    except web.HTTPRequestEntityTooLarge:
        return TelnyxError(413, "10015", "Bad Request", "The body is too large.").response()


def _authenticate(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    expected = request.app[WORLD].api_keys
    known = any(hmac.compare_digest(key.encode(), each.encode()) for each in expected) if expected else bool(key)
    if scheme.lower() != "bearer" or not known:
        raise TelnyxError(401, "10009", "Authentication failed", "Could not understand the provided credentials.")
