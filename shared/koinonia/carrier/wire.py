"""Telnyx's JSON as we read it: unknown fields are ignored, and all but ids may be missing."""

from datetime import datetime
from typing import Literal

import msgspec

from koinonia.carrier.contract import CarrierStatus


class WireError(msgspec.Struct):
    """One of ``errors``, of an answer or of a message."""

    code: str
    title: str = ""
    detail: str | None = None


class ErrorsAnswer(msgspec.Struct):
    """An answer other than 2xx."""

    errors: list[WireError]


class Address(msgspec.Struct):
    """One side of a message."""

    phone_number: str | None = None
    status: str | None = None


class Media(msgspec.Struct):
    """A picture. Telnyx names the hash in two ways."""

    url: str | None = None
    content_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    hash_sha256: str | None = None


class Cost(msgspec.Struct):
    """What it cost: a decimal in a string, though one of Telnyx's pages shows a number."""

    amount: str | float | None = None
    currency: str | None = None


class WireMessage(msgspec.Struct, rename={"sender": "from"}):
    """A message, in an answer or as an event's payload."""

    id: str
    direction: str | None = None
    type: str | None = None
    messaging_profile_id: str | None = None
    sender: Address | None = None
    to: list[Address] | str | None = None
    text: str | None = None
    media: list[Media] | None = None
    webhook_url: str | None = None
    encoding: str | None = None
    parts: int | None = None
    cost: Cost | None = None
    wait_seconds: float | None = None
    received_at: datetime | None = None
    sent_at: datetime | None = None
    completed_at: datetime | None = None
    autoresponse_type: str | None = None
    errors: list[WireError] | None = None

    @property
    def status(self) -> CarrierStatus:
        """How far the message has come."""
        return status_of(self.to[0].status) if isinstance(self.to, list) and self.to else CarrierStatus.UNKNOWN

    @property
    def recipient(self) -> str | None:
        """The number it goes to."""
        if isinstance(self.to, str):
            return self.to
        return self.to[0].phone_number if self.to else None


class MessageAnswer(msgspec.Struct):
    """``POST /v2/messages`` and ``GET /v2/messages/{id}``."""

    data: WireMessage


class PageMeta(msgspec.Struct):
    """Where a list stands."""

    total_pages: int = 1


class WireDetailRecord(msgspec.Struct):
    """A line of the detail records."""

    uuid: str
    status: str | None = None
    created_at: datetime | None = None
    delivery_status_webhook_url: str | None = None
    parts: int | None = None


class DetailRecordsAnswer(msgspec.Struct):
    """``GET /v2/detail_records``."""

    data: list[WireDetailRecord]
    meta: PageMeta | None = None


class Feature(msgspec.Struct):
    """Something a number can do."""

    name: str | None = None


class CostInformation(msgspec.Struct):
    """What a number costs."""

    monthly_cost: str | None = None
    currency: str | None = None


class RegionInformation(msgspec.Struct):
    """Where a number is at home."""

    region_name: str | None = None


class WireAvailableNumber(msgspec.Struct):
    """A number that can be ordered."""

    phone_number: str
    features: list[Feature] = []
    cost_information: CostInformation | None = None
    region_information: list[RegionInformation] = []


class AvailableNumbersAnswer(msgspec.Struct):
    """``GET /v2/available_phone_numbers``."""

    data: list[WireAvailableNumber]


class OrderedNumber(msgspec.Struct):
    """One number of an order."""

    phone_number: str | None = None


class WireOrder(msgspec.Struct):
    """An order of numbers."""

    id: str
    status: Literal["pending", "success", "failure"] = "pending"
    phone_numbers: list[OrderedNumber] = []
    customer_reference: str | None = None


class OrderAnswer(msgspec.Struct):
    """``POST /v2/number_orders`` and ``GET /v2/number_orders/{id}``."""

    data: WireOrder


class OrdersAnswer(msgspec.Struct):
    """``GET /v2/number_orders``."""

    data: list[WireOrder]


class WireProfile(msgspec.Struct):
    """A messaging profile."""

    id: str
    name: str | None = None


class ProfileAnswer(msgspec.Struct):
    """``POST /v2/messaging_profiles``."""

    data: WireProfile


class ProfilesAnswer(msgspec.Struct):
    """``GET /v2/messaging_profiles``."""

    data: list[WireProfile]


class OwnedNumber(msgspec.Struct):
    """A number of ours."""

    id: str
    phone_number: str | None = None


class OwnedNumbersAnswer(msgspec.Struct):
    """``GET /v2/phone_numbers``."""

    data: list[OwnedNumber]


def status_of(word: str | None) -> CarrierStatus:
    """The status behind one of Telnyx's words; a new word is `CarrierStatus.UNKNOWN`."""
    try:
        return CarrierStatus(word or "unknown")
    except ValueError:
        return CarrierStatus.UNKNOWN
