"""``koinonia admin``: what an operator does for an admin of a church."""

import importlib

import click


@click.group("admin")
def command() -> None:
    """Help an admin of a church back in."""


# The gateway's, found by its name as its migrations are: what is shared imports no service.
command.add_command(importlib.import_module("koinonia_gateway.commands").reset_mfa_command)
