"""The gateway's figures and how they are condensed; no I/O."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from bench.figures import Spread

GATEWAY = "gateway"
HOP = "hop"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to one route, one way. CPU is in microseconds per request, by process; `load` is what asked."""

    way: str
    count: int
    refused: int  # of these, by who was too busy
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Requests per second that were answered."""
        return (self.count - self.refused) / self.seconds


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were due at a rate, both ways, and what is aimed at."""

    rate: float
    wanted_rate: float
    wanted_p95_ms: float
    rounds: Mapping[str, Round]


class RouteFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One route: as fast as it goes, turn about, and then at a rate."""

    name: str
    rounds: Mapping[str, Sequence[Round]]  # by way, as many of each
    paced: Paced

    @property
    def ratios(self) -> Spread:
        """The gateway's requests per second to the hop's, of those that took turns."""
        pairs = zip(self.rounds[GATEWAY], self.rounds[HOP], strict=True)
        return Spread.of([gateway.rate / hop.rate for gateway, hop in pairs])

    def spread(self, way: str, of: Callable[[Round], float]) -> Spread:
        """One figure of all rounds of a way."""
        return Spread.of([of(each) for each in self.rounds[way]])


class GatewayResults(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured of the gateway."""

    routes: Sequence[RouteFigures]
    health: Round
    detailed_health: Round


def rate_to_ask(wanted: float, hop_rate: float) -> float:
    """What is aimed at, or half of what the bare hop sustains where that is less: more is not the gateway's to give."""
    return min(wanted, hop_rate / 2)
