"""Templates: texts that a church writes once and sends again."""

from datetime import datetime
from typing import Self
from uuid import UUID

from msgspec import UNSET, UnsetType
from typing_extensions import override

from koinonia.api.common import EXAMPLE_ID, EXAMPLE_TIME, Page, PageQuery, Request, Response, ShortText, TextContent
from koinonia.api.endpoint import SENDERS, Endpoint


class Template(Response, frozen=True, kw_only=True):
    """A text to send again. ``version`` grows with each change of ``content``; a message keeps the one it used.

    ``unknownFields``: fields that nobody in the church has a value for; without a fallback they leave a gap.
    """

    id: UUID
    name: str
    content: str
    version: int
    fields: list[str]
    unknown_fields: list[str]
    created_at: datetime
    updated_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            name="Sunday",
            content="Hi {{firstName|friend}}, the service starts at {{time}} on Sunday.",
            version=2,
            fields=["firstName", "time"],
            unknown_fields=["time"],
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


class TemplateRequest(Request, frozen=True, kw_only=True):
    """A new template; its name is the only such in the church."""

    name: ShortText
    content: TextContent

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(name="Sunday", content="Hi {{firstName|friend}}, the service starts at 10 on Sunday.")


class TemplatePatch(Request, frozen=True, kw_only=True):
    """What is left out stays."""

    name: ShortText | UnsetType = UNSET
    content: TextContent | UnsetType = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(content="Hi {{firstName|friend}}, the service starts at 11 on Sunday.")


LIST = Endpoint(
    name="templates.list",
    method="GET",
    path="/api/templates",
    owner="messaging",
    summary="The church's templates",
    query=PageQuery,
    response=Page[Template],
)
CREATE = Endpoint(
    name="templates.create",
    method="POST",
    path="/api/templates",
    owner="messaging",
    summary="Make a template",
    request=TemplateRequest,
    response=Template,
    status=201,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
PATCH = Endpoint(
    name="templates.patch",
    method="PATCH",
    path="/api/templates/{id}",
    owner="messaging",
    summary="Change a template",
    description="Messages that were accepted before, scheduled ones too, keep the text that they were accepted with.",
    request=TemplatePatch,
    response=Template,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
DELETE = Endpoint(
    name="templates.delete",
    method="DELETE",
    path="/api/templates/{id}",
    owner="messaging",
    summary="Delete a template; messages made of it stay as they are",
    status=204,
    roles=SENDERS,
    idempotent=True,
)

ENDPOINTS = (LIST, CREATE, PATCH, DELETE)
