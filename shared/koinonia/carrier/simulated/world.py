"""Everything that the simulated carrier knows, in one place that its doors share."""

from aiohttp import web

from koinonia.carrier.simulated import account_file
from koinonia.carrier.simulated.deliveries import Deliveries
from koinonia.carrier.simulated.faults import Faults
from koinonia.carrier.simulated.idempotency import Keys
from koinonia.carrier.simulated.limits import Limits
from koinonia.carrier.simulated.record import Record
from koinonia.carrier.simulated.registry import Registry
from koinonia.carrier.simulated.settings import Behaviour, Settings
from koinonia.carrier.webhooks import Signer


class World:
    """The state of one simulated carrier."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.api_keys: tuple[str, ...] = (settings.api_key,) if settings.api_key else ()  # none: any is good
        self.behaviour: Behaviour = settings.behaviour
        self.signer = Signer(settings.signing_seed)
        self.faults = Faults(settings.seed)
        self.keys = Keys()
        self.limits = Limits()
        self.record = Record()
        self.registry = Registry()
        self.deliveries = Deliveries(self.signer, lambda: self.behaviour, settings.webhook_concurrency)
        if settings.account_file is not None:
            account_file.restore(self.registry, settings.account_file)
        if settings.numbers or settings.webhook_url:
            profile = self.registry.default_profile(settings.webhook_url, settings.webhook_failover_url)
            for phone in settings.numbers:
                self.registry.add_number(phone, profile.id)

    def reset(self) -> None:
        """Forget texts, keys, opt-outs, faults and what is under way; profiles, numbers and settings stay."""
        self.faults.clear()
        self.keys.clear()
        self.limits.clear()
        self.deliveries.clear()
        self.record = Record()
        self.registry.opt_outs.clear()


WORLD = web.AppKey("world", World)
