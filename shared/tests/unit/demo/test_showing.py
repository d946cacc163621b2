"""What the demo prints: progress in lines or as a bar, and the table with its marks."""

import io
from collections.abc import AsyncIterator

import msgspec
import pytest
from rich.console import Console

from koinonia.api.messages import MessageCounts, MessageProgress
from koinonia.demo import progress, report
from koinonia.demo.figures import Section, exact
from koinonia.demo.waiting import DemoFailed, until


def states() -> list[MessageProgress]:
    first = msgspec.structs.replace(
        MessageProgress.example(), total_recipients=4, counts=MessageCounts(), status="accepted"
    )
    return [
        first,
        msgspec.structs.replace(first, status="sending", counts=MessageCounts(queued=1, sent=1, delivered=2)),
        msgspec.structs.replace(first, status="completed", counts=MessageCounts(delivered=3, suppressed=1)),
    ]


async def stream() -> AsyncIterator[MessageProgress]:
    for state in states():
        yield state


async def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, legacy_windows=False, _environ={"TERM": "xterm"})
    last = await progress.show(console, "sending", stream())
    assert last == states()[-1]
    return out.getvalue()


async def test_without_a_terminal_progress_comes_in_plain_lines() -> None:
    assert (await shown(terminal=False)).splitlines() == [
        "  sending: 0/4 settled (accepted: nothing sent yet)",
        "  sending: 2/4 settled (sending: 1 queued, 1 sent, 2 delivered)",
        "  sending: 4/4 settled (completed: 3 delivered, 1 suppressed)",
    ]


async def test_on_a_terminal_a_bar_ends_with_the_last_counts() -> None:
    out = await shown(terminal=True)
    assert "4/4" in out
    assert "0 to go, 3 delivered" in out


def table(**values: int) -> str:
    out = io.StringIO()
    report.show(Console(file=out, width=100), [Section("Sunday", (exact("sent", "a note", **values),))])
    return out.getvalue()


def test_a_line_that_agrees_has_its_tick() -> None:
    shown = table(api=1268, carrier=1268)
    assert "1,268" in shown
    assert "✓" in shown
    assert "✗" not in shown


def test_a_line_that_differs_is_marked() -> None:
    assert "✗" in table(api=268, carrier=267)


async def test_what_never_comes_is_named() -> None:
    async def never() -> bool | None:
        return None

    with pytest.raises(DemoFailed, match="waited 0 s for the rain, in vain"):
        await until("the rain", never, seconds=0)
