"""A process's life, seen from outside: it starts, drains, and ends when anything in it fails."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process

import pytest

PROGRAM = """
import asyncio, sys
from koinonia import life, telemetry

telemetry.configure("test")

async def fail():
    raise ValueError("call +12055550100 now")

async def leave():
    pass

async def be_cancelled():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

async def work(process):
    await process.stopping.wait()
    print("drained", flush=True)

async def main(process):
    process.spawn("worker", work(process))
    if sys.argv[1] == "failing":
        process.spawn("failing", fail())
    if sys.argv[1] == "leaving":
        process.spawn("leaving", leave())
    if sys.argv[1] == "cancelled":
        process.spawn("cancelled", be_cancelled())
    if sys.argv[1] == "once":
        process.spawn("once", leave(), once=True)
    if sys.argv[1] == "main cancelled":
        await be_cancelled()
    process.ready()
    print(process.not_ready, flush=True)
    await process.stopping.wait()
    await process.finish(5)
    print(process.not_ready, flush=True)

sys.exit(life.run(main))
"""


async def start(kind: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, kind, stdout=PIPE, stderr=PIPE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_process(number: signal.Signals) -> None:
    process = await start("well")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"None\n"
    process.send_signal(number)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (0, b"drained\ndraining\n")


async def test_an_unhandled_error_in_a_task_ends_the_process_with_its_trace_redacted() -> None:
    process = await start("failing")
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert out.endswith(b"draining\n")
    assert b"task_failed" in err
    assert b"ValueError" in err
    assert b"2055550100" not in err


@pytest.mark.parametrize("kind", ["leaving", "cancelled"])
async def test_a_process_does_not_run_on_without_one_of_its_parts(kind: str) -> None:
    process = await start(kind)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"task_ended" in err


async def test_what_is_to_run_once_may_end() -> None:
    process = await start("once")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"None\n"
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0


async def test_a_process_whose_main_work_is_cancelled_has_failed() -> None:
    process = await start("main cancelled")
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"process_cancelled" in err
