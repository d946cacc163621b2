"""What a process is told: its own, and nothing that is an administrator's."""

from pathlib import Path

import msgspec
import pytest

from koinonia import settings
from koinonia.cli.environment import OperatorSettings, as_user, handed_on

ADMIN = {
    "PATH": "/bin",
    "KOINONIA_LOG_LEVEL": "debug",
    "KOINONIA_DATABASE_URL": "postgresql://admin:secret@db/koinonia",
    "KOINONIA_DATABASE_URL_FILE": "/run/secrets/database",
    "KOINONIA_AMQP_MANAGEMENT_URL": "http://admin:secret@mq:15672",
    "KOINONIA_BILLING_PASSWORD": "secret",
    "KOINONIA_BILLING_PASSWORD_FILE": "/run/secrets/billing",
}


class Shape(msgspec.Struct):
    database_url: str
    log_level: str
    billing_password: str | None = None


def test_a_process_never_learns_the_administrators_secrets() -> None:
    told = handed_on(ADMIN, {"KOINONIA_DATABASE_URL": "postgresql://koinonia_billing@db/koinonia"})
    assert "secret" not in "".join(told.values())
    assert told["PATH"] == "/bin"


def test_its_own_setting_goes_before_a_file_and_before_the_env_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://admin:secret@db/koinonia")
    env_file = tmp_path / ".env"
    env_file.write_text(f"KOINONIA_DATABASE_URL_FILE={secret}\nKOINONIA_BILLING_PASSWORD=secret\n")
    told = handed_on(ADMIN, {"KOINONIA_DATABASE_URL": "postgresql://koinonia_billing@db/koinonia"})
    assert settings.load(Shape, told, env_file) == Shape("postgresql://koinonia_billing@db/koinonia", "debug")


def test_settings_that_are_not_set_are_not_named() -> None:
    assert OperatorSettings(redis_url="redis://x").environ() == {
        "KOINONIA_SERVERS": "auto",
        "KOINONIA_REDIS_URL": "redis://x",
        "KOINONIA_ENVIRONMENT": "development",
        "KOINONIA_HOST": "127.0.0.1",
        "KOINONIA_DATABASE_POOL_SIZE": "10",
    }
    assert OperatorSettings(billing_password="b").passwords() == {"billing": "b"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://admin:a@db:5/koinonia?sslmode=require", "postgresql://me:p%2Fw@db:5/koinonia?sslmode=require"),
        ("amqp://admin:a@mq/", "amqp://me:p%2Fw@mq/"),
        ("amqp://admin:a@mq/%2Fhost", "amqp://me:p%2Fw@mq/%2Fhost"),
    ],
)
def test_another_user_reaches_the_same_place(url: str, expected: str) -> None:
    assert as_user(url, "me", "p/w") == expected
