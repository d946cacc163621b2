"""Free ports of 127.0.0.1."""

import random
import socket

# Below the range from which Linux takes the source ports of outgoing connections: there, a client that tries again and
# again to reach a stopped server would in the end connect to itself, and hold the port against the server's return.
_CANDIDATES = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return ``count`` different ports that nobody listens on. Use them at once: they are not reserved."""
    found: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError("no free port on 127.0.0.1")


def is_free(port: int) -> bool:
    """Tell whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
