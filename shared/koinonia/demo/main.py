"""``koinonia demo``: the command."""

import asyncio
from pathlib import Path

import aiohttp
import asyncpg
import click
from rich.console import Console
from rich.markup import escape

from koinonia.cli.options import state_directory
from koinonia.client import ApiError
from koinonia.demo import report
from koinonia.demo.figures import all_agree, disagreeing
from koinonia.demo.platform import running
from koinonia.demo.story import Story
from koinonia.demo.waiting import DemoFailed

_WIDTH = 110  # where nobody says how wide the output may be


@click.command("demo")
@state_directory
def command(state: Path) -> None:
    """Play the main job on real input, and check that every figure adds up.

    On the platform that runs here, or else on one of its own. Exit 1 when a step or a figure does not come out.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _WIDTH))
    if not asyncio.run(_demo(console, state)):
        raise click.exceptions.Exit(1)


async def _demo(console: Console, state: Path) -> bool:
    def say(line: str) -> None:
        console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)

    try:
        async with running(state, say) as place, Story(console, place) as story:
            console.print(f"[bold]Koinonia, the main job, on {place.url}[/]\n")
            sections = await story.play()
            report.show(console, sections)
            if all_agree(sections):
                console.print("\n[bold green]Every figure adds up.[/]")
                return True
            # Raised, so that a platform of the demo's own keeps its logs.
            raise DemoFailed(f"these figures differ: {'; '.join(disagreeing(sections))}")
    except (DemoFailed, ApiError, aiohttp.ClientError, asyncpg.PostgresError, TimeoutError) as error:
        console.print(f"\n[bold red]The demo failed: {escape(str(error) or type(error).__name__)}[/]", soft_wrap=True)
        return False
