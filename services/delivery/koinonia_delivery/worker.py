"""``python -m koinonia_delivery.worker``: the delivery worker, a process of its own, in any number."""

import asyncio
from functools import partial

from koinonia.bus.listener import Listener
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.service import Parts, ServiceDefinition, main
from koinonia_delivery.calls import Caller, carrier_breaker
from koinonia_delivery.emails import KEPT_DAYS, Mailing, Sender
from koinonia_delivery.mail.folder import FolderMailer
from koinonia_delivery.schedule import Loop, every
from koinonia_delivery.sending import Sending
from koinonia_delivery.settings import WorkerSettings
from koinonia_delivery.store.emails import EMAIL_CHANNEL
from koinonia_delivery.store.recipients import WORK_CHANNEL


def build(parts: Parts[WorkerSettings]) -> ServiceDefinition:
    """A worker: it answers health checks only, and consumes nothing."""
    settings, woken, mail_woken = parts.settings, asyncio.Event(), asyncio.Event()
    carrier = TelnyxCarrier(settings.telnyx_api_url, settings.telnyx_api_key, concurrency=settings.delivery_concurrency)
    caller = Caller(carrier, parts.keys, settings, carrier_breaker())
    sending = Sending(parts.database, caller, settings, parts.life, woken)
    name, address = settings.mail_sender
    mailer, sender = settings.mailer(), Sender(name=name, address=address, public_url=settings.public_url)
    mail_loops: dict[str, Loop] = {}
    if isinstance(mailer, FolderMailer):
        forget = partial(mailer.forget, days=KEPT_DAYS)
        mail_loops["old e-mail files"] = lambda: every(parts.life, 3600.0, "old e-mail files", forget)
    mailing = Mailing(parts.database, mailer, parts.keys, sender, life=parts.life, woken=mail_woken)
    listener = Listener(parts.database, {WORK_CHANNEL: woken, EMAIL_CHANNEL: mail_woken})

    async def close() -> None:
        await carrier.close()
        await mailer.close()

    return ServiceDefinition(
        loops={
            "send": sending.run,
            "send e-mails": mailing.run,
            "listen for work": lambda: listener.run(parts.life.stopping),
            **mail_loops,
        },
        close=close,
    )


if __name__ == "__main__":
    main("delivery", build, WorkerSettings, process="delivery-worker")
