"""Clock, ids and settings."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia import clock
from koinonia.errors import DependencyUnavailable, NotFound, ValidationFailed, is_transient
from koinonia.ids import derived_id, id_ceiling, id_floor, id_time, new_id
from koinonia.settings import ServiceSettings, SettingsError, load, refuse_missing_files, refuse_unsafe
from koinonia.testing.tls import certificate

AT = datetime(2026, 11, 22, 15, 30, 0, 123000, tzinfo=UTC)
TIMES = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def test_the_clock_can_be_moved_and_held_still() -> None:
    with clock.shifted(3600):
        assert clock.now() - datetime.now(UTC) > timedelta(minutes=59)
    with clock.frozen(AT):
        assert clock.now() == clock.now() == AT
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_clock_refuses_a_time_without_a_zone() -> None:
    with pytest.raises(ValueError, match="aware"), clock.frozen(datetime(2026, 1, 1)):  # noqa: DTZ001
        raise AssertionError


def test_new_ids_grow() -> None:
    made = [new_id() for _ in range(1000)]
    assert made == sorted(made)
    assert {each.version for each in made} == {7}


@given(at=TIMES, parts=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
def test_a_derived_id_is_a_version_7_id_of_its_time_and_always_the_same(at: datetime, parts: list[bytes]) -> None:
    made = derived_id(at, *parts)
    assert made == derived_id(at, *parts)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert id_time(made) == at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert id_floor(at) <= made <= id_ceiling(at)


def test_derived_ids_of_other_parts_differ() -> None:
    made = [derived_id(AT, *parts) for parts in ((b"k", b"a"), (b"k", b"b"), (b"l", b"a"), (b"k", b"a", b""))]
    made += [derived_id(AT, b"k", b"ab", b"c"), derived_id(AT, b"k", b"a", b"bc")]
    assert len(set(made)) == len(made)


@given(at=TIMES)
def test_the_ids_of_a_millisecond_lie_between_those_of_its_neighbours(at: datetime) -> None:
    assert id_ceiling(at - timedelta(milliseconds=1)) < id_floor(at) < id_ceiling(at)
    assert id_ceiling(at) < id_floor(at + timedelta(milliseconds=1))


def test_an_id_before_1970_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        id_floor(datetime(1969, 12, 31, tzinfo=UTC))


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    size: int = 3
    kind: Literal["one", "two"] = "one"


def test_settings_come_from_the_environment_with_their_types() -> None:
    found = load(Shape, {"KOINONIA_NAME": "x", "KOINONIA_SIZE": "7"}, env_file=None)
    assert found == Shape(name="x", size=7)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "KOINONIA_NAME is not set"),
        ({"KOINONIA_NAME": ""}, "KOINONIA_NAME is not set"),
        ({"KOINONIA_NAME": "x", "KOINONIA_SIZE": "many"}, "KOINONIA_SIZE: expected `int`, got `str`"),
        ({"KOINONIA_NAME": "x", "KOINONIA_KIND": "three"}, "KOINONIA_KIND: invalid enum value 'three'"),
        ({"KOINONIA_NAME_FILE": "/nowhere"}, "KOINONIA_NAME_FILE: /nowhere cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(Shape, environ, env_file=None)
    assert str(raised.value) == message


def test_a_setting_can_be_read_from_a_file_and_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden\n")
    env_file = tmp_path / ".env"
    env_file.write_text("# ours\nexport KOINONIA_SIZE=5\nKOINONIA_KIND='two'\n\n")
    environ = {"KOINONIA_NAME_FILE": str(tmp_path / "secret"), "KOINONIA_SIZE": "6"}
    assert load(Shape, environ, env_file) == Shape(name="hidden", size=6, kind="two")


def test_a_broken_env_file_names_its_line(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("KOINONIA_NAME=x\nrubbish\n")
    with pytest.raises(SettingsError, match="line 2: expected NAME=value"):
        load(Shape, {}, env_file)


class _Postgres(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    "state", ["40001", "40P01", "57P03", "53300", "53100", "53200", "57014", "58030", "25006", "08006", "08003"]
)
def test_what_may_pass_by_itself_is_transient(state: str) -> None:
    assert is_transient(_Postgres(state))
    assert is_transient(ConnectionResetError())
    assert is_transient(TimeoutError())
    assert is_transient(DependencyUnavailable())


@pytest.mark.parametrize("state", ["23505", "42501", "22P02"])
def test_what_will_fail_again_is_not(state: str) -> None:
    assert not is_transient(_Postgres(state))
    assert not is_transient(ValueError())
    assert not is_transient(NotFound())
    assert not is_transient(asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"))


def test_a_connection_lost_under_us_is_transient() -> None:
    assert is_transient(asyncpg.InterfaceError("connection is closed"))


def test_an_error_says_its_docstring_and_its_field() -> None:
    assert str(NotFound()) == "There is no such thing here."
    error = ValidationFailed.field("phone", "is no phone number")
    assert [(each.field, each.message) for each in error.details] == [("phone", "is no phone number")]


def test_ids_are_plain_uuids() -> None:
    assert type(new_id()) is UUID


SAFE = ServiceSettings(
    database_url="postgresql://billing:secret@db.example/koinonia?sslmode=verify-full",
    amqp_url="amqps://billing:secret@mq.example/",
    redis_url="rediss://cache.example",
    encryption_keys="2026:c2VjcmV0",
    token_keys="2026:c2VjcmV0",
    blind_index_key="c2VjcmV0",
    environment="production",
)


def test_production_takes_encrypted_servers_and_keys_of_its_own() -> None:
    refuse_unsafe(SAFE)
    assert "secret" not in repr(SAFE)
    assert "c2VjcmV0" not in repr(SAFE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "postgresql://billing@db.example/koinonia?sslmode=require"),
        ("amqp_url", "amqp://mq.example/"),
        ("redis_url", "redis://cache.example"),
        ("database_url", "postgresql://billing@db.example/koinonia?application_name=sslmode=verify-full"),
        ("database_url", "postgresql://billing:sslmode=verify-full@db.example/koinonia"),
        ("database_url", "postgresql://billing@db.example/koinonia?sslmode=verify-full&sslmode=disable"),
        ("database_url", "postgresql://billing@db.example/koinonia?sslmode=verify-ca"),
        ("database_direct_url", "postgresql://billing@db.example/koinonia"),
        ("amqp_url", "amqps://mq.example/?no_verify_ssl=1"),
        ("amqp_url", "amqp://amqps:@mq.example/"),
        ("redis_url", "rediss://cache.example?ssl_cert_reqs=none"),
        ("redis_url", "rediss://cache.example?ssl_cert_reqs=optional"),
        ("redis_url", "rediss://cache.example?ssl_check_hostname=false"),
        ("redis_url", "rediss://cache.example?ssl_check_hostname=no"),
        ("encryption_keys", "2026:c2VjcmV0,development-1:c2VjcmV0"),
        ("token_keys", "development-1:c2VjcmV0"),
    ],
)
def test_production_refuses_the_rest_by_name(name: str, value: str) -> None:
    unsafe = msgspec.structs.replace(SAFE, **{name: value})
    with pytest.raises(SettingsError, match=f"KOINONIA_{name.upper()}: "):
        refuse_unsafe(unsafe)
    refuse_unsafe(msgspec.structs.replace(unsafe, environment="development"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_direct_url", "postgresql://db.example/koinonia?sslmode=verify-full&sslrootcert=/etc/ca.pem"),
        ("amqp_url", "amqps://mq.example/?cafile=/etc/ca.pem&no_verify_ssl=0"),
        ("redis_url", "rediss://cache.example?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=True&ssl_cert_reqs=required"),
    ],
)
def test_production_takes_authorities_of_its_own(name: str, value: str) -> None:
    refuse_unsafe(msgspec.structs.replace(SAFE, **{name: value}))


@pytest.mark.parametrize(
    ("name", "url", "parameter"),
    [
        ("database_url", "postgresql://x:secret@db.example/koinonia?sslmode=verify-full", "sslrootcert"),
        ("amqp_url", "amqps://x:secret@mq.example/?heartbeat=5", "cafile"),
        ("redis_url", "rediss://:secret@cache.example?db=1", "ssl_ca_certs"),
    ],
)
def test_authorities_that_cannot_be_read_are_told_at_the_start(
    tmp_path: Path, name: str, url: str, parameter: str
) -> None:
    file = tmp_path / "ca.pem"
    settings = msgspec.structs.replace(SAFE, **{name: f"{url}&{parameter}={file}"})
    with pytest.raises(SettingsError, match=f"^KOINONIA_{name.upper()}: {parameter}: {file} cannot be read: No such"):
        refuse_missing_files(settings)
    file.write_text("no certificate")
    with pytest.raises(SettingsError, match="holds no certificates") as raised:
        refuse_missing_files(settings)
    assert "secret" not in str(raised.value)
    refuse_missing_files(msgspec.structs.replace(settings, **{name: f"{url}&{parameter}={certificate(tmp_path)}"}))


def test_an_address_of_another_kind_of_server_is_refused_without_showing_it() -> None:
    environ = {f"KOINONIA_{name.upper()}": str(getattr(SAFE, name)) for name in SAFE.__struct_fields__[:6]}
    assert load(ServiceSettings, environ, env_file=None).amqp_url == SAFE.amqp_url
    with pytest.raises(SettingsError) as raised:
        load(ServiceSettings, {**environ, "KOINONIA_AMQP_URL": SAFE.redis_url}, env_file=None)
    assert str(raised.value) == "KOINONIA_AMQP_URL: is no address of that kind of server; .env.example shows one"
