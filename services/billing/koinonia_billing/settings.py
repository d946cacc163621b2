"""The settings of billing."""

from typing import Annotated

import msgspec

from koinonia.settings import ServiceSettings


class BillingSettings(ServiceSettings, frozen=True, kw_only=True):
    """What billing is told beyond what every service is."""

    trial_segments: Annotated[int, msgspec.Meta(ge=0)] = 5000  # included in a new church's trial
    trial_days: Annotated[int, msgspec.Meta(ge=1)] = 30
