"""The church's own phone numbers."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from typing_extensions import override

from koinonia.api.common import EXAMPLE_ID, EXAMPLE_TIME, Page, PageQuery, Response
from koinonia.api.endpoint import Endpoint


class Number(Response, frozen=True, kw_only=True):
    """A number that the church sends from and is answered at."""

    id: UUID
    phone_number: str
    kind: Literal["long_code", "toll_free", "short_code"]
    status: Literal["pending", "active", "held", "released"]
    is_default: bool
    segments_per_second: float
    created_at: datetime

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

ENDPOINTS = (LIST,)
