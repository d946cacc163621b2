"""The state directory: keys, the lock, processes.json, logs."""

import io
from pathlib import Path

import msgspec
import pytest

from koinonia.cli import development_keys
from koinonia.cli.logs import stamped, time_of
from koinonia.cli.main import CommandFailed
from koinonia.cli.state import Process, StateDirectory
from koinonia.cli.status import address
from koinonia.security.keys import Keys
from koinonia.servers.child import spawn


def test_development_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.env"
    made = development_keys.ensure(path)
    assert development_keys.ensure(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    Keys.parse(
        encryption_keys=made["KOINONIA_ENCRYPTION_KEYS"],
        token_keys=made["KOINONIA_TOKEN_KEYS"],
        blind_index_key=made["KOINONIA_BLIND_INDEX_KEY"],
    )


def test_a_second_up_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with (
        StateDirectory(tmp_path / "state").locked(),
        pytest.raises(CommandFailed, match=r"is running on .* already"),
        StateDirectory(tmp_path / "state").locked(),
    ):
        pass
    with StateDirectory(tmp_path / "state").locked():
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_processes_are_written_as_the_contract_says_and_gone_at_the_end(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    with state.locked():
        state.write_processes({"gateway": Process(123, 8080, "http://127.0.0.1:8080")})
        assert msgspec.json.decode((tmp_path / "processes.json").read_bytes()) == {
            "gateway": {"pid": 123, "port": 8080, "url": "http://127.0.0.1:8080"}
        }
        assert state.read_processes()["gateway"].pid == 123
    assert state.read_processes() == {}


def test_a_directory_that_was_there_and_its_files_become_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    (path / "logs").mkdir(parents=True)
    (path / "lock").touch()
    path.chmod(0o755)
    (path / "processes.new").touch(0o644)
    state = StateDirectory(path)
    with state.locked():
        state.write_processes({})
        assert path.stat().st_mode & 0o777 == 0o700
        assert (path / "processes.json").stat().st_mode & 0o777 == 0o600


def test_a_directory_of_other_things_is_refused_and_stays_open(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)
    with pytest.raises(CommandFailed, match="is not empty"), StateDirectory(tmp_path).locked():
        raise AssertionError
    assert tmp_path.stat().st_mode & 0o777 == 0o755


async def test_a_log_is_its_owners_alone(tmp_path: Path) -> None:
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    old.touch(0o644)
    for log in (old, new):
        assert await spawn(["/bin/echo", "a"], log=log, environ={}).wait() == 0
        assert log.stat().st_mode & 0o777 == 0o600


def test_a_line_of_a_log_tells_its_time_in_either_form() -> None:
    assert time_of('{"event": "x", "timestamp": "2026-11-21T01:52:09.096682Z"}') == "2026-11-21 01:52:09.096682Z"
    assert time_of("2026-11-21 01:52:07.123 UTC [1] LOG: x") == "2026-11-21 01:52:07.123"
    assert time_of("Traceback (most recent call last):") is None
    assert time_of('{"half') is None


def test_a_trace_stays_below_the_line_that_it_belongs_to() -> None:
    log = io.StringIO('{"timestamp": "2026-11-21T01:00:00Z"}\nTraceback\n{"timestamp": "2026-11-21T02:00:00Z"}\n')
    assert [stamp for stamp, _, _ in stamped("gateway", log)] == [
        "2026-11-21 01:00:00Z",
        "2026-11-21 01:00:00Z",
        "2026-11-21 02:00:00Z",
    ]


def test_a_table_of_processes_shows_no_credentials() -> None:
    assert address("amqp://guest:guest@127.0.0.1:5672/") == "amqp://127.0.0.1:5672"
    assert address("http://127.0.0.1:8080") == "http://127.0.0.1:8080"
