import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from koinonia.telemetry import _to_json


@pytest.mark.parametrize(
    "value", ["plain", "caf\u00e9", "two\u2028lines\x85\n", "half a pair \ud800", 2**70, 0.5, None, [1, {"a": True}]]
)
def test_a_log_line_is_one_line_of_ascii_whatever_it_holds(value: object) -> None:
    line = _to_json({"event": "x", "value": value})
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"event": "x", "value": value}


def test_what_is_no_json_is_written_by_its_default() -> None:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    assert json.loads(_to_json({"at": at})) == {"at": "2026-11-21T00:00:00Z"}
    assert json.loads(_to_json({"at": at, "name": "caf\u00e9"}, default=str)) == {"at": str(at), "name": "caf\u00e9"}


PHONE = "+13125550123"
TELLS = """
import logging, sys
import structlog
from koinonia import telemetry

phone = sys.argv[1]
telemetry.configure("test")
with telemetry.correlated(phone):
    structlog.get_logger().warning("ours", at=phone)
    logging.getLogger("library").warning("theirs, to %s", phone)
"""


@pytest.fixture(scope="module")
def lines() -> dict[str, dict[str, Any]]:
    """What a process writes of a phone: a line of ours, and one of a library, in a request whose id is a phone too."""
    ended = subprocess.run([sys.executable, "-c", TELLS, PHONE], capture_output=True, text=True, check=True)
    return {entry["event"].partition(",")[0]: entry for entry in map(json.loads, ended.stderr.splitlines())}


def test_what_is_handed_to_a_log_line_is_redacted_whoever_writes_it(lines: dict[str, dict[str, Any]]) -> None:
    assert lines["ours"]["at"] == "[phone]"
    assert lines["theirs"]["event"] == "theirs, to [phone]"


def test_what_a_log_line_is_given_on_its_way_is_redacted_too(lines: dict[str, dict[str, Any]]) -> None:
    assert [lines[whose]["correlation_id"] for whose in ("ours", "theirs")] == ["[phone]"] * 2
