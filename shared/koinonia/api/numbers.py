"""The church's own phone numbers."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from typing_extensions import override

from koinonia.api.common import EXAMPLE_ID, EXAMPLE_TIME, Page, PageQuery, Response
from koinonia.api.endpoint import MANAGERS, Endpoint


class Number(Response, frozen=True, kw_only=True):
    """A number that the church sends from and is answered at. ``holdReason`` says why one that is ``held`` rests."""

    id: UUID
    phone_number: str
    kind: Literal["long_code", "toll_free", "short_code"]
    status: Literal["pending", "active", "held", "released"]
    is_default: bool
    segments_per_second: float
    created_at: datetime
    hold_reason: str | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            phone_number="+13125550100",
            kind="long_code",
            status="active",
            is_default=True,
            segments_per_second=40.0,
            created_at=EXAMPLE_TIME,
        )


LIST = Endpoint(
    name="numbers.list",
    method="GET",
    path="/api/numbers",
    owner="delivery",
    summary="The church's numbers",
    query=PageQuery,
    response=Page[Number],
)
PAUSE = Endpoint(
    name="numbers.pause",
    method="POST",
    path="/api/numbers/{id}/pause",
    owner="delivery",
    summary="Pause a number",
    description="Nothing is sent from it until it is resumed; texts that shall go from it wait.",
    response=Number,
    roles=MANAGERS,
    idempotent=True,
)
RESUME = Endpoint(
    name="numbers.resume",
    method="POST",
    path="/api/numbers/{id}/resume",
    owner="delivery",
    summary="Resume a number",
    description="Ends its pause, and a hold that the carrier's refusal made: it is tried again at once.",
    response=Number,
    roles=MANAGERS,
    idempotent=True,
)

ENDPOINTS = (LIST, PAUSE, RESUME)
