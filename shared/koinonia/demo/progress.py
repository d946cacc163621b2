"""A broadcast's live progress: a bar that moves with the real counts, plain lines where there is no terminal."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from koinonia.api.messages import MessageCounts, MessageProgress

_OPEN = ("queued", "sending", "sent", "unknown")


class _Bar(Protocol):
    def show(self, state: MessageProgress) -> None: ...


async def show(console: Console, title: str, states: AsyncIterator[MessageProgress]) -> MessageProgress | None:
    """Show each state as it comes, until the stream ends; returns the last."""
    last = None
    with Progress(
        TextColumn("  [bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        bar: _Bar = _Moving(progress, title) if console.is_terminal else _Lines(console, title)
        # An asynchronous generator, closed at once when the wait is broken off.
        async with aclosing(cast("_Closeable", states)):
            async for state in states:
                bar.show(state)
                last = state
    return last


def settled(state: MessageProgress) -> int:
    """How many copies are closed: nothing more is awaited for them."""
    counts = state.counts
    return sum(getattr(counts, name) for name in counts.__struct_fields__ if name not in _OPEN)


def words(counts: MessageCounts) -> str:
    """The counts that are not zero, as people read them."""
    named = ((name, getattr(counts, name)) for name in counts.__struct_fields__)
    return ", ".join(f"{count} {name}" for name, count in named if count)


class _Closeable(Protocol):
    async def aclose(self) -> None: ...


class _Moving:
    """A bar."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None, counts="")

    def show(self, state: MessageProgress) -> None:
        total, done = state.total_recipients, settled(state)
        counts = f"{total - done:,} to go, {state.counts.delivered:,} delivered"
        self._progress.update(self._task, total=total, completed=done, counts=counts)


class _Lines:
    """A line for each tenth of the way."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._shown: tuple[int, str] | None = None

    def show(self, state: MessageProgress) -> None:
        tenth = 10 * settled(state) // max(1, state.total_recipients)
        if self._shown != (tenth, state.status):
            self._shown = (tenth, state.status)
            counts = words(state.counts) or "nothing sent yet"
            self._console.print(
                f"  {self._title}: {settled(state)}/{state.total_recipients} settled ({state.status}: {counts})"
            )
