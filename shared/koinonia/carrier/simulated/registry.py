"""What belongs to the account at the carrier: messaging profiles, numbers, orders, and who has opted out."""

import re
import uuid
from datetime import datetime
from typing import Literal

import msgspec

from koinonia import clock
from koinonia.carrier.simulated.errors import TelnyxError, not_found

_TOLL_FREE = re.compile(r"\+18(00|33|44|55|66|77|88)")
DEFAULT_PROFILE = "default"
_SHORT_CODE = re.compile(r"[0-9]{5,6}")

NumberKind = Literal["long-code", "toll-free", "short-code"]


class Profile(msgspec.Struct, kw_only=True):
    """A messaging profile: opt-outs and the webhook of inbound texts are its."""

    id: str
    name: str
    webhook_url: str | None
    webhook_failover_url: str | None
    whitelisted_destinations: list[str]
    enabled: bool
    created_at: datetime
    updated_at: datetime

    @property
    def webhook_urls(self) -> tuple[str, ...]:
        """In the order in which they are tried."""
        return tuple(url for url in (self.webhook_url, self.webhook_failover_url) if url)


class Number(msgspec.Struct, kw_only=True):
    """A number of the account."""

    id: str
    phone: str
    kind: NumberKind
    profile_id: str | None
    created_at: datetime


class NumberOrder(msgspec.Struct, kw_only=True):
    """An order of numbers; pending in its first answer, done when it is asked for again."""

    id: str
    phones: list[str]
    profile_id: str | None
    customer_reference: str | None
    created_at: datetime
    status: Literal["pending", "success"] = "pending"


class OptOut(msgspec.Struct, kw_only=True):
    """A person who told a profile's number to stop."""

    profile_id: str
    number: str
    person: str
    keyword: str
    created_at: datetime


class Registry:
    """The account."""

    def __init__(self) -> None:
        self.profiles: dict[str, Profile] = {}
        self.numbers: dict[str, Number] = {}  # by phone
        self.orders: dict[str, NumberOrder] = {}
        self.opt_outs: dict[tuple[str, str], OptOut] = {}  # by profile and person
        self._offered: set[str] = set()
        self._next_line = 0

    def add_profile(self, name: str, webhook_url: str | None = None, failover_url: str | None = None) -> Profile:
        """Make a profile."""
        now = clock.now()
        profile = Profile(
            id=str(uuid.uuid4()),
            name=name,
            webhook_url=webhook_url,
            webhook_failover_url=failover_url,
            whitelisted_destinations=["US"],
            enabled=True,
            created_at=now,
            updated_at=now,
        )
        self.profiles[profile.id] = profile
        return profile

    def default_profile(self, webhook_url: str | None, failover_url: str | None) -> Profile:
        """The profile that is there from the start, with these webhooks."""
        found = next((each for each in self.profiles.values() if each.name == DEFAULT_PROFILE), None)
        if found is None:
            return self.add_profile(DEFAULT_PROFILE, webhook_url, failover_url)
        found.webhook_url, found.webhook_failover_url = webhook_url, failover_url
        return found

    def profile(self, profile_id: str) -> Profile:
        """The profile of an id; 404."""
        if (profile := self.profiles.get(profile_id)) is None:
            raise not_found()
        return profile

    def add_number(self, phone: str, profile_id: str | None) -> Number:
        """Own a number; one that is owned moves to the profile."""
        if (number := self.numbers.get(phone)) is None:
            number = Number(
                id=str(uuid.uuid4()), phone=phone, kind=kind_of(phone), profile_id=profile_id, created_at=clock.now()
            )
            self.numbers[phone] = number
        number.profile_id = profile_id
        return number

    def number_by_id(self, number_id: str) -> Number:
        """The number of an id, or of a phone number in its place; 404."""
        found = self.numbers.get(number_id) or next((n for n in self.numbers.values() if n.id == number_id), None)
        if found is None:
            raise not_found()
        return found

    def number_order(self, order_id: str) -> NumberOrder:
        """The order of an id; 404."""
        if (order := self.orders.get(order_id)) is None:
            raise not_found()
        return order

    def offer(self, area_code: str, toll_free: bool, count: int) -> list[str]:
        """Numbers that nobody owns; only these can be ordered."""
        prefix = "+1888" if toll_free else f"+1{area_code}"
        offered: list[str] = []
        while len(offered) < count and self._next_line < 7_990_000:
            phone = f"{prefix}{2_010_000 + self._next_line:07d}"
            self._next_line += 1
            if phone not in self.numbers:
                offered.append(phone)
        self._offered.update(offered)
        return offered

    def order(self, phones: list[str], profile_id: str | None, reference: str | None) -> NumberOrder:
        """Buy numbers that were offered."""
        if profile_id is not None:
            self.profile(profile_id)
        for phone in phones:
            if phone not in self._offered or phone in self.numbers:
                detail = "The number is not available; order one of a recent search."
                raise TelnyxError(400, "10015", "Bad Request", detail, pointer="/phone_numbers/0/phone_number")
        order = NumberOrder(
            id=str(uuid.uuid4()),
            phones=phones,
            profile_id=profile_id,
            customer_reference=reference,
            created_at=clock.now(),
        )
        self.orders[order.id] = order
        for phone in phones:
            self.add_number(phone, profile_id)
        return order


def kind_of(phone: str) -> NumberKind:
    """What kind of sender a number is."""
    if _SHORT_CODE.fullmatch(phone):
        return "short-code"
    return "toll-free" if _TOLL_FREE.match(phone) else "long-code"
