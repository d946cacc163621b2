"""``koinonia church plan``: a plan that was agreed upon otherwise than by paying here."""

import asyncio
import getpass
from pathlib import Path
from uuid import UUID

import asyncpg
import click

from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors, schema_errors
from koinonia.db.operators import writing
from koinonia.errors import NotFound
from koinonia_billing import subscriptions
from koinonia_billing.subscriptions import PlanUnknown


@click.command("plan")
@click.argument("church_id", type=click.UUID, metavar="CHURCH")
@click.argument("plan", metavar="PLAN")
@state_directory
def plan_command(church_id: UUID, plan: str, state: Path) -> None:
    """Give CHURCH (its id) the PLAN `trial`, `starter` or `growth`, from now on.

    The running period and what was used in it stay; what is included is the new plan's.
    """
    with database_errors(), schema_errors():
        changed = asyncio.run(set_plan(find_places(state).database(), church_id, plan))
    click.echo(f"church {church_id} has the plan {plan}{'' if changed else ' already'}")


async def set_plan(admin_url: str, church_id: UUID, plan: str) -> bool:
    """Give a church a plan; False: it has it already.

    Raises:
        CommandFailed: there is no such church, or no such plan.
    """
    connection = await asyncpg.connect(admin_url, timeout=5, server_settings={"lock_timeout": "5000"})
    try:
        async with writing(connection, "billing", church_id) as tx:
            return await subscriptions.set_plan(tx, plan, operator=getpass.getuser())
    except PlanUnknown as unknown:
        raise CommandFailed(f"there is no plan {plan}; there are {', '.join(unknown.known)}") from None
    except NotFound:
        raise CommandFailed(f"there is no church {church_id} with a subscription") from None
    finally:
        await connection.close()
