"""Bad arguments and settings end in one clear line and exit status 2, never in a trace."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from koinonia.cli import main
from koinonia.cli.main import koinonia


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bogus", "No such command 'bogus'"),
        ("up --port 0", "Invalid value for '--port'"),
        ("up --port x", "Invalid value for '--port'"),
        ("up --delivery-workers 0", "Invalid value for '--delivery-workers'"),
        ("up --carrier pigeon", "Invalid value for '--carrier'"),
        ("up --processes postman=1", "'postman' is none of messaging, delivery"),
        ("up --processes gateway", "'gateway' is not of the form gateway=COUNT"),
        ("up --processes gateway=0", "'gateway=0' is not of the form gateway=COUNT"),
        ("up --processes gateway=²", "is not of the form gateway=COUNT"),
        ("up --carrier telnyx", "--carrier telnyx needs KOINONIA_TELNYX_API_KEY"),
        ("up --state-dir /dev/null/x", "/dev/null/x: Not a directory"),
        ("run", "Missing argument"),
        ("run pigeon", "'pigeon' is not one of"),
        ("run gateway", "KOINONIA_DATABASE_URL is not set"),
        ("migrate pigeon", "'pigeon' is not one of"),
        ("migrate", "KOINONIA_DATABASE_URL is not set, and no `koinonia up` runs here"),
        ("migrate --down 1", "--down needs the one SERVICE"),
        ("migrate --down 0 billing", "Invalid value for '--down'"),
        ("dead-letters show", "Missing argument 'QUEUE'"),
        ("dead-letters show pigeon", "'pigeon' is not one of"),
        ("dead-letters list", "KOINONIA_AMQP_URL is not set, and no `koinonia up` runs here"),
        ("status", "no `koinonia up` runs on .run"),
        ("logs gateway", "no log of gateway in"),
        ("doctor table", "'table' is not 'database'"),
        ("doctor database", "KOINONIA_DATABASE_URL is not set"),
        ("partitions maintain", "KOINONIA_DATABASE_URL is not set"),
        ("delivery status", "KOINONIA_DATABASE_URL is not set, and no `koinonia up` runs here"),
        ("delivery status --json --watch", "KOINONIA_DATABASE_URL is not set"),
        ("delivery trail", "Missing argument 'RECIPIENT_ID'"),
        ("admin reset-mfa", "Missing argument 'EMAIL'"),
        ("admin reset-mfa ruth@grace.example", "KOINONIA_ENCRYPTION_KEYS is not set"),
        ("delivery trail her", "'her' is not a valid UUID"),
        ("delivery trail 01a1fd51-e631-71ba-b001-d1cc339c8612", "KOINONIA_DATABASE_URL is not set"),
    ],
)
def test_a_bad_line_is_answered_by_one_line(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("koinonia: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KOINONIA_SERVERS", "podman"),
        ("KOINONIA_ENVIRONMENT", "moon"),
        ("KOINONIA_DATABASE_POOL_SIZE", "many"),
        ("KOINONIA_DATABASE_URL", "foo"),
        ("KOINONIA_AMQP_URL", "redis://127.0.0.1"),
        ("KOINONIA_REDIS_URL", "127.0.0.1:6379"),
    ],
)
def test_a_bad_setting_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run(["up"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"koinonia: {name}: ")
    assert error.count("\n") == 1


def test_an_address_of_another_kind_of_server_is_named_before_a_service_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOINONIA_DATABASE_URL", "foo")
    assert run(["run", "billing"]) == 2
    assert capsys.readouterr().err.startswith("koinonia: KOINONIA_DATABASE_URL: ")


def test_a_port_that_is_taken_is_said_before_anything_starts(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert run(["up", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"koinonia: port {port} is taken; choose another with --port\n"
    assert not (empty_folder / ".run").exists()


def test_production_takes_no_development_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOINONIA_ENVIRONMENT", "production")
    assert run(["up", "--port", "23456"]) == 2
    assert "KOINONIA_ENCRYPTION_KEYS is not set, and KOINONIA_ENVIRONMENT is production" in capsys.readouterr().err


SAFE = {
    "KOINONIA_ENVIRONMENT": "production",
    **{f"KOINONIA_{key}": "x" for key in ("ENCRYPTION_KEYS", "TOKEN_KEYS", "BLIND_INDEX_KEY")},
    "KOINONIA_DATABASE_URL": "postgresql://db.example/koinonia?sslmode=verify-full",
    "KOINONIA_AMQP_URL": "amqps://mq.example/",
    "KOINONIA_REDIS_URL": "rediss://cache.example",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KOINONIA_DATABASE_URL", None),
        ("KOINONIA_DATABASE_URL", "postgresql://db.example/koinonia?sslmode=require"),
        ("KOINONIA_DATABASE_DIRECT_URL", "postgresql://db.example/koinonia"),
        ("KOINONIA_AMQP_URL", "amqp://mq.example/"),
        ("KOINONIA_AMQP_MANAGEMENT_URL", "http://mq.example:15672"),
        ("KOINONIA_REDIS_URL", "redis://cache.example"),
    ],
)
def test_production_takes_no_server_in_the_clear(
    name: str, value: str | None, *, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, each in {**SAFE, name: value or ""}.items():
        monkeypatch.setenv(key, each)
    assert run(["up", "--port", "23456"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"koinonia: {name}: in production the server must be reached by TLS")


def test_production_texts_nobody_by_the_simulated_carrier(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, each in SAFE.items():
        monkeypatch.setenv(key, each)
    assert run(["up", "--port", "23456"]) == 2
    told = "koinonia: the simulated carrier is for development, and KOINONIA_ENVIRONMENT is production\n"
    assert capsys.readouterr().err == told


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in koinonia.commands or ["up", "run", "migrate", "demo", "dead-letters", "status", "logs", "doctor"]:
        assert f"  {name} " in text
