"""``koinonia contracts``: the files under ``proto-schemas/``."""

from pathlib import Path

import click

folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("proto-schemas"),
    show_default=True,
    help="Where the files are.",
)


@click.group("contracts")
def command() -> None:
    """Generate, check or release the contracts under proto-schemas/."""


@command.command()
@folder
def generate(folder: Path) -> None:
    """Write the schemas, examples and pages again from the code."""
    from koinonia import contracts

    changed = contracts.generate(folder)
    click.echo("\n".join(changed) if changed else "nothing changed")


@command.command()
@folder
def check(folder: Path) -> None:
    """Fail when the files differ from the code, or when a change would break the last version's consumers."""
    from koinonia import contracts

    _complain(contracts.check(folder))
    click.echo("the contracts are what the code says")


@command.command()
@folder
def release(folder: Path) -> None:
    """Make the present schemas the last version's: later changes are held against them."""
    from koinonia import contracts

    _complain([f"{name}: differs from the code; run `make contracts`" for name in contracts.drift(folder)])
    contracts.release(folder)
    click.echo("later changes are held against the present schemas")


def _complain(wrong: list[str]) -> None:
    """Say what is wrong, and fail, if anything is."""
    for line in wrong:
        click.echo(line, err=True)
    if wrong:
        raise click.exceptions.Exit(1)
