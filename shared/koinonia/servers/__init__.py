"""PostgreSQL, RabbitMQ and Redis: found where a setting names them, else private instances of the installed programs.

A private instance listens on 127.0.0.1 alone, keeps all its files in one directory, and ends with the process that
started it, even when that is killed. Nothing here touches a server that somebody else runs.
"""

from koinonia.servers.finding import Servers, Wanted, find, provide
from koinonia.servers.unavailable import ServersUnavailable

__all__ = ["Servers", "ServersUnavailable", "Wanted", "find", "provide"]
