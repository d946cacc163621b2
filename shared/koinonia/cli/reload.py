"""``koinonia reload``: the processes of a running ``koinonia up`` restarted in turn, without a failed request."""

import asyncio
from pathlib import Path

import click

from koinonia.cli import control
from koinonia.cli.options import state_directory
from koinonia.cli.state import StateDirectory


@click.command("reload")
@state_directory
def command(state: Path) -> None:
    """Restart each process of the platform in turn, with the settings and keys as they are now.

    A process ends only when its successor takes work and it has finished what it began; there is a line for each.
    Servers and the simulated carrier run on; ports, passwords and the number of processes stay as `up` began.

    Exit 2 when a setting is wrong (nothing is restarted) or a successor does not get ready (its predecessor goes on,
    and so do those after it): mend it, and reload again.
    """
    asyncio.run(_reload(StateDirectory(state).control))


async def _reload(path: Path) -> None:
    async for told in control.ask(path, control.RELOAD):
        click.echo(told)
