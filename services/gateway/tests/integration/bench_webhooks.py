"""What a receipt costs the gateway in CPU time, the short way and the long one, turn about.

`python scripts/bench_http.py door` runs it: the real gateway with a real broker, database and Redis, and a process that
posts signed receipts over kept connections. It is no test and is collected by its name alone.
"""

import asyncio
import os
import resource
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from koinonia import telemetry
from koinonia.carrier.contract import with_token
from koinonia.carrier.webhooks import Signer
from koinonia.ids import new_id
from koinonia.security import Keys, receipt_token
from koinonia.testing.services import BusProbe

from .conftest import Service

POSTER = Path(__file__).resolve().parents[4] / "scripts" / "bench_http.py"
COUNT = int(os.environ.get("COUNT", "3000"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
PATH = "/api/webhooks/telnyx/status"
AT = "2026-11-20T18:30:00.148+00:00"


@pytest.fixture(autouse=True)
def as_in_a_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Metrics that are kept and logs that are JSON, as a service's are."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", nowhere)
        telemetry.configure("gateway")
        yield


def receipt(keys: Keys) -> bytes:
    """A receipt with all that the carrier writes into one."""
    trace = f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"
    url = with_token(f"http://127.0.0.1:8080{PATH}", receipt_token(keys, new_id()), trace)
    person = {"carrier": "", "line_type": ""}
    payload = {
        "record_type": "message",
        "direction": "outbound",
        "id": str(new_id()),
        "type": "SMS",
        "messaging_profile_id": str(new_id()),
        "from": {"phone_number": "+12055550100", **person},
        "to": [{"phone_number": "+13125550142", "status": "delivered", **person}],
        "text": "Sunday at 10: bring a friend, stay for lunch",
        "media": [],
        "webhook_url": url,
        "webhook_failover_url": None,
        "encoding": "GSM-7",
        "parts": 1,
        "tags": [],
        "cost": {"amount": "0.0040", "currency": "USD"},
        **dict.fromkeys(("received_at", "sent_at", "completed_at", "valid_until"), AT),
        "errors": [],
    }
    kind = {"record_type": "event", "event_type": "message.finalized", "id": str(new_id()), "occurred_at": AT}
    return msgspec.json.encode({"data": {**kind, "payload": payload}, "meta": {"attempt": 1, "delivered_to": url}})


async def post_all(gateway: Service, carrier: Signer, keys: Keys) -> dict[str, float]:
    """One round: the CPU time of this process, in which the gateway runs, while another one posts."""
    made = [(body.decode(), carrier.headers(body)) for body in (receipt(keys) for _ in range(COUNT))]
    given = msgspec.json.encode(made)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(POSTER), "hooks", gateway.url + PATH, "64"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    before = resource.getrusage(resource.RUSAGE_SELF)
    told, _ = await child.communicate(given)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found: dict[str, float] = msgspec.json.decode(told)
    assert found["refused"] == 0
    return {**found, "microseconds": used / COUNT * 1e6}


@pytest.mark.timeout(900)
async def test_the_short_way_costs_less(
    gateway: Service, carrier: Signer, keys: Keys, bus: BusProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: dict[str, list[dict[str, float]]] = {"long": [], "short": []}
    await post_all(gateway, carrier, keys)
    for _ in range(ROUNDS):
        for way, measured in rows.items():
            with monkeypatch.context() as patch:
                if way == "long":  # where spans go nowhere, all that it does more is in vain
                    patch.setattr(telemetry, "is_tracing", lambda: True)
                measured.append(await post_all(gateway, carrier, keys))
    for way, measured in rows.items():
        costs = sorted(row["microseconds"] for row in measured)
        sys.stdout.write(
            f"  {way:6} {statistics.median(costs):6.1f} us of CPU per webhook [{costs[0]:.1f}..{costs[-1]:.1f}]"
            f" {statistics.median(row['per_second'] for row in measured):7,.0f}/s"
            f"  p99 {statistics.median(row['p99_milliseconds'] for row in measured):.0f} ms\n"
        )
    assert statistics.median(row["microseconds"] for row in rows["short"]) < statistics.median(
        row["microseconds"] for row in rows["long"]
    )
