"""Settings: typed, from the environment and an ``.env`` file, with one clear line for what is wrong.

A field's environment variable is ``KOINONIA_`` and its name in capitals; ``NAME_FILE`` reads the value from a file
(a secret's mount); a field of type ``Secret`` reads it again when it changes. The environment wins over the ``.env``
file.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec

from koinonia import tls
from koinonia.secret import Secret, check_line, read_file

PREFIX = "KOINONIA_"
DEVELOPMENT_KEY = "development-"
"""How the ids of keys begin that `koinonia up` makes for itself."""

S = TypeVar("S", bound=msgspec.Struct)

Positive = Annotated[float, msgspec.Meta(gt=0)]
DatabaseUrl = Annotated[str, msgspec.Meta(pattern=r"^postgres(ql)?://\S+$")]
AmqpUrl = Annotated[str, msgspec.Meta(pattern=r"^amqps?://\S+$")]
RedisUrl = Annotated[str, msgspec.Meta(pattern=r"^rediss?://\S+$")]
Count = Annotated[int, msgspec.Meta(ge=1)]


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it, and never shows a secret."""


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every process of the platform is told. A service adds its own by subclassing."""

    database_url: DatabaseUrl
    amqp_url: AmqpUrl
    redis_url: RedisUrl
    encryption_keys: str  # id:base64,… newest first; 32 bytes each
    token_keys: str  # likewise
    blind_index_key: str  # base64, 32 bytes

    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"  # where it listens
    port: int = 0  # 0: any free one
    database_direct_url: DatabaseUrl | None = None  # past a pooler: LISTEN, migrations
    database_pool_size: Count = 10
    database_acquire_timeout: Positive = 2.0  # seconds
    database_statement_timeout: Positive = 10.0  # seconds
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_seconds: Positive = 20.0  # how long what was begun may take after a SIGTERM
    require_mfa: bool = False  # the second factor, of every person on the platform

    def __repr__(self) -> str:
        """The names of the settings alone: some values are secrets."""
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


def load(shape: type[S], environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")) -> S:
    """Read the settings that ``shape`` names.

    Raises:
        SettingsError: one is missing, malformed, or its file cannot be read.
    """
    known = environment(environ, env_file)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(shape):
        name = variable(field.name)
        value = _value(name, known)
        if value is not None:
            values[field.name] = value
        elif field.required:
            raise SettingsError(f"{name} is not set")
    for field in msgspec.structs.fields(shape):
        if field.name in values:
            name, value = variable(field.name), values[field.name]
            is_secret = Secret in (field.type, *get_args(field.type))
            values[field.name] = _secret(name, value, known) if is_secret else _convert(name, value, field.type)
    return msgspec.convert(values, shape)


def environment(environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")) -> dict[str, str]:
    """The environment, and below it what an ``.env`` file says.

    Raises:
        SettingsError: a line of the file cannot be read.
    """
    return {**(_read_env_file(env_file) if env_file else {}), **(os.environ if environ is None else environ)}


def variable(field_name: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field_name.upper()


def _value(name: str, known: Mapping[str, str]) -> str | None:
    path = known.get(f"{name}_FILE")
    if path:
        try:
            return read_file(Path(path))
        except OSError as error:
            raise SettingsError(f"{name}_FILE: {path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise SettingsError(f"{name}_FILE: {path} holds no text") from None
    return known.get(name) or None


def _secret(name: str, value: str, known: Mapping[str, str]) -> Secret:
    path = known.get(f"{name}_FILE")
    try:
        check_line(value)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None
    return Secret(value, setting=name, file=Path(path) if path else None)


def _convert(name: str, value: str, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as error:
        # msgspec names the expected type and the rule, not the value.
        if "matching regex" in str(error):
            raise SettingsError(f"{name}: is no address of that kind of server; .env.example shows one") from None
        raise SettingsError(f"{name}: {str(error)[0].lower()}{str(error)[1:]}") from None


ENCRYPTED = {
    "database_url": "sslmode=verify-full",
    "database_direct_url": "sslmode=verify-full",
    "amqp_url": "amqps://",
    "redis_url": "rediss://",
}
"""What the addresses of servers must hold in production."""


def refuse_unsafe(settings: ServiceSettings) -> None:
    """Refuse what must not run, before anything does.

    Raises:
        SettingsError: development keys or an unencrypted server in production.
    """
    if settings.environment != "production":
        return
    for name in ("encryption_keys", "token_keys"):
        if any(part.startswith(DEVELOPMENT_KEY) for part in getattr(settings, name).split(",")):
            raise SettingsError(f"{variable(name)}: a development key must not be used in production")
    for name in ENCRYPTED:
        refuse_open(name, getattr(settings, name))


def refuse_open(name: str, url: str | None) -> None:
    """Refuse the address of a server that is reached in the clear, or whose certificate nobody checks.

    Raises:
        SettingsError: it is such an address; the field is named.
    """
    if url is not None and not tls.is_encrypted(url):
        safe = ENCRYPTED.get(name, "https://")
        rule = "in production the server must be reached by TLS, and its certificate be checked"
        raise SettingsError(f"{variable(name)}: {rule} ({safe})")


def refuse_missing_files(settings: msgspec.Struct) -> None:
    """Refuse the address of a server that names a file of certificates which cannot be used.

    Raises:
        SettingsError: there is such an address; field and file are named.
    """
    for name in ENCRYPTED:
        url = getattr(settings, name)
        if url is not None and (wrong := tls.fault(url)) is not None:
            raise SettingsError(f"{variable(name)}: {wrong}")


def _read_env_file(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        if not equals or not name.strip().isidentifier():
            raise SettingsError(f"{path}, line {number}: expected NAME=value")
        found[name.strip()] = value.strip().strip("\"'")
    return found
