"""What the kernel knows of processes: their connections and open files. Linux, IPv4, this machine."""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED, _CLOSE_WAIT, _LISTEN = "01", "08", "0A"


@dataclass(frozen=True)
class Connection:
    """One end of a TCP connection, or a listening socket."""

    inode: int
    local_port: int
    remote_port: int
    state: str
    unread_bytes: int

    @property
    def is_established(self) -> bool:
        return self.state == _ESTABLISHED

    @property
    def is_half_closed(self) -> bool:
        """The other side has gone, and ours was never closed."""
        return self.state == _CLOSE_WAIT


@dataclass(frozen=True)
class Held:
    """What a process holds open."""

    connections: tuple[Connection, ...]
    others: Counter[str]  # files, pipes, queues of events, sockets that lead nowhere: what they are, and how many

    def to(self, port: int) -> list[Connection]:
        """Its connections to a server."""
        return [each for each in self.connections if each.is_established and each.remote_port == port]


def sockets() -> list[Connection]:
    """Every TCP socket of this machine."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [_connection(line) for line in lines]


def held(pid: int, among: list[Connection]) -> Held:
    """What a process holds open; nothing when it is gone."""
    by_inode = {each.inode: each for each in among}
    connections: list[Connection] = []
    others: Counter[str] = Counter()
    with suppress(OSError):
        for place in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                kind, _, inode = os.readlink(place).partition(":[")
                if kind == "socket" and int(inode[:-1]) in by_inode:
                    connections.append(by_inode[int(inode[:-1])])
                else:
                    others[kind] += 1
    return Held(tuple(connections), others)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    return any(each.local_port == port and each.state == _LISTEN for each in sockets())


def unread_bytes(port: int) -> int:
    """How much a server has been sent that it has not read."""
    return sum(each.unread_bytes for each in sockets() if each.local_port == port and each.is_established)


def _connection(line: str) -> Connection:
    fields = line.split()
    return Connection(
        inode=int(fields[9]),
        local_port=int(fields[1].rpartition(":")[2], 16),
        remote_port=int(fields[2].rpartition(":")[2], 16),
        state=fields[3],
        unread_bytes=int(fields[4].partition(":")[2], 16),
    )
