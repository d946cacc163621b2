"""The simulated carrier as a program of its own."""

import asyncio
import base64
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from koinonia.carrier.webhooks import Signer

SEED = bytes(range(32))


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "koinonia.carrier.simulated",
        *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await start(*arguments, **environment)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("ready http://127.0.0.1:"), line
        yield process, line.split()[1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_says_ready_serves_as_it_is_set_and_ends_on_sigterm() -> None:
    seed = base64.b64encode(SEED).decode()
    arguments = ("--port", "0", "--number", "+12055550100", "--no-idempotency", "--rate", "12.5")
    fault = '{"kind": "rate_limited", "next": 1}'
    async with running(
        *arguments, "--fault", fault, KOINONIA_SIMULATOR_SIGNING_SEED=seed, KOINONIA_SIMULATOR_API_KEY="KEY"
    ) as (process, url):
        async with aiohttp.ClientSession(url) as http:
            async with http.get("/simulator") as answer:
                overview = await answer.json()
            statuses = []
            for key in ("KEY", "KEY", "OTHER"):
                body = {"from": "+12055550100", "to": "+12055550111", "text": "hi"}
                async with http.post("/v2/messages", json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
                    statuses.append(answer.status)
        assert overview["public_key"] == Signer(SEED).public_key
        assert (overview["settings"]["rate"], overview["settings"]["idempotency"]) == (12.5, False)
        assert statuses == [429, 200, 401]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "fast"),
        ("--number", "12"),
        ("--signing-seed", "short"),
        ("--fault", '{"kind": "earthquake"}'),
        ("--port", "99999"),
        ("--colour", "red"),
        ("stray",),
    ],
)
async def test_a_bad_argument_is_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    process = await start(*arguments)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith("Error: ")
    assert errors.decode().count("\n") == 1


async def test_a_port_in_use_is_one_line_and_exit_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start("--port", str(taken.getsockname()[1]))
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert "cannot listen" in errors.decode()
    assert errors.decode().count("\n") == 1


async def test_a_carrier_started_again_knows_its_numbers_profiles_and_opt_outs(tmp_path: Path) -> None:
    account = str(tmp_path / "account.json")
    arguments = ("--port", "0", "--account-file", account, "--webhook-url", "http://127.0.0.1:1/")
    sold = []
    for _ in range(2):
        async with running(*arguments) as (process, url):
            async with aiohttp.ClientSession(url, headers={"Authorization": "Bearer KEY"}) as http:
                sold.append(await _order_number(http))
                stop = {"from": "+12055550111", "to": sold[0], "text": "STOP"}
                async with http.post("/simulator/inbound", json=stop) as answer:
                    assert answer.status < 300
            process.kill()
    async with running(*arguments) as (_, url), aiohttp.ClientSession(url) as http:
        async with http.get("/simulator/numbers") as answer:
            numbers = [each["phone_number"] for each in (await answer.json())["numbers"]]
        async with http.get("/v2/messaging_optouts", headers={"Authorization": "Bearer KEY"}) as answer:
            opt_outs = (await answer.json())["data"]
    assert sorted(numbers) == sorted(sold)
    assert len(set(sold)) == 2
    assert len(opt_outs) == 1


async def _order_number(http: aiohttp.ClientSession) -> str:
    async with http.post("/v2/messaging_profiles", json={"name": "church", "whitelisted_destinations": ["US"]}) as made:
        profile = (await made.json())["data"]["id"]
    search = {"filter[country_code]": "US", "filter[limit]": "1"}
    async with http.get("/v2/available_phone_numbers", params=search) as found:
        phone = (await found.json())["data"][0]["phone_number"]
    order = {"phone_numbers": [{"phone_number": phone}], "messaging_profile_id": profile}
    async with http.post("/v2/number_orders", json=order) as ordered:
        assert ordered.status == 200
    return str(phone)


async def test_an_account_file_that_is_none_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "account.json").write_text("rubbish")
    process = await start("--port", "0", "--account-file", str(tmp_path / "account.json"))
    _, error = await process.communicate()
    assert process.returncode == 2
    assert error.decode().count("\n") == 1
    assert "holds no account" in error.decode()
