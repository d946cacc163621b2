"""How a running ``koinonia up`` is asked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from koinonia.cli import control
from koinonia.cli.main import CommandFailed
from koinonia.settings import SettingsError


async def heard(path: Path, request: str = "reload") -> list[str]:
    return [told async for told in control.ask(path, request)]


async def two_things() -> AsyncIterator[str]:
    yield "one"
    yield "two"


async def test_what_is_told_is_heard_in_order_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 50) / "control"  # longer than the address of a socket may be
    path.parent.mkdir()
    async with control.answering(path, {"reload": two_things}):
        assert await heard(path) == ["one", "two"]
        assert await heard(path) == ["one", "two"]
    assert not path.exists()


async def test_a_failure_is_its_line(tmp_path: Path) -> None:
    async def fails() -> AsyncIterator[str]:
        yield "one"
        raise SettingsError("KOINONIA_NOTES is not set")

    async with control.answering(tmp_path / "control", {"reload": fails}):
        with pytest.raises(CommandFailed, match=r"^KOINONIA_NOTES is not set$"):
            await heard(tmp_path / "control")
        with pytest.raises(CommandFailed, match="does not know 'other'"):
            await heard(tmp_path / "control", "other")


async def test_where_none_runs_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"^no `koinonia up` runs on .*, or it is not ready yet$"):
        await heard(tmp_path / "control")
    with pytest.raises(CommandFailed, match=r"^no `koinonia up` runs on"):
        await heard(tmp_path / "nowhere" / "control")


async def test_one_at_a_time_and_the_end_of_the_one_that_is_asked_is_noticed(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def for_ever() -> AsyncIterator[str]:
        begun.set()
        await asyncio.Event().wait()
        yield "never"

    path = tmp_path / "control"
    async with control.answering(path, {"reload": for_ever}):
        first = asyncio.create_task(heard(path))
        await begun.wait()
        with pytest.raises(CommandFailed, match="another command is under way"):
            await heard(path)
    with pytest.raises(CommandFailed, match=r"was stopped before it was done$"):
        await first


async def test_what_a_killed_one_left_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.touch()
    async with control.answering(path, {"reload": two_things}):
        assert await heard(path) == ["one", "two"]
