"""What processes cost, as the kernel counts it: CPU time and peak memory, of each with all its children."""

import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """User and system time since their start of these processes, their children and what those have waited for."""
    families = _families(pids)
    return {name: sum(map(_cpu_ticks, family)) / _TICKS for name, family in families.items()}


def peak_bytes(pids: Mapping[str, int]) -> dict[str, int]:
    """The most memory that each has had resident (VmHWM); of one with children, the largest of them.

    Not their sum: what PostgreSQL's processes share would count many times.
    """
    return {name: max(map(_peak, family), default=0) for name, family in _families(pids).items()}


def forget_peaks(pids: Mapping[str, int]) -> None:
    """Let the peaks begin again at what each has now."""
    for family in _families(pids).values():
        for pid in family:
            with suppress(OSError):  # gone meanwhile
                (_PROC / str(pid) / "clear_refs").write_text("5")


def _families(pids: Mapping[str, int]) -> dict[str, list[int]]:
    """Each process and its descendants that live now."""
    children: dict[int, list[int]] = defaultdict(list)
    for place in _PROC.glob("[0-9]*"):
        fields = _stat(int(place.name))
        if fields:
            children[int(fields[1])].append(int(place.name))
    families: dict[str, list[int]] = {}
    for name, pid in pids.items():
        family = [pid]
        for each in family:
            family.extend(children.get(each, ()))
        families[name] = family
    return families


def _cpu_ticks(pid: int) -> int:
    """Its own time, and that of its children which have ended (utime, stime, cutime, cstime)."""
    return sum(map(int, _stat(pid)[11:15]))


def _stat(pid: int) -> list[str]:
    """What follows the name in ``/proc/PID/stat``; nothing of one that is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _peak(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
