"""Where a request comes from, behind proxies of our own and without any.

``X-Forwarded-For`` is what its sender likes it to be. Each proxy adds at the right whom it was called by, so that the
header is believed from the right, and no further than proxies of our own wrote it.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

UNKNOWN = "unknown"


def client_address(peer: str | None, forwarded: Iterable[str], trusted: Networks) -> str:
    """The address of who sent a request, in its one spelling.

    That is the connection's other end; where it is a trusted proxy, the right-most address of the
    ``X-Forwarded-For`` headers (in their order) that is not a trusted proxy itself. Without such a one, or where
    something else than an address stands right of it, it is the connection's other end again.
    """
    near = _address(peer or "")
    if near is None:
        return peer or UNKNOWN
    if _is_in(near, trusted):
        for hop in reversed(",".join(forwarded).split(",")):
            far = _address(hop)
            if far is None:
                break
            if not _is_in(far, trusted):
                return str(far)
    return str(near)


def limited_as(address: str) -> str:
    """What a limit counts an address as: one of IPv6 as its /64, all of which one customer has; any other as it is.

    Source: RFC 6177, 2; RFC 7934, 5.
    """
    found = _address(address)
    return str(IPv6Network((int(found), 64), strict=False)) if isinstance(found, IPv6Address) else address


def parse_networks(text: str) -> Networks:
    """Read ``10.0.0.0/8, fd00::/8``.

    Raises:
        ValueError: one is no network, or has bits beyond its mask.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address  # a listener for both kinds tells an IPv4 caller as ::ffff:192.0.2.1


def _is_in(address: Address, networks: Networks) -> bool:
    return any(address in network for network in networks)
