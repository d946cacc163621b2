"""The settings of delivery and of its workers."""

from email.utils import parseaddr
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from koinonia.secret import Secret
from koinonia.settings import Count, Positive, ServiceSettings, SettingsError, variable
from koinonia_delivery.domain import letters
from koinonia_delivery.domain.outcomes import REFUSALS
from koinonia_delivery.mail.contract import Mailer
from koinonia_delivery.mail.folder import FolderMailer
from koinonia_delivery.mail.sendgrid import SendGridMailer
from koinonia_delivery.mail.smtp import SmtpMailer, SmtpServer


class DeliverySettings(ServiceSettings, frozen=True, kw_only=True):
    """What delivery is told besides what every process is."""

    public_url: str  # what the carrier sees; base of webhook URLs
    telnyx_api_url: str = "https://api.telnyx.com"  # ends before /v2
    telnyx_api_key: Secret
    telnyx_idempotency: bool = True  # the carrier honours Idempotency-Key

    unknown_outcome_wait: Annotated[float, msgspec.Meta(ge=0)] = 30.0  # seconds before an unknown one is tried again
    lease_seconds: Positive = 30.0  # how long a worker holds a recipient
    receipt_deadline: Positive = 259_200.0  # seconds from sent without a last receipt to unconfirmed
    refusal_limit: Count = REFUSALS  # so often the carrier may refuse a text for now before it expires
    delivery_concurrency: Count = 200  # calls to the carrier at once, per worker, at most: it finds how many are good

    # Segments per second of a number that is ordered from now on.
    long_code_rate: Positive = 40.0
    toll_free_rate: Positive = 20.0
    short_code_rate: Positive = 1000.0

    # E-mails go to the one of these that is set, else into files.
    smtp_url: Secret | None = None  # smtp://name:password@host (STARTTLS) or smtps://…; ?cafile=, ?tls=off
    sendgrid_api_key: Secret | None = None
    sendgrid_api_url: str = "https://api.sendgrid.com"  # ends before /v3
    mail_dir: str | None = None  # in development .run/mail, if unset
    mail_from: str = ""  # Koinonia <no-reply@example.org>; empty: no-reply at the public URL's host

    def __post_init__(self) -> None:
        """Refuse at the start what would be found wrong later.

        Raises:
            SettingsError: an address cannot be read, two ways of e-mails are named, or one is not safe in production.
        """
        if self.smtp_url is not None:
            if self.sendgrid_api_key is not None:
                raise SettingsError("KOINONIA_SMTP_URL and KOINONIA_SENDGRID_API_KEY exclude each other")
            try:
                self.smtp_url.check_by(self._check_smtp)
            except ValueError as error:
                raise SettingsError(f"KOINONIA_SMTP_URL: {error}") from None
        for name in ("telnyx_api_url", "sendgrid_api_url"):
            if self.environment == "production" and not getattr(self, name).startswith("https://"):
                raise SettingsError(f"{variable(name)}: in production the server must be reached by TLS (https://)")
        try:
            _ = self.mail_sender
        except letters.AddressInvalid:
            raise SettingsError("KOINONIA_MAIL_FROM: expected an address such as no-reply@example.org") from None

    def _check_smtp(self, url: str) -> None:
        if SmtpServer.parse(url).tls == "off" and self.environment == "production":
            raise ValueError("in production the server must be reached by TLS")

    def mailer(self) -> Mailer:
        """The way of e-mails."""
        if self.smtp_url is not None:
            return SmtpMailer(self.smtp_url)
        if self.sendgrid_api_key is not None:
            return SendGridMailer(self.sendgrid_api_url, self.sendgrid_api_key)
        return FolderMailer(Path(self.mail_dir or ".run/mail"))

    @property
    def mail_sender(self) -> tuple[str, str]:
        """The name and the address that e-mails come from.

        Raises:
            AddressInvalid: the setting is no address.
        """
        name, found = parseaddr(self.mail_from)
        if self.mail_from:
            return letters.clean(name) or "Koinonia", letters.address(found)
        return "Koinonia", f"no-reply@{_domain(self.public_url)}"

    @property
    def status_webhook_url(self) -> str:
        """Where receipts go; each text's own URL adds its recipient's token."""
        return f"{self.public_url.rstrip('/')}/api/webhooks/telnyx/status"

    @property
    def inbound_webhook_url(self) -> str:
        """Where the texts of a profile's numbers go."""
        return f"{self.public_url.rstrip('/')}/api/webhooks/telnyx/mms"


class WorkerSettings(DeliverySettings, frozen=True, kw_only=True):
    """What the worker is told: it alone sends e-mails."""

    def __post_init__(self) -> None:
        """Refuse to write e-mails into files where real people wait for them, unless that is meant.

        Raises:
            SettingsError: in production nothing says where e-mails go; or as for any of delivery's processes.
        """
        super().__post_init__()
        if self.environment == "production" and not (self.smtp_url or self.sendgrid_api_key or self.mail_dir):
            raise SettingsError(
                "KOINONIA_SMTP_URL or KOINONIA_SENDGRID_API_KEY: in production one of them must be set;"
                " KOINONIA_MAIL_DIR writes e-mails into files instead"
            )


def _domain(url: str) -> str:
    """The URL's host where it can stand in an address; else a name that is nobody's (RFC 2606)."""
    host = urlsplit(url).hostname or ""
    try:
        letters.address(f"no-reply@{host}")
    except letters.AddressInvalid:
        return "koinonia.invalid"
    return host
