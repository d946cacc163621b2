"""What the operator's commands are told, and what each process is told in turn."""

import os
from collections.abc import Mapping
from typing import Literal

import msgspec
from yarl import URL

from koinonia import settings
from koinonia.db.roles import SERVICES
from koinonia.settings import AmqpUrl, Count, DatabaseUrl, RedisUrl

# What only an administrator may know, or what is each process's own.
_NOT_HANDED_ON = {
    "KOINONIA_DATABASE_URL",
    "KOINONIA_DATABASE_DIRECT_URL",
    "KOINONIA_DATABASE_REPLICA_URL",
    "KOINONIA_AMQP_URL",
    "KOINONIA_AMQP_MANAGEMENT_URL",
    "KOINONIA_REDIS_URL",
    "KOINONIA_PORT",
    "KOINONIA_OPS_PORT",
    *(f"KOINONIA_{service.upper()}_PASSWORD" for service in SERVICES),
}


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of ``up``, ``migrate``, ``doctor``…: an administrator's. A service reads its own."""

    servers: Literal["auto", "native", "docker"] = "auto"
    database_url: DatabaseUrl | None = None
    database_direct_url: DatabaseUrl | None = None
    amqp_url: AmqpUrl | None = None
    amqp_management_url: str | None = None
    redis_url: RedisUrl | None = None
    environment: Literal["development", "production"] = "development"
    public_url: str | None = None
    host: str = "127.0.0.1"
    database_pool_size: Count = 10
    encryption_keys: str | None = None
    token_keys: str | None = None
    blind_index_key: str | None = None
    telnyx_api_url: str | None = None
    telnyx_api_key: str | None = None
    telnyx_public_key: str | None = None
    # of each service's database role and broker user
    gateway_password: str | None = None
    messaging_password: str | None = None
    delivery_password: str | None = None
    conversation_password: str | None = None
    billing_password: str | None = None
    compliance_password: str | None = None

    def environ(self) -> dict[str, str]:
        """The settings that are set, by their variables."""
        named = ((settings.variable(name), value) for name, value in msgspec.structs.asdict(self).items())
        return {name: str(value) for name, value in named if value is not None}

    def passwords(self) -> dict[str, str]:
        """The passwords that are set, by service."""
        found = {service: getattr(self, f"{service}_password") for service in SERVICES}
        return {service: password for service, password in found.items() if password}


def read() -> OperatorSettings:
    """Read the settings of this process's environment and ``.env`` file.

    Raises:
        SettingsError: one is malformed.
    """
    return settings.load(OperatorSettings)


def handed_on(environ: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: ours, without what is not its business, and its ``own``.

    An empty ``NAME_FILE`` keeps a file that names the administrator's secret, here or in ``.env``, from going before.
    """
    names = _NOT_HANDED_ON | own.keys()
    kept = {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in names}
    hidden = dict.fromkeys(_NOT_HANDED_ON, "")
    return kept | hidden | {f"{name}_FILE": "" for name in names if name.startswith("KOINONIA_")} | dict(own)


def inherited() -> dict[str, str]:
    """This process's own environment."""
    return dict(os.environ)


def as_user(url: str, user: str, password: str | None) -> str:
    """The same server and database or virtual host, as somebody else."""
    return str(URL(url).with_user(user).with_password(password))
