"""PostgreSQL, RabbitMQ and Redis: found where a setting names them, else private instances.

A private instance is one of the installed program, or a container. It listens on 127.0.0.1 alone, keeps its files in
one directory (a container: in itself, or in a volume named there), and ends with the process that started it, even when
that is killed. Nothing here touches a server that somebody else runs.
"""

from koinonia.servers.finding import Servers, Wanted, discard, find, provide
from koinonia.servers.unavailable import ServersUnavailable

__all__ = ["Servers", "ServersUnavailable", "Wanted", "discard", "find", "provide"]
