"""The gateway's figures as text."""

from collections.abc import Iterator

from bench.figures import Spread
from bench.gateway.figures import GATEWAY, HOP, GatewayResults, Round, RouteFigures
from bench.report import heading, row, told

WAYS = (GATEWAY, HOP)


def route(figures: RouteFigures) -> Iterator[str]:
    """One route, both ways."""
    yield from heading(f"{figures.name}: the gateway and a bare aiohttp hop")
    for way in WAYS:
        yield row(f"{way}, requests per second", told(figures.spread(way, lambda each: each.rate), "{:,.0f}"))
        yield row("  p50, p95, p99", _latencies(figures, way))
        if any(each.refused for each in figures.rounds[way]):
            yield row("  refused as too many", told(figures.spread(way, lambda each: each.refused), "{:,.0f}"))
    yield row("ratio", told(figures.ratios, "{:.2f}"))
    yield "CPU in us per request:"
    for way in WAYS:
        for name in figures.rounds[way][0].cpu_us:
            spread = figures.spread(way, lambda each, name=name: each.cpu_us[name])  # type: ignore[misc]
            yield row(f"  {name}" if name == way else f"    {name}", told(spread, "{:,.0f}"))
    paced = figures.paced
    asked = f"{paced.rate:,.0f} per second" + (
        "" if paced.rate == paced.wanted_rate else f", half of the hop's (aim: {paced.wanted_rate:,.0f})"
    )
    yield f"at {asked}; aim: p95 under {paced.wanted_p95_ms:g} ms:"
    for way in WAYS:
        yield row(f"  {way}, p50, p95, p99", _times(paced.rounds[way]))


def health(results: GatewayResults) -> Iterator[str]:
    """What it answers of itself."""
    yield from heading("health of the gateway, p50, p95, p99")
    yield row("/health; aim: p95 under 10 ms", _times(results.health))
    yield row("/health/detailed; under 500 ms", _times(results.detailed_health))


def _latencies(figures: RouteFigures, way: str) -> str:
    spreads: list[Spread] = [
        figures.spread(way, lambda each: each.p50_ms),
        figures.spread(way, lambda each: each.p95_ms),
        figures.spread(way, lambda each: each.p99_ms),
    ]
    return ", ".join(f"{spread.median:.1f}" for spread in spreads) + " ms"


def _times(one: Round) -> str:
    busy = f"; {one.refused} of {one.count} refused as too many" if one.refused else ""
    return f"{one.p50_ms:.1f}, {one.p95_ms:.1f}, {one.p99_ms:.1f} ms{busy}"
