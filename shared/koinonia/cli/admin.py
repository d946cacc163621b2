"""``koinonia admin``: what an operator does for an admin of a church."""

import importlib

import click


@click.group("admin")
def command() -> None:
    """Help an admin of a church back in, or see them out."""


# The gateway's, found by its name as its migrations are: what is shared imports no service.
_commands = importlib.import_module("koinonia_gateway.commands")
command.add_command(_commands.reset_mfa_command)
command.add_command(_commands.end_sessions_command)
