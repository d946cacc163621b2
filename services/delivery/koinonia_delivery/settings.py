"""The settings of delivery and of its workers."""

from typing import Annotated

import msgspec

from koinonia.settings import Count, Positive, ServiceSettings


class DeliverySettings(ServiceSettings, frozen=True, kw_only=True):
    """What delivery is told besides what every process is."""

    public_url: str  # what the carrier sees; base of webhook URLs
    telnyx_api_url: str = "https://api.telnyx.com"  # ends before /v2
    telnyx_api_key: str
    telnyx_idempotency: bool = True  # the carrier honours Idempotency-Key

    unknown_outcome_wait: Annotated[float, msgspec.Meta(ge=0)] = 30.0  # seconds before an unknown one is tried again
    lease_seconds: Positive = 30.0  # how long a worker holds a recipient
    receipt_deadline: Positive = 259_200.0  # seconds from sent without a last receipt to unconfirmed
    delivery_concurrency: Count = 50  # calls to the carrier at once, per worker

    # Segments per second of a number that is ordered from now on.
    long_code_rate: Positive = 40.0
    toll_free_rate: Positive = 20.0
    short_code_rate: Positive = 1000.0

    @property
    def status_webhook_url(self) -> str:
        """Where receipts go; each text's own URL adds its recipient's token."""
        return f"{self.public_url.rstrip('/')}/api/webhooks/telnyx/status"

    @property
    def inbound_webhook_url(self) -> str:
        """Where the texts of a profile's numbers go."""
        return f"{self.public_url.rstrip('/')}/api/webhooks/telnyx/mms"
