"""The commands by name, each loaded when it is used, and the one place where their errors become a line."""

import importlib
import logging
import sys
from collections.abc import Sequence

import click
import structlog

# command: the module that has it as `command`, and its line in the help
_COMMANDS = {
    "up": ("koinonia.cli.up", "Run the whole platform in the foreground."),
    "run": ("koinonia.cli.run", "Run one service in the foreground."),
    "migrate": ("koinonia.cli.migrate", "Bring the database's schemas, roles and the broker's queues up to date."),
    "demo": ("koinonia.demo", "Play the main job on real input, and check that every figure adds up."),
    "carrier": ("koinonia.carrier.simulated.__main__", "Run the simulated carrier alone."),
    "status": ("koinonia.cli.status", "Show the processes of a running `koinonia up`."),
    "logs": ("koinonia.cli.logs", "Show the logs of a running `koinonia up`, merged by time."),
    "reload": ("koinonia.cli.reload", "Restart the processes of a running `koinonia up` in turn, with new settings."),
    "delivery": ("koinonia.cli.delivery", "Show how sending stands; tell why somebody got a text, or did not."),
    "messaging": ("koinonia.cli.messaging", "Compare the figures that people look at with their rows, put them right."),
    "admin": ("koinonia.cli.admin", "Help an admin of a church back in."),
    "church": ("koinonia.cli.church", "Suspend and resume a church, set its plan."),
    "keys": ("koinonia.cli.keys", "Re-encrypt what is stored under the newest key; make new ones for containers."),
    "dead-letters": ("koinonia.cli.dead_letters", "List, show, replay or purge events that could not be handled."),
    "partitions": ("koinonia.cli.partitions", "Keep the partitioned tables' partitions made ahead."),
    "doctor": ("koinonia.cli.doctor", "Say what is reachable, at which version, and what is wrong."),
    "contracts": ("koinonia.cli.contracts", "Generate, check or release the contracts under proto-schemas/."),
}


class CommandFailed(click.ClickException):
    """A command could not do its work, or was told something that cannot be: one line, exit status 2."""

    exit_code = 2


class _Commands(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="koinonia")
def koinonia() -> None:
    """Koinonia: a texting platform for churches."""
    # A command's output is its own; what the modules below it log is shown where it is a warning.
    structlog.configure(
        processors=[_drop_slow_statements, *structlog.get_config()["processors"]],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )


def _drop_slow_statements(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Who runs a command can do nothing about a statement that took long; a service's operators can."""
    if event["event"] == "statement_slow":
        raise structlog.DropEvent
    return event


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; what is wrong is one line on stderr and exit status 2."""
    try:
        status = koinonia.main(args=arguments, prog_name="koinonia", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.ctx.get_help())
        sys.exit(2)
    except click.ClickException as error:
        sys.exit(_complain(" ".join(error.format_message().split())))  # click lists choices over many lines
    except click.Abort:
        sys.exit(130)
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        sys.exit(_complain(str(error)))
    sys.exit(status if isinstance(status, int) else 0)


def _complain(message: str) -> int:
    click.echo(f"koinonia: {message}", err=True)
    return 2


def _expected() -> tuple[type[Exception], ...]:
    """The errors whose message is for the operator as it stands."""
    from koinonia.bus.errors import BrokerUnavailable
    from koinonia.db.migrate import MigrationError
    from koinonia.security.keyring import KeyringInvalid
    from koinonia.servers import ServersUnavailable
    from koinonia.settings import SettingsError

    return (BrokerUnavailable, KeyringInvalid, MigrationError, ServersUnavailable, SettingsError)
