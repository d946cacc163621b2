"""Options that several commands have."""

from pathlib import Path

import click

from koinonia.cli import state

state_directory = click.option(
    "--state-dir",
    "state",
    type=click.Path(path_type=Path, file_okay=False),
    default=state.DEFAULT,
    show_default=True,
    help="Where the platform on this machine keeps its data, keys, logs and processes.json.",
)
