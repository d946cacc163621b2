"""What a run of the benchmark comes to."""

from collections.abc import Sequence

import msgspec

from bench.figures import Comparison
from bench.gateway.figures import GatewayResults


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    main: Sequence[Comparison]
    usual: Sequence[Comparison]
    accept_people: int
    accept_seconds: float
    gateway: GatewayResults | None
