"""Marks of tests that need the servers' programs on this machine; where those are missing, they are skipped.

``make`` gets what is missing before the tests: Docker stands in for the programs, or they are installed.
"""

import os
from collections.abc import Mapping

import pytest

from koinonia.servers import programs
from koinonia.servers.finding import VARIABLES, choice_of


def has_programs() -> bool:
    """Whether every server's program is installed."""
    return all(map(programs.is_installed, VARIABLES))


def runs_servers_itself(environ: Mapping[str, str]) -> bool:
    """Whether the servers that a run or a platform gets are processes with files here, none of them in a container."""
    return choice_of(environ) != "docker" and has_programs()


programs_installed = pytest.mark.skipif(not has_programs(), reason="the servers' programs are not installed")
"""For tests that start the programs themselves."""

servers_as_processes = pytest.mark.skipif(
    not runs_servers_itself(os.environ), reason="looks at the servers' processes and files, which containers have"
)
"""For tests that look into the servers of the platform that they are given."""
