"""Messaging's settings."""

from koinonia.settings import ServiceSettings


class MessagingSettings(ServiceSettings, frozen=True, kw_only=True):
    """What messaging is told beyond what every process is."""

    segment_price_cents: float = 2.0  # for the estimate in previews: what plans take beyond what they include
