"""The phone of the admin who asks, to which drafts can be sent before anybody else gets them."""

from datetime import datetime, timedelta
from typing import Annotated, Self

from msgspec import Meta
from typing_extensions import override

from koinonia.api.common import EXAMPLE_TIME, PhoneText, Request, Response
from koinonia.api.endpoint import SENDERS, Endpoint

PhoneCode = Annotated[
    str, Meta(min_length=6, max_length=6, pattern=r"^[0-9]+$", description="Six digits, as they were texted")
]

_EXAMPLE_PHONE = "+12055550123"


class OwnPhone(Response, frozen=True, kw_only=True):
    """One's own phone. ``pendingPhone``: one to which a code was texted, good until ``codeExpiresAt``; until it is
    confirmed, the phone that was so before stays.
    """

    phone: str | None
    confirmed_at: datetime | None
    pending_phone: str | None
    code_expires_at: datetime | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            phone=_EXAMPLE_PHONE,
            confirmed_at=EXAMPLE_TIME,
            pending_phone="+12055550124",
            code_expires_at=EXAMPLE_TIME + timedelta(days=1),
        )


class OwnPhoneRequest(Request, frozen=True, kw_only=True):
    """The phone to be confirmed."""

    phone: PhoneText

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(phone=_EXAMPLE_PHONE)


class OwnPhoneConfirmation(Request, frozen=True, kw_only=True):
    """The code that came as a text."""

    code: PhoneCode

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(code="492039")


GET = Endpoint(
    name="ownPhone.get",
    method="GET",
    path="/api/auth/phone",
    owner="gateway",
    people_only=True,
    summary="One's own phone",
    response=OwnPhone,
)
ASK = Endpoint(
    name="ownPhone.ask",
    method="POST",
    path="/api/auth/phone",
    owner="gateway",
    people_only=True,
    roles=SENDERS,
    summary="Have a code texted to one's own phone",
    description="A code of six digits, good for ten minutes and five tries; one that was asked for before is good no "
    "more. Five codes an hour, and ten a day to one phone whoever of the church asks; beyond that 429. The text costs "
    "what any text does. To a phone that has opted out none goes, and the answer does not tell.",
    request=OwnPhoneRequest,
    response=OwnPhone,
    status=202,
)
CONFIRM = Endpoint(
    name="ownPhone.confirm",
    method="POST",
    path="/api/auth/phone/confirm",
    owner="gateway",
    people_only=True,
    roles=SENDERS,
    summary="Confirm one's own phone by its code",
    description="It takes the place of the phone that was confirmed before.",
    request=OwnPhoneConfirmation,
    response=OwnPhone,
)
REMOVE = Endpoint(
    name="ownPhone.remove",
    method="DELETE",
    path="/api/auth/phone",
    owner="gateway",
    people_only=True,
    summary="Remove one's own phone",
    description="With a code that is under way; also for who may send no more. Where there is none, there is nothing "
    "to do: 204, too.",
    status=204,
)

ENDPOINTS = (GET, ASK, CONFIRM, REMOVE)
