"""What an operator sees of sending: a table, JSON, and the metrics of the processes that do it."""

import json
import re

import aiohttp

from koinonia import clock

from .church import Church
from .containers import ContainerPlatform


async def test_the_status_of_sending_is_a_table_and_json(church: Church) -> None:
    people = [person.phone for person in await church.add(3)]
    await church.platform.carrier.order("rate_limited", people, next=3, seconds=120)
    sent = await church.send("Not so fast.")
    await church.refused_for_now(sent, people[0])
    code, said = await church.platform.command("delivery", "status", "--json")
    assert code == 0, said
    status = json.loads(said.splitlines()[-1])  # a slow statement may have been logged before
    assert [queue["name"] for queue in status["queues"]] == [
        "transactional", "broadcast", "unknown", "overdue", "parked",
    ]  # fmt: skip
    (number,) = [each for each in status["numbers"] if each["phone"] == church.number]
    assert (number["state"], number["churchId"], number["code"]) == ("resting", str(church.id), "10011")
    assert 0 < number["restsSeconds"] <= 120
    assert "tried again" in number["reason"]
    broadcast = status["queues"][1]
    assert broadcast["depth"] >= 1
    assert status["isFresh"] is True
    assert len(status["workers"]) == 2
    if not isinstance(church.platform, ContainerPlatform):  # their metrics are on a network of their own
        assert [(each["breaker"], each["accountPausedSeconds"]) for each in status["workers"]] == [("closed", None)] * 2
    assert status["partitionsEnd"] > clock.now().isoformat()
    code, said = await church.platform.command("delivery", "status")
    assert code == 0, said
    for word in ("transactional", "broadcast", church.number, "resting", "delivery-worker-", "opt-outs", "partitions"):
        assert word in said
    await church.client.messages.cancel(sent.id)


async def test_each_figure_is_shown_at_metrics(church: Church) -> None:
    await church.add(3)
    sent = await church.send("Count this.")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    processes = church.platform.state.read_processes()
    wanted = {
        "delivery": [
            *(("koinonia_delivery_depth", f'class="{name}"') for name in ("transactional", "broadcast", "unknown")),
            *(("koinonia_delivery_oldest_seconds", f'class="{name}"') for name in ("overdue", "parked")),
            ("koinonia_receipt_lag_seconds_bucket", 'le="0.25"'),
        ],
        "delivery-worker": [
            ("koinonia_claims_total", 'result="taken"'),
            ("koinonia_claims_total", 'result="empty"'),
            ("koinonia_claimed_total", ""),
            ("koinonia_claim_seconds_bucket", 'le="0.005"'),  # of whole seconds nothing could be read
            ("koinonia_sends_total", 'outcome="accepted"'),
            ("koinonia_breaker_state", 'breaker="carrier"'),
        ],
    }
    for kind, names in wanted.items():
        urls = [each.url for name, each in processes.items() if re.sub(r"-\d+$", "", name) == kind]
        lines = "\n".join([await metrics(url) for url in urls]).splitlines()
        missing = [each for each in names if not any(line.startswith(each[0]) and each[1] in line for line in lines)]
        assert missing == [], kind


async def metrics(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        return await answer.text()
