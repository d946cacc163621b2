"""``koinonia messaging``: the figures that people look at, compared with their rows."""

import importlib

import click


@click.group("messaging")
def command() -> None:
    """Compare figures with their rows, and put them right."""


# Found by its name, as migrations are: what is shared imports no service.
command.add_command(importlib.import_module("koinonia_messaging.commands").rebuild_command)
