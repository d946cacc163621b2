"""The browser sessions of the admin who asks."""

from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from typing_extensions import override

from koinonia.api.common import EXAMPLE_ID, EXAMPLE_TIME, Page, PageQuery, Request, Response
from koinonia.api.endpoint import Endpoint
from koinonia.api.passwords import KnownPassword


class BrowserSession(Response, frozen=True, kw_only=True):
    """A login of the admin who asks.

    ``last_used_at`` is when it was last renewed: at most ten minutes before its last request.
    """

    id: UUID
    device: str
    address: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime  # unless it is used
    current: bool

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            device="Firefox on Windows",
            address="203.0.113.7",
            created_at=EXAMPLE_TIME,
            last_used_at=EXAMPLE_TIME,
            expires_at=EXAMPLE_TIME + timedelta(hours=24),
            current=True,
        )


class SessionEnd(Request, frozen=True, kw_only=True):
    """The password once more: a thief at an open browser shall not lock its owner out."""

    password: KnownPassword

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(password="a long sentence to remember")  # noqa: S106 - an example


LIST = Endpoint(
    name="sessions.list",
    method="GET",
    path="/api/auth/sessions",
    owner="gateway",
    people_only=True,
    summary="One's own browser sessions",
    query=PageQuery,
    response=Page[BrowserSession],
)
END = Endpoint(
    name="sessions.end",
    method="DELETE",
    path="/api/auth/sessions/{id}",
    owner="gateway",
    people_only=True,
    summary="End a browser session of one's own",
    request=SessionEnd,
    status=204,
)
END_OTHERS = Endpoint(
    name="sessions.endOthers",
    method="DELETE",
    path="/api/auth/sessions",
    owner="gateway",
    people_only=True,
    summary="End all browser sessions of one's own but this one",
    request=SessionEnd,
    status=204,
)

ENDPOINTS = (LIST, END, END_OTHERS)
