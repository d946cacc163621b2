"""``python -m koinonia.carrier.simulated``, and ``koinonia carrier``."""

import asyncio
import base64
import binascii
import re
import signal
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from koinonia.carrier.simulated.faults import Fault
from koinonia.carrier.simulated.server import SimulatedCarrier
from koinonia.carrier.simulated.settings import Behaviour, Settings

_PREFIX = "KOINONIA_SIMULATOR_"
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{5,6}")


class _Seed(click.ParamType[bytes]):
    """32 bytes in base64."""

    name = "base64"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            seed = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError):
            seed = b""
        if len(seed) != 32:
            self.fail("it must be 32 bytes in base64", param, ctx)
        return seed


class _Phone(click.ParamType[str]):
    """A number in E.164, or a short code."""

    name = "phone"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _PHONE.fullmatch(str(value)):
            self.fail(f"{value!r} is not a number in E.164 form such as +12055550100", param, ctx)
        return str(value)


class _Rate(click.ParamType[str | float]):
    """none, real, or segments a second."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        if value in {"none", "real"}:
            return str(value)
        try:
            rate = float(str(value))
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            self.fail("it must be none, real, or a number of segments a second", param, ctx)
        return rate


class _Fault(click.ParamType[Fault]):
    """A fault in JSON."""

    name = "json"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fault:
        if isinstance(value, Fault):
            return value
        try:
            return msgspec.json.decode(str(value), type=Fault)
        except msgspec.DecodeError as error:
            return self.fail(str(error), param, ctx)


@click.command("carrier", help="Run the simulated carrier: it speaks Telnyx's protocol and sends nothing to anybody.")
@click.option("--host", default="127.0.0.1", show_default=True, envvar=f"{_PREFIX}HOST", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8090,
    show_default=True,
    envvar=f"{_PREFIX}PORT",
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--api-key", envvar=f"{_PREFIX}API_KEY", help="The only good API key; without it, any is good.")
@click.option(
    "--signing-seed",
    type=_Seed(),
    envvar=f"{_PREFIX}SIGNING_SEED",
    help="32 bytes in base64: the seed of the ed25519 key of webhooks; without it, a new key at each start.",
)
@click.option(
    "--webhook-url", envvar=f"{_PREFIX}WEBHOOK_URL", help="Webhook of the profile that is there at the start."
)
@click.option("--webhook-failover-url", envvar=f"{_PREFIX}WEBHOOK_FAILOVER_URL", help="Where its events go next.")
@click.option(
    "--number",
    "numbers",
    type=_Phone(),
    multiple=True,
    envvar=f"{_PREFIX}NUMBERS",
    help="A number on that profile; repeat for more.",
)
@click.option(
    "--webhook-concurrency",
    type=click.IntRange(1, 1000),
    default=64,
    show_default=True,
    envvar=f"{_PREFIX}WEBHOOK_CONCURRENCY",
    help="Webhooks under way at once.",
)
@click.option(
    "--webhook-timeout",
    type=click.FloatRange(0.01, 60),
    default=2.0,
    show_default=True,
    envvar=f"{_PREFIX}WEBHOOK_TIMEOUT",
    help="Seconds to answer a webhook.",
)
@click.option(
    "--webhook-backoff",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    envvar=f"{_PREFIX}WEBHOOK_BACKOFF",
    help="Seconds before a webhook's second attempt; doubles.",
)
@click.option(
    "--account-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=f"{_PREFIX}ACCOUNT_FILE",
    help="Keep numbers, profiles, orders and opt-outs in this file; without it, they are gone at the end.",
)
@click.option(
    "--latency",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    envvar=f"{_PREFIX}LATENCY",
    help="Seconds before each answer to a text.",
)
@click.option(
    "--receipts-after",
    type=click.FloatRange(0, 86400),
    default=0.0,
    show_default=True,
    envvar=f"{_PREFIX}RECEIPTS_AFTER",
    help="Seconds from acceptance to the receipts.",
)
@click.option(
    "--rate",
    type=_Rate(),
    default="none",
    show_default=True,
    envvar=f"{_PREFIX}RATE",
    help="Segments a second per number: none, real (as the carrier has), or a number.",
)
@click.option(
    "--idempotency/--no-idempotency",
    default=True,
    show_default=True,
    envvar=f"{_PREFIX}IDEMPOTENCY",
    help="Honour Idempotency-Key.",
)
@click.option(
    "--autoresponses/--no-autoresponses",
    default=True,
    show_default=True,
    envvar=f"{_PREFIX}AUTORESPONSES",
    help="Answer and block on STOP, as the carrier does by itself.",
)
@click.option(
    "--fault",
    "faults",
    type=_Fault(),
    multiple=True,
    help='A fault in JSON, such as \'{"kind": "answer_lost", "share": 0.01}\'; repeat for more.',
)
@click.option("--seed", type=int, envvar=f"{_PREFIX}SEED", help="Seed of the chance by which faults strike.")
def command(host: str, port: int, faults: tuple[Fault, ...], **given: Any) -> None:
    """Serve until SIGINT or SIGTERM."""
    behaviour = Behaviour(
        idempotency=given["idempotency"],
        autoresponses=given["autoresponses"],
        rate=given["rate"],
        latency_seconds=given["latency"],
        receipt_seconds=given["receipts_after"],
        webhook_timeout_seconds=given["webhook_timeout"],
        webhook_backoff_seconds=given["webhook_backoff"],
    )
    settings = Settings(
        api_key=given["api_key"],
        signing_seed=given["signing_seed"],
        webhook_url=given["webhook_url"],
        webhook_failover_url=given["webhook_failover_url"],
        numbers=given["numbers"],
        webhook_concurrency=given["webhook_concurrency"],
        account_file=given["account_file"],
        seed=given["seed"],
        behaviour=behaviour,
    )
    try:
        _run(settings, faults, host, port)
    except msgspec.DecodeError:
        raise click.UsageError(f"{settings.account_file} holds no account of the simulated carrier") from None
    except OSError as error:
        raise click.UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _run(settings: Settings, faults: tuple[Fault, ...], host: str, port: int) -> None:
    """Serve on uvloop where it is installed: two cores are shared with the platform under test."""
    try:
        import uvloop  # noqa: PLC0415 - optional: the simulated carrier needs aiohttp only
    except ImportError:
        loop_factory = None
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(settings, faults, host, port))


async def _serve(settings: Settings, faults: tuple[Fault, ...], host: str, port: int) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with SimulatedCarrier(settings, host=host, port=port) as carrier:
        carrier.order(*faults)
        click.echo(f"ready {carrier.url}")
        sys.stdout.flush()
        await stopping.wait()


def main() -> None:
    """Run it as a program of its own: bad arguments end in one line and exit 2."""
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
