"""Messaging's settings."""

from typing import Annotated

import msgspec

from koinonia.settings import Count, ServiceSettings


class MessagingSettings(ServiceSettings, frozen=True, kw_only=True):
    """What messaging is told beyond what every process is."""

    segment_price_cents: float = 2.0  # for the estimate in previews: what plans take beyond what they include

    # A broadcast pauses itself when of so many answers, or of so many receipts, this share are failures.
    brake_sample: Count = 100
    brake_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
