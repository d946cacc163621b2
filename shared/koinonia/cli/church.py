"""``koinonia church``: what an operator does to a church."""

import importlib

import click


@click.group("church")
def command() -> None:
    """Suspend and resume a church, tell of its settings anew, set its plan."""


# The services' own, found by their names as migrations are: what is shared imports no service.
_gateway = importlib.import_module("koinonia_gateway.church_commands")
command.add_command(_gateway.suspend_command)
command.add_command(_gateway.resume_command)
command.add_command(_gateway.announce_command)
command.add_command(importlib.import_module("koinonia_billing.commands").plan_command)
