"""How the simulated carrier behaves; all but what a start needs can be changed while it runs."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Rate = Annotated[float, msgspec.Meta(gt=0)]


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What ``PATCH /simulator/settings`` changes."""

    idempotency: bool = True  # whether Idempotency-Key is honoured; without, every request is a text of its own
    autoresponses: bool = True  # whether the carrier itself answers and blocks on STOP; without, it only reports texts
    rate: Literal["none", "real"] | Rate = "none"  # segments a second of each number
    latency_seconds: Seconds = 0.0  # before each answer to POST /v2/messages
    receipt_seconds: Seconds = 0.0  # from acceptance to the first receipt
    webhook_timeout_seconds: Seconds = 2.0
    webhook_backoff_seconds: Seconds = 1.0  # before the second attempt; doubles


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """What it starts with."""

    api_key: str | None = None  # None: any bearer token is good
    signing_seed: bytes | None = None  # 32 bytes of the ed25519 key; None: a key of chance
    webhook_url: str | None = None  # of the profile that is there from the start
    webhook_failover_url: str | None = None
    numbers: tuple[str, ...] = ()  # on that profile
    webhook_concurrency: int = 64
    account_file: Path | None = None  # keeps profiles, numbers, orders and opt-outs from one start to the next
    seed: int | None = None  # of the chance by which faults strike
    behaviour: Behaviour = msgspec.field(default_factory=Behaviour)
