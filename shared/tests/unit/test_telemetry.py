import json
from datetime import UTC, datetime

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
