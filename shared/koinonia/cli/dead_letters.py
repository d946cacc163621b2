"""``koinonia dead-letters``: events that could not be handled, for an operator."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from koinonia.bus import dead_letters
from koinonia.bus.dead_letters import DeadLetter, LetterTooOld
from koinonia.bus.link import Link
from koinonia.bus.publisher import Publisher
from koinonia.bus.topology import QUEUES
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places

T = TypeVar("T")

_queue = click.argument("queue", type=click.Choice(sorted(QUEUES)), metavar="QUEUE")
_optional_queue = click.argument("queue", type=click.Choice(sorted(QUEUES)), metavar="[QUEUE]", required=False)
_id = click.argument("letter_id", metavar="[ID]", required=False)


@click.group("dead-letters")
def command() -> None:
    """List, show, replay or purge events that could not be handled. QUEUE is the queue that they came from."""


@command.command("list")
@_optional_queue
@state_directory
def list_command(queue: str | None, state: Path) -> None:
    """How many dead letters each queue has; of one QUEUE, each in a line."""
    if queue is None:
        counts = _with_link(state, dead_letters.count)
        table = Table("queue", "dead letters")
        for name, count in counts.items():
            if count:
                table.add_row(name, str(count))
        Console().print(table if table.rows else "no dead letters")
        return
    table = Table("id", "type", "reason", "attempts", "died")
    for letter in _with_link(state, lambda link: dead_letters.show(link, queue)):
        table.add_row(letter.id, letter.routing_key, letter.reason, str(letter.attempts), _time(letter))
    Console().print(table if table.rows else "no dead letters")


@command.command("show")
@_queue
@_id
@state_directory
def show_command(queue: str, letter_id: str | None, state: Path) -> None:
    """The dead letters of QUEUE, or the one with ID: why it died, and the event itself."""
    letters = _with_link(state, lambda link: dead_letters.show(link, queue, letter_id))
    if not letters and letter_id:
        raise CommandFailed(f"{queue} has no dead letter {letter_id}")
    for letter in letters:
        click.echo(_story(letter))


@command.command("replay")
@_queue
@_id
@state_directory
def replay_command(queue: str, letter_id: str | None, state: Path) -> None:
    """Give the dead letters of QUEUE, or the one with ID, back to their queue."""

    async def replay(link: Link) -> int:
        return await dead_letters.replay(link, Publisher(link), queue, letter_id)

    try:
        count = _with_link(state, replay)
    except LetterTooOld as error:
        raise CommandFailed(error.message) from error
    click.echo(f"{_some(count, queue, letter_id)} replayed")


@command.command("purge")
@_queue
@_id
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_directory
def purge_command(queue: str, letter_id: str | None, yes: bool, state: Path) -> None:
    """Drop the dead letters of QUEUE, or the one with ID, for good."""
    if not yes:
        click.confirm(f"Drop {letter_id or 'all dead letters of ' + queue} for good?", abort=True)
    count = _with_link(state, lambda link: dead_letters.purge(link, queue, letter_id))
    click.echo(f"{_some(count, queue, letter_id)} purged")


def _with_link(state: Path, act: Callable[[Link], Awaitable[T]]) -> T:
    url = find_places(state).amqp()

    async def run() -> T:
        link = Link(url, "koinonia dead-letters")
        try:
            return await act(link)
        finally:
            await link.close()

    return asyncio.run(run())


def _some(count: int, queue: str, letter_id: str | None) -> int:
    if letter_id and not count:
        raise CommandFailed(f"{queue} has no dead letter {letter_id}")
    return count


def _story(letter: DeadLetter) -> str:
    lines = [
        f"{letter.id}  {letter.routing_key}",
        f"  reason        {letter.reason}",
        f"  attempts      {letter.attempts}",
        f"  first error   {letter.first_error or '-'}",
        f"  first failed  {letter.first_failed_at or '-'}",
        f"  died          {_time(letter)}",
        *(f"  {line}" for line in letter.stack.splitlines()),
        f"  {letter.body.decode(errors='replace')}",
    ]
    return "\n".join(lines)


def _time(letter: DeadLetter) -> str:
    return f"{letter.died_at:%Y-%m-%d %H:%M:%S}" if letter.died_at else "-"
