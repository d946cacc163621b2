"""Which refusals are the same."""

from typing import Any, cast
from uuid import UUID

from koinonia.events.audit import ActionRecorded
from koinonia_gateway.audit import Actor, Refusals

CHURCH = UUID(int=1)


class Kept(Refusals):
    """Keeps what it would record."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), cast(Any, None))
        self.addresses: list[str | None] = []

    def record(self, church_id: UUID | None, act: ActionRecorded) -> None:
        self.addresses.append(act.address)


def test_refusals_from_one_ipv6_network_are_recorded_once() -> None:
    refusals = Kept()
    for address in ("2001:db8:0:7::1", "2001:db8:0:7::2", "2001:db8:0:8::1", "198.51.100.1", "198.51.100.2", ""):
        actor = Actor(kind="api_key", id=UUID(int=2), address=address, request_id="test")
        refusals.record_once(CHURCH, actor.did("request.refused", outcome="failure"))
    assert refusals.addresses == ["2001:db8:0:7::1", "2001:db8:0:8::1", "198.51.100.1", "198.51.100.2", None]
