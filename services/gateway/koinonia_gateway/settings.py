"""The settings of the gateway."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from koinonia.carrier.webhooks import parse_public_keys
from koinonia.secret import Secret
from koinonia.security.passwords import PasswordCost
from koinonia.settings import Count, ServiceSettings, SettingsError
from koinonia.stripe import parse_secrets
from koinonia_gateway.domain.addresses import Networks, parse_networks
from koinonia_gateway.domain.origins import parse_origins
from koinonia_gateway.domain.rates import Rate, RateInvalid, parse_factors

Memory = Annotated[int, msgspec.Meta(ge=8)]


class GatewaySettings(ServiceSettings, frozen=True, kw_only=True):
    """What the gateway is told beyond what every service is."""

    messaging_url: str  # where a service answers; several replicas with commas between, or one name for all
    delivery_url: str
    conversation_url: str
    billing_url: str
    compliance_url: str
    public_url: str = "http://127.0.0.1:8080"  # what browsers see
    cors_origins: str = ""  # other origins, with commas between, whose pages may call
    trusted_proxies: str = ""  # networks with commas between, whose X-Forwarded-For is believed
    forward_concurrency: Annotated[int, msgspec.Meta(ge=3)] = 300  # requests that each service has in hand
    ops_port: int | None = None  # of metrics and details; None: any free one
    rate_limit_auth: str = "5/15m"  # tries to log in, per account and address
    rate_limit_api: str = "1000/1m"  # requests, per principal
    rate_limit_send: str = "300/1m"  # broadcasts and replies, per church
    rate_limit_billing: str = "600/1m"  # requests to billing, per church
    rate_limit_plans: str = ""  # standard=2,large=5: so many times these three, for a church with that plan
    rate_limit_invitation: str = (
        "5/1d"  # e-mails that invite, per church and address; 20 times that per church, and per address
    )
    rate_limit_phone_code: str = "10/1d"  # codes that are texted, per church and phone; twice that per phone
    rate_limit_webhook: str = "1000/1m"  # requests whose signature or API key fails, per address
    rate_limit_prefix: str = "koinonia:limits"  # of their keys in Redis
    telnyx_public_key: Secret | None = None  # base64, ed25519; two with a comma between while it is changed
    stripe_webhook_secret: Secret | None = None  # whsec_…, likewise; None: nothing of Stripe's is taken
    password_memory_kib: Memory = PasswordCost().memory_kib  # argon2id
    password_passes: Count = PasswordCost().passes
    password_lanes: Count = PasswordCost().lanes

    def __post_init__(self) -> None:
        """Refuse at the start what would be found wrong later.

        Raises:
            SettingsError: a rate, a network or a key cannot be read, or a service has no address.
        """
        for kind in ("auth", "api", "send", "billing", "invitation", "phone_code", "webhook"):
            self.rate(kind)
        _ = self.plan_factors
        for owner, urls in self.owner_urls.items():
            if not urls:
                raise SettingsError(f"KOINONIA_{owner.upper()}_URL names no address")
        _ = self.proxy_networks
        if any(each.startswith("http:") for each in self.origins) and self.environment == "production":
            raise SettingsError("KOINONIA_CORS_ORIGINS: in production pages must come by https")
        try:
            if self.telnyx_public_key is not None:
                self.telnyx_public_key.check_by(parse_public_keys)
        except ValueError:
            raise SettingsError("KOINONIA_TELNYX_PUBLIC_KEY: expected 32 bytes in base64") from None
        try:
            if self.stripe_webhook_secret is not None:
                self.stripe_webhook_secret.check_by(parse_secrets)
        except ValueError as error:
            raise SettingsError(f"KOINONIA_STRIPE_WEBHOOK_SECRET: {error}") from None

    @property
    def password_cost(self) -> PasswordCost:
        return PasswordCost(self.password_memory_kib, self.password_passes, self.password_lanes)

    @property
    def owner_urls(self) -> dict[str, tuple[str, ...]]:
        """The replicas of each service that requests are forwarded to."""
        return {
            "messaging": _listed(self.messaging_url),
            "delivery": _listed(self.delivery_url),
            "conversation": _listed(self.conversation_url),
            "billing": _listed(self.billing_url),
            "compliance": _listed(self.compliance_url),
        }

    @property
    def origins(self) -> frozenset[str]:
        """The other origins whose pages may call.

        Raises:
            SettingsError: one is no origin.
        """
        try:
            return parse_origins(self.cors_origins)
        except ValueError as error:
            raise SettingsError(f"KOINONIA_CORS_ORIGINS: {error}") from None

    @property
    def proxy_networks(self) -> Networks:
        """The networks of the proxies before it.

        Raises:
            SettingsError: one is no network.
        """
        try:
            return parse_networks(self.trusted_proxies)
        except ValueError as error:
            raise SettingsError(f"KOINONIA_TRUSTED_PROXIES: {error}") from None

    def rate(self, kind: str) -> Rate:
        """The rate of ``auth``, ``api``, ``send``, ``billing``, ``invitation``, ``phone_code`` or ``webhook``.

        Raises:
            SettingsError: it is no rate.
        """
        try:
            return Rate.parse(getattr(self, f"rate_limit_{kind}"))
        except RateInvalid as error:
            raise SettingsError(f"KOINONIA_RATE_LIMIT_{kind.upper()}: {error}") from None

    @property
    def plan_factors(self) -> Mapping[str, int]:
        """By plan, how many times its churches' limits are the usual ones.

        Raises:
            SettingsError: they cannot be read.
        """
        try:
            return parse_factors(self.rate_limit_plans)
        except RateInvalid as error:
            raise SettingsError(f"KOINONIA_RATE_LIMIT_PLANS: {error}") from None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
