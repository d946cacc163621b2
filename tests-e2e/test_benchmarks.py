"""The benchmark in small: it works, in all its ways, and its figures add up. How fast anything was is not asked."""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from bench.figures import CARRIER, Spread, per_recipient, percentile
from bench.gateway.figures import GATEWAY, HOP, GatewayResults, rate_to_ask
from bench.platform import BenchFailed, Carrier
from bench.results import Results
from bench.work import Work, recipient_of, requests_of, token

from koinonia.carrier.contract import OutboundText, token_of
from koinonia.carrier.simulated import SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.ids import new_id

ROOT = Path(__file__).resolve().parent.parent
PEOPLE = 200
REQUESTS = 40
SERVICES = {"messaging", "delivery", "delivery-worker-1", "conversation", "billing", "compliance", "gateway"}


@pytest.mark.native("reads the CPU time of this machine's own processes")
@pytest.mark.timeout(900)
async def test_two_hundred_go_through_the_platform_and_the_other_ways(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    size = str(PEOPLE)
    command = ["--recipients", size, "--usual", size, "--accept", size, "--rounds", "1", "--latencies", "0"]
    command += ["--gateway", str(REQUESTS)]
    bench = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench", *command, "--output", str(output)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await bench.communicate()
    # It ends well only when the carrier has every text once, and every row and the bill agree with it.
    assert bench.returncode == 0, told.decode()
    assert "recipients per second" in told.decode()

    results = msgspec.json.decode(output.read_bytes(), type=Results)
    (main,), (usual,) = results.main, results.usual
    assert set(main.others) == {"yardstick"}
    assert set(usual.others) == {"Celery", "one by one"}
    others = [run for comparison in (main, usual) for runs in comparison.others.values() for run in runs]
    for run in [*main.platform, *usual.platform, *others]:
        assert run.recipients == PEOPLE
        assert run.seconds > 0
        assert run.cpu_us[CARRIER] > 0
    for run in (*main.platform, *usual.platform):
        assert run.cpu_us.keys() == run.peak_bytes.keys() == SERVICES | {"postgres", "rabbitmq", "redis", CARRIER}
        assert min(run.peak_bytes.values()) > 0
        assert run.stored_p50_ms <= run.stored_p99_ms
        assert run.answered_p50_ms <= run.answered_p99_ms
        assert 0 < run.accept_seconds < run.seconds
        # Two receipts of each, in events of up to a hundred; each written to the log.
        assert run.published >= 2 / 100
        assert run.delivered >= run.published
        assert run.statements > 0
        assert run.wal_bytes > 100
    for run in others:
        assert run.cpu_us["sender"] > 0
        assert run.cpu_us["receiver"] > 0
    assert results.gateway is not None
    _check_gateway(results.gateway)


def _check_gateway(results: GatewayResults) -> None:
    """Every request had its answer both ways, or the benchmark had failed; the figures are of these."""
    names = [route.name for route in results.routes]
    assert len(names) == 4
    assert {"message list", "conversation list", "send"} < set(names)
    for route in results.routes:
        for way in (GATEWAY, HOP):
            (one,) = route.rounds[way]
            paced = route.paced.rounds[way]
            assert one.way == paced.way == way
            assert one.refused < one.count
            assert one.count == (20 if route.name == "send" else REQUESTS)
            assert 1 <= paced.count <= 2 * one.count
            assert set(one.cpu_us) > {way, "postgres", "load"}
            assert 0 < one.p50_ms <= one.p95_ms <= one.p99_ms
            assert paced.seconds >= (paced.count - 1) / route.paced.rate  # none was asked before it was due
        assert route.ratios.median == route.rounds[GATEWAY][0].rate / route.rounds[HOP][0].rate
        assert route.paced.rate <= route.rounds[HOP][0].rate / 2
    assert 0 < results.health.p50_ms <= results.health.p95_ms
    assert 0 < results.detailed_health.p50_ms <= results.detailed_health.p95_ms


async def test_what_did_not_reach_the_carrier_once_is_found_out() -> None:
    async with SimulatedCarrier() as simulated:
        number = simulated.add_number("+12055550100")
        async with TelnyxCarrier(simulated.url, "KEY") as client, aclosing(Carrier(simulated.url)) as carrier:
            first, second = (
                OutboundText(recipient=recipient, sender=number.phone, text="Hello")
                for recipient in ("+13122000000", "+13122000001")
            )
            await client.send(first)
            await client.send(second)
            await carrier.check(2)
            with pytest.raises(BenchFailed, match="was to have 3 texts"):
                await carrier.check(3)
            await client.send(second)
            with pytest.raises(BenchFailed, match="accepted=3, recipients=2"):
                await carrier.check(3)


def test_the_yardsticks_requests_are_the_platforms() -> None:
    work = Work(carrier_url="", api_key="KEY", sender="+1", profile_id="p", webhook_url="http://h/w", people=2)
    (first, headers), (second, _) = requests_of(work)
    assert first != second
    assert len(first) == len(second)
    assert headers["Authorization"] == "Bearer KEY"
    body = msgspec.json.decode(first)
    assert set(body) == {"from", "to", "text", "messaging_profile_id", "webhook_url"}
    assert recipient_of(token_of(body["webhook_url"]) or "") is not None


def test_a_token_holds_its_recipient() -> None:
    recipient_id = new_id()
    assert recipient_of(token(recipient_id)) == recipient_id


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 1.0) == 100.0
    assert percentile([7.0], 0.99) == 7.0


def test_cpu_is_what_was_spent_between_two_looks() -> None:
    assert per_recipient({"a": 1.0}, {"a": 1.5, "b": 0.25}, 1000) == {"a": 500.0, "b": 250.0}


def test_a_spread_is_the_median_and_what_it_lies_between() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_no_more_is_asked_than_half_of_what_the_bare_hop_sustains() -> None:
    assert rate_to_ask(2000, 10_000) == 2000
    assert rate_to_ask(2000, 900) == 450
