"""What a process gets from the one that started it: bound sockets, and a pipe on which it says that it is ready.

So a successor accepts from the same queue before its predecessor stops, and no connection is refused in between. The
parent only binds: it is the process that listens, so that nobody is kept waiting at the port of one that is down. A
process that got nothing binds its port itself.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

SOCKETS = "KOINONIA_SOCKETS"
"""The variable that tells the sockets: ``port=descriptor,…``."""
READY = "KOINONIA_READY_DESCRIPTOR"
"""The variable that tells where to say that the process takes work."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound, and does not listen yet.

    Raises:
        OSError: somebody else has the port.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def told(sockets: Mapping[int, socket.socket], ready: int | None = None) -> dict[str, str]:
    """The variables that tell a child of its sockets, by port, and of the pipe's descriptor."""
    variables = {SOCKETS: ",".join(f"{port}={each.fileno()}" for port, each in sockets.items())}
    return variables if ready is None else variables | {READY: str(ready)}


def socket_of(port: int) -> socket.socket | None:
    """The socket of this port that was handed to this process, if one was."""
    for entry in os.environ.get(SOCKETS, "").split(","):
        known, _, descriptor = entry.partition("=")
        if known == str(port):
            return socket.socket(fileno=int(descriptor))
    return None


def say_ready() -> None:
    """Tell whoever waits for it that this process takes work; once."""
    descriptor = os.environ.pop(READY, None)
    if descriptor is not None:
        with suppress(BrokenPipeError):  # nobody waits any more
            os.write(int(descriptor), b"ready")
        os.close(int(descriptor))
