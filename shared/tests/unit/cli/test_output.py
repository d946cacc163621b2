"""What a command shows besides its own output."""

from collections.abc import Iterator

import pytest
import structlog

from koinonia.cli.main import koinonia
from koinonia.db import statistics


@pytest.fixture
def command_logs() -> Iterator[None]:
    """Logs go where a command's do."""
    before = structlog.get_config()
    assert koinonia.callback is not None
    koinonia.callback()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("command_logs")
def test_warnings_go_beside_the_output_but_slow_statements_are_a_services_business(
    capsys: pytest.CaptureFixture[str],
) -> None:
    statistics.note("test.slow", 10 * statistics.SLOW_SECONDS)
    assert capsys.readouterr() == ("", "")
    structlog.get_logger().warning("broker_away", reason="a test")
    said, complained = capsys.readouterr()
    assert said == ""
    assert "broker_away" in complained
