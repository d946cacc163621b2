"""The figures as text."""

from collections.abc import Iterator, Mapping, Sequence

from bench.figures import CARRIER, Comparison, PlatformRun, Run, Spread, ratios


def line_of(run: Run) -> str:
    """How one run went, in a line."""
    at = f"{run.latency_seconds * 1000:g} ms"
    own, carrier = run.own_cpu_us, run.cpu_us[CARRIER]
    line = f"{run.way}: {run.recipients:,} at {at}: {run.rate:,.0f}/s, CPU {own:.0f} us each, the carrier {carrier:.0f}"
    return line + (f"; {run.webhooks_repeated} webhooks not answered in time" if run.webhooks_repeated else "")


def accept(people: int, seconds: float) -> str:
    """How long the answer to a broadcast's request took."""
    return f"POST /api/messages/send to {people:,}: {seconds * 1000:.0f} ms (median of five)"


def main(comparison: Comparison) -> Iterator[str]:
    """The platform and the yardstick."""
    runs = comparison.platform
    yield from heading(f"{runs[0].recipients:,} recipients, the carrier answers in {_latency(comparison)}")
    yield row("recipients per second", _spread([run.rate for run in runs], "{:,.0f}"))
    for way, others in comparison.others.items():
        at_once = f", {others[0].concurrency} at once"
        yield row(f"  {way}{at_once}", _spread([run.rate for run in others], "{:,.0f}"))
        yield row("ratio", told(ratios(runs, others), "{:.2f}"))
        yield row("idle platform meanwhile", f"{comparison.idle_platform:.0%} of a core")
    yield row("accepted after", _spread([run.accept_seconds * 1000 for run in runs], "{:,.0f} ms"))
    yield row("last receipt to stored, p50", _spread([run.stored_p50_ms for run in runs], "{:,.0f} ms"))
    yield row("                        p99", _spread([run.stored_p99_ms for run in runs], "{:,.0f} ms"))
    yield row("             to its 200, p50", _spread([run.answered_p50_ms for run in runs], "{:,.0f} ms"))
    yield row("                        p99", _spread([run.answered_p99_ms for run in runs], "{:,.0f} ms"))
    yield row("webhooks not answered in time", _spread([run.webhooks_repeated for run in runs], "{:,.0f}"))
    yield "per recipient:"
    yield row("  statements", _spread([run.statements for run in runs], "{:.3f}"))
    yield row("  transactions", _spread([run.transactions for run in runs], "{:.3f}"))
    yield row("  messages published", _spread([run.published for run in runs], "{:.3f}"))
    yield row("  messages delivered", _spread([run.delivered for run in runs], "{:.3f}"))
    yield row("  WAL bytes", _spread([run.wal_bytes for run in runs], "{:,.0f}"))
    yield from _cpu("platform", runs)
    for way, others in comparison.others.items():
        yield from _cpu(way, others)
    yield "peak memory, the most of all runs:"
    for name, peak in _peaks(runs).items():
        yield row(f"  {name}", f"{peak / 2**20:,.0f} MiB")


def usual(comparison: Comparison) -> Iterator[str]:
    """The platform and the usual ways."""
    (platform,) = comparison.platform
    yield from heading(f"{platform.recipients:,} in the usual ways, the carrier answers in {_latency(comparison)}")
    yield row("platform, recipients per second", f"{platform.rate:,.0f}")
    for way, (run,) in ((way, others) for way, others in comparison.others.items()):
        processes = f", {run.concurrency} processes" if run.concurrency > 1 else ""
        yield row(f"{way}{processes}", f"{run.rate:,.0f}; the platform is {platform.rate / run.rate:.1f} times that")
    for way, others in (("platform", comparison.platform), *comparison.others.items()):
        yield from _cpu(way, others)


def _cpu(way: str, runs: Sequence[Run]) -> Iterator[str]:
    yield f"{way}, CPU in us per recipient:"
    for name in runs[0].cpu_us:
        if name != CARRIER:
            yield row(f"  {name}", _spread([run.cpu_us.get(name, 0.0) for run in runs], "{:,.0f}"))
    yield row("  together", _spread([run.own_cpu_us for run in runs], "{:,.0f}"))
    yield row("  the carrier's own", _spread([run.cpu_us[CARRIER] for run in runs], "{:,.0f}"))


def _peaks(runs: Sequence[PlatformRun]) -> Mapping[str, int]:
    return {name: max(run.peak_bytes.get(name, 0) for run in runs) for name in runs[0].peak_bytes}


def heading(text: str) -> Iterator[str]:
    """A line of its own, underlined."""
    yield ""
    yield text
    yield "-" * len(text)


def row(name: str, figure: str) -> str:
    """A figure behind its name."""
    return f"{name:<34} {figure}"


def _latency(comparison: Comparison) -> str:
    return f"{comparison.latency_seconds * 1000:g} ms" if comparison.latency_seconds else "no time"


def _spread(values: Sequence[float], style: str) -> str:
    return told(Spread.of(values), style)


def told(spread: Spread, style: str) -> str:
    """The median, and between which values it lies where there are several."""
    middle = style.format(spread.median)
    if spread.least == spread.most:
        return middle
    return f"{middle} [{style.format(spread.least)}..{style.format(spread.most)}]"
