"""A church's settings."""

from collections.abc import Iterator
from datetime import datetime
from typing import Self
from uuid import UUID

from msgspec import UNSET, UnsetType
from typing_extensions import override

from koinonia.api.auth import ZoneName
from koinonia.api.common import EXAMPLE_ID, EXAMPLE_TIME, Request, Response, ShortText, zone_errors
from koinonia.api.endpoint import MANAGERS, Endpoint
from koinonia.errors import FieldError


class ChurchSettings(Response, frozen=True, kw_only=True):
    """``ready``: the default branch, the trial plan and a phone number are there, so that messages can be sent."""

    id: UUID
    name: str
    timezone: str
    ready: bool
    created_at: datetime
    updated_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            name="Grace Chapel",
            timezone="America/Chicago",
            ready=True,
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


class ChurchSettingsPatch(Request, frozen=True, kw_only=True):
    """What is left out stays."""

    name: ShortText | UnsetType = UNSET
    timezone: ZoneName | UnsetType = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(timezone="America/Denver")

    @override
    def check(self) -> Iterator[FieldError]:
        if self.timezone is not UNSET:
            yield from zone_errors("timezone", self.timezone)


GET_SETTINGS = Endpoint(
    name="churches.getSettings",
    method="GET",
    path="/api/churches/{id}/settings",
    owner="gateway",
    summary="A church's settings",
    response=ChurchSettings,
)
PATCH_SETTINGS = Endpoint(
    name="churches.patchSettings",
    method="PATCH",
    path="/api/churches/{id}/settings",
    owner="gateway",
    summary="Change a church's settings",
    request=ChurchSettingsPatch,
    response=ChurchSettings,
    roles=MANAGERS,
    idempotent=True,
)

ENDPOINTS = (GET_SETTINGS, PATCH_SETTINGS)
