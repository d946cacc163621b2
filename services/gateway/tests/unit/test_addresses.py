"""Where a request comes from, with and without proxies before the gateway."""

import pytest

from koinonia_gateway.domain.addresses import client_address, limited_as, parse_networks

TRUSTED = parse_networks("10.0.0.0/8, 192.0.2.7, fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["198.51.100.9, 10.2.2.2,192.0.2.7"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.1, 198.51.100.9", "10.2.2.2"], "198.51.100.9"),
        ("10.0.0.1", ["rubbish, 203.0.113.1, 198.51.100.9"], "198.51.100.9"),
        ("fd00::1", [" 2001:DB8:0::9 "], "2001:db8::9"),
        ("fd00::1", ["2001:db8::9, fd00::2"], "2001:db8::9"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.9"], "198.51.100.9"),
    ],
)
def test_a_trusted_proxy_is_believed_from_the_right_as_far_as_trusted_ones_wrote(
    peer: str, forwarded: list[str], address: str
) -> None:
    assert client_address(peer, forwarded, TRUSTED) == address


@pytest.mark.parametrize("peer", ["198.51.100.1", "11.0.0.1", "192.0.2.8", "2001:db8::1"])
@pytest.mark.asvs("v5.0.0-4.1.3")
def test_a_header_from_anybody_else_changes_nothing(peer: str) -> None:
    assert client_address(peer, ["203.0.113.1"], TRUSTED) == peer
    assert client_address(peer, ["203.0.113.1, 10.0.0.1"], TRUSTED) == peer


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address("10.0.0.1", ["203.0.113.1"], parse_networks("")) == "10.0.0.1"


@pytest.mark.parametrize(
    "forwarded",
    [
        [],
        [""],
        ["rubbish"],
        ["203.0.113.1, unknown"],
        ["203.0.113.1,"],
        ["203.0.113.1, 198.51.100.9:4711"],
        ["203.0.113.1, 10.0.0.300, 10.0.0.2"],
        ["203.0.113.1", "[2001:db8::9]"],
        ["10.0.0.2, 10.0.0.3"],
        ["," * 10_000],
    ],
)
def test_rubbish_or_nobody_beyond_the_proxies_leaves_the_connections_other_end(forwarded: list[str]) -> None:
    assert client_address("10.0.0.1", forwarded, TRUSTED) == "10.0.0.1"


def test_a_connection_without_an_address_has_none() -> None:
    assert client_address(None, ["203.0.113.1"], TRUSTED) == "unknown"
    assert client_address("socket", ["203.0.113.1"], TRUSTED) == "socket"


@pytest.mark.parametrize("text", ["everybody", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8 fd00::/8"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits"):
        parse_networks(text)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::6", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("198.51.100.9", "198.51.100.9"),
        ("::ffff:198.51.100.9", "::ffff:198.51.100.9"),
        ("unknown", "unknown"),
    ],
)
def test_limits_count_all_that_one_customer_has_as_one(address: str, counted: str) -> None:
    assert limited_as(address) == counted


def test_limits_count_an_ipv4_caller_as_itself_however_it_is_told() -> None:
    told = [limited_as(client_address(peer, [], ())) for peer in ("::ffff:198.51.100.9", "198.51.100.9")]
    assert told == ["198.51.100.9"] * 2
    assert limited_as(client_address("::ffff:198.51.100.10", [], ())) != told[0]
