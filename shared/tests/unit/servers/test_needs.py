"""Which tests a machine can run: what looks into the servers is not run where Docker stands in for a program."""

import pytest

from koinonia.servers import programs
from koinonia.testing import needs


@pytest.mark.parametrize(
    ("installed", "choice", "has_programs", "runs_servers_itself"),
    [
        ({"postgres", "rabbitmq", "redis"}, "", True, True),
        ({"postgres", "rabbitmq", "redis"}, "native", True, True),
        ({"postgres", "rabbitmq", "redis"}, "docker", True, False),
        ({"postgres", "rabbitmq"}, "", False, False),
        (set(), "auto", False, False),
        (set(), "docker", False, False),
    ],
)
def test_a_program_that_is_missing_or_not_to_be_used_leaves_its_server_to_docker(
    monkeypatch: pytest.MonkeyPatch,
    installed: set[str],
    choice: str,
    has_programs: bool,
    runs_servers_itself: bool,
) -> None:
    monkeypatch.setattr(programs, "is_installed", lambda kind: kind in installed)
    assert needs.has_programs() is has_programs
    assert needs.runs_servers_itself({"KOINONIA_SERVERS": choice}) is runs_servers_itself
