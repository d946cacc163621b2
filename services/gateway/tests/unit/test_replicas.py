from collections.abc import Sequence

import pytest

from koinonia_gateway import replicas
from koinonia_gateway.replicas import Replicas, addresses_of


class Names:
    """Somebody's name service: as many addresses as it is told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("messaging", 8080)
        self.asked += 1
        return self.addresses


async def test_named_replicas_take_turns_and_no_address_is_looked_up() -> None:
    names = Names("10.0.0.1")
    both = Replicas(("http://127.0.0.1:1", "http://[::1]:2"), names)
    assert [await both.in_turn() for _ in range(3)] == [
        ("http://[::1]:2", "http://127.0.0.1:1"),
        ("http://127.0.0.1:1", "http://[::1]:2"),
        ("http://[::1]:2", "http://127.0.0.1:1"),
    ]
    assert names.asked == 0


async def test_a_name_with_several_addresses_is_a_replica_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names("10.0.0.2", "10.0.0.1", "10.0.0.2")
    found = Replicas(("http://messaging:8080",), names)
    assert {(await found.in_turn())[0] for _ in range(2)} == {"http://10.0.0.1:8080", "http://10.0.0.2:8080"}
    assert names.asked == 1
    names.addresses = ("10.0.0.3",)
    monkeypatch.setattr(replicas, "LOOK_UP_SECONDS", 0.0)
    later = Replicas(("http://messaging:8080",), names)
    assert await later.in_turn() == ("http://10.0.0.3:8080",)
    names.addresses = ("10.0.0.3", "10.0.0.4")
    assert len(await later.in_turn()) == 2
    names.addresses = ()
    assert len(await later.in_turn()) == 2, "a name service that fails takes no replica away"


async def test_a_name_that_is_gone_or_has_a_certificate_stays_a_name() -> None:
    assert await Replicas(("http://messaging:8080",), Names()).in_turn() == ("http://messaging:8080",)
    secure = Names("10.0.0.1")
    assert await Replicas(("https://messaging:8080",), secure).in_turn() == ("https://messaging:8080",)
    assert secure.asked == 0


async def test_the_machines_own_names_are_looked_up() -> None:
    assert "127.0.0.1" in await addresses_of("localhost", 8080)
    assert await addresses_of("no-such-name.invalid", 8080) == ()
