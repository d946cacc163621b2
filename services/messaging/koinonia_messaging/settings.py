"""Messaging's settings."""

from typing import Annotated

import msgspec

from koinonia.settings import Count, Positive, ServiceSettings


class MessagingSettings(ServiceSettings, frozen=True, kw_only=True):
    """What messaging is told beyond what every process is."""

    segment_price_cents: float = 2.0  # for the estimate in previews: what plans take beyond what they include

    # Segments per second, as delivery has them: for the time in previews at which a message is through.
    long_code_rate: Positive = 40.0
    toll_free_rate: Positive = 20.0
    short_code_rate: Positive = 1000.0

    # A broadcast pauses itself when of so many answers, or of so many receipts, this share are failures.
    brake_sample: Count = 100
    brake_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
